"""Corpora on disk, and batches of segments from them."""
