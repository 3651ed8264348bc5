"""Tiny vocoders of any dialect, untrained but with an output that depends on everything, and mels to give them."""

import torch
from torch import Tensor
from vocoders import untrained

from wavediff import Vocoder
from wavediff.backbones import DiffWaveConfig
from wavediff.mel import MelSpec, MelTransform
from wavediff.models.config import ModelConfig

STEPS = 2


def small_vocoder(dialect: str) -> Vocoder:
    """Of that preset's dialect."""
    spec = MelSpec.preset(dialect)
    network = DiffWaveConfig(channels=4, layers=2, dilation_cycle=2)
    config = ModelConfig(network, mel=spec, sample_rate=spec.sample_rate)
    return untrained(config)


def fading_mel(dialect: str, batch: int = 1, frames: int = 24) -> Tensor:
    """(B, n_mels, frames) of fading noise, which spans what speech spans."""
    spec = MelSpec.preset(dialect)
    white = torch.randn(batch, frames * spec.hop_length, generator=torch.Generator().manual_seed(batch))
    return MelTransform(spec)(white * 10 ** torch.linspace(-1, -5, white.shape[1]))[..., :frames]
