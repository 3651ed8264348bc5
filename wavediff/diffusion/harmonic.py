"""A voice without words: pulses at a given pitch where there is a voice, noise elsewhere.

Pulses hold all harmonics in phase. What the vocal tract makes of their phase follows from what it makes of their
magnitude, since its resonances are those of a system of minimum phase (Oppenheim and Schafer 1989, section 12.7).
"""

import math

import torch
from torch import Tensor

from wavediff.mel.stft import float64_device

_BREATH = 0.15  # rms of the noise in a voiced sound, where the harmonics together have 1
_NYQUIST_SHARE = 0.98  # harmonics end here
_GRID = 1 << 24  # frequencies are whole multiples of 1 / _GRID, so that phases add up without rounding


class HarmonicSource:
    """Pitch, voicing and noise -> a source of about unit variance, in pieces or whole.

    Args:
        n_fft: length of the transform in whose bins the pitch is given.
        hop_length: samples a frame becomes.
    """

    STATE = ("_phase",)

    def __init__(self, n_fft: int, hop_length: int) -> None:
        self.n_fft, self.hop_length = n_fft, hop_length
        self._phase: Tensor | None = None  # [cycles] (B, 1), where the next frame starts

    def push(self, pitch: Tensor, voicing: Tensor, white: Tensor) -> Tensor:
        """The next frames.

        Args:
            pitch: (B, n) [bins], above 0; constant during a frame.
            voicing: (B, n) from 0 to 1.
            white: noise (B, n * hop_length).

        Returns:
            (B, n * hop_length)
        """
        hop, exact = self.hop_length, float64_device(pitch.device)
        frequency = (pitch.to(exact).double() / self.n_fft * _GRID).round() / _GRID  # [cycles a sample]
        before = torch.zeros_like(frequency[:, :1]) if self._phase is None else self._phase
        starts = torch.cat([before, hop * frequency], 1).cumsum(1)
        self._phase = starts[:, -1:]
        sample = torch.arange(hop, dtype=torch.float64, device=exact)
        phase = starts[:, :-1, None] + frequency[..., None] * sample  # (B, n, hop)
        phase = (phase - phase.floor()).float().to(pitch.device)
        harmonics = (0.5 * _NYQUIST_SHARE / frequency).floor().clamp(min=1)
        count = harmonics.float()[..., None].to(pitch.device)
        # Dirichlet's kernel: sum of cos(2 pi k phase) over k = 1 ... count, with a variance of count / 2.
        below = torch.sin(math.pi * phase)
        kernel = torch.sin(math.pi * (2 * count + 1) * phase) / (2 * below) - 0.5
        pulses = torch.where(below.abs() < 1e-4, count, kernel) * (2 / count).sqrt()
        share = voicing.float()[..., None]
        noise = (1 - share + _BREATH**2 * share).sqrt() * white.unflatten(1, (-1, hop))
        return (share.sqrt() * pulses + noise).flatten(1)


def minimum_phase(level: Tensor) -> Tensor:
    """Natural logarithm of a magnitude (..., n // 2 + 1) -> phase [radians] of the system of minimum phase.

    By the causal part of the cepstrum (Oppenheim and Schafer 1989, eq. 12.81).
    """
    cepstrum = torch.fft.irfft(level)
    half = cepstrum.shape[-1] // 2
    causal = cepstrum.new_zeros(cepstrum.shape[-1])
    causal[0] = causal[half] = 1.0
    causal[1:half] = 2.0
    return torch.fft.rfft(cepstrum * causal).imag
