"""What the tests of properties draw from: tiny models, mels, and how often."""

from functools import cache

import torch
from hypothesis import settings
from hypothesis import strategies as st
from sounds import RATE, small_generator
from torch import Tensor
from vocoders import untrained

from wavediff import Generator, Vocoder
from wavediff.backbones import DiffWaveConfig, SpectralConfig
from wavediff.diffusion import CosineSchedule, DiscreteSchedule, PriorConfig
from wavediff.mel import MelSpec
from wavediff.models.config import ModelConfig

BANDS = 12
examples = settings(deadline=None, derandomize=True, database=None)


@cache
def vocoder(kind: str, hop: int) -> Vocoder:
    """Untrained and tiny; its output depends on everything it is told."""
    n_fft = 4 * hop
    spec = MelSpec(
        sample_rate=RATE, n_fft=n_fft, win_length=n_fft, hop_length=hop, n_mels=BANDS, f_max=4000.0, f_min=50.0
    )
    config = {
        "diffwave": ModelConfig(DiffWaveConfig(4, 3, 3), DiscreteSchedule(20, 1e-4, 0.3), mel=spec, sample_rate=RATE),
        "spectral": ModelConfig(
            SpectralConfig(bands=8, channels=4, layers=1),
            CosineSchedule(),
            "v",
            PriorConfig(power=0.8, start_time=0.3, phase_iterations=2),
            spec,
            RATE,
        ),
    }[kind]
    return untrained(config)


@cache
def generator(kind: str) -> Generator:
    """Likewise."""
    return small_generator(kind)


def mels(seed: int, batch: int, frames: int) -> Tensor:
    """(batch, BANDS, frames) in the range of speech."""
    noise = torch.randn(batch, BANDS, frames, generator=torch.Generator().manual_seed(seed))
    return -7 + 1.5 * noise.clamp(-2.5, 2.5)


KIND = st.sampled_from(["diffwave", "spectral"])
HOP = st.sampled_from([16, 20, 36, 64])
SEED = st.integers(0, 2**63 - 1)
