"""Peaks of sounds that are made: the highest there may be, and that of most recordings."""

import torch
from torch import Tensor

MAX_PEAK = 0.98  # below full scale, so that 16 bits hold it unclipped


def within(sounds: Tensor) -> Tensor:
    """Sounds (B, N), those that exceed the highest peak scaled down to it."""
    return sounds / (sounds.abs().amax(dim=1, keepdim=True) / MAX_PEAK).clamp(min=1)


def scale_of(waveform: Tensor) -> Tensor:
    """What a waveform is divided by to peak at -1 dBFS, as most recordings do; 1 for silence."""
    peak = waveform.abs().max() / 10 ** (-1 / 20)
    return torch.where(peak > 0, peak, torch.ones_like(peak))
