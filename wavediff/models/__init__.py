"""Models and their files: configuration, conditioned denoiser, reading, writing and importing."""

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"  # the bundled models, their card, and a clip of speech
