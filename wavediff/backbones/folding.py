"""Neighbouring samples as channels, and back: how one network serves waveforms, folded waveforms and latents.

A signal of several channels, such as the latents of an autoencoder, is a waveform to samplers and objectives: its
frames stand one after the other, the channels of a frame together.
"""

from torch import Tensor
from torch.nn import functional as F


def fold(signal: Tensor, channels: int) -> Tensor:
    """(B, N) -> (B, channels, ceil(N / channels)); zeros fill the last frame."""
    signal = F.pad(signal, (0, -signal.shape[1] % channels))
    return signal.unflatten(1, (-1, channels)).transpose(1, 2)


def unfold(frames: Tensor, length: int | None = None) -> Tensor:
    """(B, channels, L) -> (B, length), by default all L * channels values; undoes `fold`."""
    return frames.transpose(1, 2).flatten(1)[:, :length]
