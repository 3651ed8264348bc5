"""Peaks of sounds: the highest there may be, and that of most recordings."""

import torch
from torch import Tensor

from wavediff.errors import AudioError

LOUDEST = 30.0  # sample of a recording that is taken: whatever is louder was never in [-1, 1]
MAX_PEAK = 0.98  # below full scale, so that 16 bits hold it unclipped


def check_scale(waveform: Tensor, source: str = "waveform") -> Tensor:
    """The waveform (any shape); its mel would be taken for one of another dialect if it had another scale than [-1, 1].

    Raises:
        AudioError: it has; the message begins with `source`.
    """
    if waveform.numel() and (peak := float(waveform.abs().max())) > LOUDEST:
        raise AudioError(f"{source}: its samples reach {peak:.3g}, and full scale is 1; divide them by {peak:.3g}")
    return waveform


def within(sounds: Tensor) -> Tensor:
    """Sounds (B, N), those that exceed the highest peak scaled down to it."""
    return sounds / (sounds.abs().amax(dim=1, keepdim=True) / MAX_PEAK).clamp(min=1)


def scale_of(waveform: Tensor) -> Tensor:
    """What a waveform is divided by to peak at -1 dBFS, as most recordings do; 1 for silence."""
    peak = waveform.abs().max() / 10 ** (-1 / 20)
    return torch.where(peak > 0, peak, torch.ones_like(peak))
