"""Thousands of files: what becomes what, batches of like length, reading ahead, decoding, many processes."""
