"""Small vocoders for tests."""

import torch
from sounds import shake

from wavediff import Vocoder
from wavediff.models.config import ModelConfig, build_denoiser


def untrained(config: ModelConfig) -> Vocoder:
    """The same each time, with an output that depends on everything in it."""
    torch.manual_seed(0)
    denoiser = build_denoiser(config).eval().requires_grad_(False)
    shake(denoiser)
    return Vocoder(config, denoiser)
