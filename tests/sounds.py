"""Small models of sounds, untrained but with an output that depends on everything they are told."""

import torch
from torch import nn

from wavediff import Generator, MelSpec
from wavediff.backbones import CodecConfig, DiffWaveConfig, SpectralConfig, UNetConfig
from wavediff.diffusion import CosineSchedule, DiscreteSchedule, PriorConfig
from wavediff.models.config import ModelConfig, build_denoiser

LABELS = ("glass", "wood", "metal")
RATE = 8000
UNET = UNetConfig(channels=8, multipliers=(1, 2), factors=(2,), blocks=1, attention_levels=1)

AUTOENCODER = ModelConfig(
    backbone=SpectralConfig(bands=8, channels=8, layers=2),
    schedule=CosineSchedule(),
    prediction="v",
    prior=PriorConfig(power=0.8, start_time=0.2, phase_iterations=4),
    mel=MelSpec(sample_rate=RATE, n_fft=256, win_length=256, hop_length=64, n_mels=20, f_max=4000.0),
    sample_rate=RATE,
    codec=CodecConfig(latent_channels=4, frames=2, channels=8, layers=1),
)
CONFIGS = {
    "unet": ModelConfig(UNET, CosineSchedule(), "v", sample_rate=RATE, labels=LABELS, default_length=2000),
    "latent": ModelConfig(
        UNET, CosineSchedule(), "v", sample_rate=RATE, labels=LABELS, default_length=2048, pretransform=AUTOENCODER
    ),
    "diffwave": ModelConfig(
        DiffWaveConfig(8, 3, 3, fold=4), DiscreteSchedule(20, 1e-4, 0.3), sample_rate=RATE, labels=LABELS
    ),
    "latent diffwave": ModelConfig(
        DiffWaveConfig(8, 3, 3), DiscreteSchedule(20, 1e-4, 0.3), sample_rate=RATE, pretransform=AUTOENCODER
    ),
    "free": ModelConfig(UNET, CosineSchedule(), "v", sample_rate=RATE),
}


def shake(module: nn.Module, seed: int = 0) -> None:
    """Weights at random where they are zero, so that no layer is passed by."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)


def small_generator(kind: str) -> Generator:
    torch.manual_seed(0)
    config = CONFIGS[kind]
    denoiser = build_denoiser(config).eval().requires_grad_(False)
    shake(denoiser)
    return Generator(config, denoiser)
