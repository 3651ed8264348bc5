"""Harmonics where a mel resolves none: the fine structure of the lowest ones, carried up.

The bands of a mel are wider than a voice's pitch from about 2 kHz on, so its pseudo-inverse is smooth there. The
lowest harmonics are resolved, and say where all others lie.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.mel.spec import MelSpec
from wavediff.mel.stft import FrameSTFT

_LOW = (900.0, 1400.0)  # [Hz] the lowest harmonics lie below; between the two they fade
_HIGH = (2000.0, 3000.0)  # [Hz] likewise, where the magnitude begins to change
_REACH = 170.0  # [Hz] to either side, over which power stays as it is
_RANGE = (0.15, 2.5)  # of the fine structure, whose mean square is 1
_EDGE = 0.02  # of the squared window, where a frame is divided by it
_LEAST_POWER = 1e-14


class Harmonics(nn.Module):
    """(magnitude, spectrum), both (B, frames, n_fft // 2 + 1) -> the magnitude with finer structure.

    A rectifier of speech below 1 kHz has partials at all multiples of its pitch (harmonic regeneration, Plapous,
    Marro and Scalart 2006, Improved Signal-to-Noise Ratio Estimation for Speech Enhancement, section IV). Where there
    is no pitch, it has noise. Each frame is computed by itself.

    Args:
        spec: dialect of the frames.
        amount: exponent of the fine structure; 0 changes nothing, 1 gives the contrast of recordings.
    """

    low: Tensor
    exponent: Tensor

    def __init__(self, spec: MelSpec, amount: float = 1.0) -> None:
        super().__init__()
        width = spec.sample_rate / spec.n_fft  # of a bin [Hz]
        frequencies = width * torch.arange(spec.n_fft // 2 + 1, dtype=torch.float64, device="cpu")
        self.register_buffer("low", (1 - _rise(frequencies, _LOW)).float(), persistent=False)
        self.register_buffer("exponent", (amount * _rise(frequencies, _HIGH)).float(), persistent=False)
        self._reach = max(round(_REACH / width), 1)  # bins

    def forward(self, magnitude: Tensor, spectrum: Tensor, stft: FrameSTFT) -> Tensor:
        """The magnitude with the fine structure of the spectrum's lowest harmonics.

        Args:
            magnitude: to be changed.
            spectrum: complex, with a phase that fits that magnitude; of any scale.
            stft: the transform of both.
        """
        with torch.autocast(magnitude.device.type, enabled=False):
            return self.carried(magnitude, stft.frames(spectrum * self.low), stft)

    def carried(self, magnitude: Tensor, low: Tensor, stft: FrameSTFT) -> Tensor:
        """The same, from windowed frames (B, frames, n_fft) of the lowest harmonics."""
        x = low / (stft.window.square() + _EDGE)
        # Not a sum with the least level: the ONNX exporter takes that for nothing, and 0 / 0 comes of silence.
        x = x / x.square().mean(-1, keepdim=True).clamp(min=_LEAST_POWER).sqrt()
        made = stft.magnitudes(x.relu().square())
        fine = (made / self._level(made)).clamp(*_RANGE)  # c, of mean square 1
        finer = magnitude * fine**self.exponent
        return finer * (self._level(magnitude) / self._level(finer))

    def _level(self, magnitude: Tensor) -> Tensor:
        """Root mean square over the bins around each."""
        window = 2 * self._reach + 1
        power = F.avg_pool1d(magnitude.square(), window, 1, self._reach, count_include_pad=False)
        return power.clamp(min=_LEAST_POWER).sqrt()


def _rise(frequencies: Tensor, span: tuple[float, float]) -> Tensor:
    """0 below a span of frequencies, 1 above it, a raised cosine within."""
    place = ((frequencies - span[0]) / (span[1] - span[0])).clamp(0, 1)
    return 0.5 - 0.5 * torch.cos(torch.pi * place)
