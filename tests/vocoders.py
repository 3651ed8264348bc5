"""Small vocoders for tests."""

import torch
from sounds import shake
from torch import Tensor

from wavediff import MelSpec, Vocoder
from wavediff.backbones import DiffWaveConfig, InversionConfig, SpectralConfig
from wavediff.diffusion import CosineSchedule, DiscreteSchedule, PriorConfig
from wavediff.models.config import ModelConfig, build_denoiser

SPEC = MelSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=64, n_mels=20, f_max=4000.0)
GUESS = PriorConfig(power=0.8, start_time=0.2, phase_iterations=4)
FRAMES = SpectralConfig(bands=8, channels=8, layers=2)
INVERSION = InversionConfig(bands=2, width=8, channels=8, layers=1)
CONFIGS = {
    "frames": ModelConfig(FRAMES, CosineSchedule(), "v", GUESS, SPEC, 8000, inversion=INVERSION),
    "samples": ModelConfig(DiffWaveConfig(16, 4, 4), DiscreteSchedule(), "eps", mel=SPEC, sample_rate=8000),
    "folded": ModelConfig(
        DiffWaveConfig(16, 4, 4, fold=4, upsampler_per_layer=True, step_in_residual=True, step_encoding="falling"),
        DiscreteSchedule(),
        "eps",
        mel=SPEC,
        sample_rate=8000,
    ),
}


def mels(spec: MelSpec, items: int = 3, frames: int = 24) -> Tensor:
    """As loud and as uneven as speech."""
    return 1.2 * torch.randn(items, spec.n_mels, frames, generator=torch.Generator().manual_seed(0)) - 5


def untrained(config: ModelConfig) -> Vocoder:
    """The same each time, with an output that depends on everything in it."""
    torch.manual_seed(0)
    denoiser = build_denoiser(config).eval().requires_grad_(False)
    shake(denoiser)
    return Vocoder(config, denoiser)
