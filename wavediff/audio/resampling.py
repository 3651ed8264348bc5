"""Changing the sample rate, with one filter for every pair of rates."""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import Values, as_waveform, check_sample_rate
from wavediff.libraries import require_torchaudio

# A Kaiser-windowed sinc: stopband near -140 dB, flat up to 0.87 of the lower Nyquist frequency.
ZERO_CROSSINGS, ROLLOFF, KAISER_BETA = 64, 0.9475937167399596, 14.769656459379492
_MAX_KERNEL_VALUES = 2**21  # a table of phases and taps beyond this is slower than no table
_INTERPOLATED_VALUES = 2**20


def resample(waveform: Values, from_rate: int, to_rate: int) -> Tensor:
    """Change the sample rate by band-limited interpolation; differentiable.

    >>> resample(torch.zeros(2, 16_000), 16_000, 22_050).shape
    torch.Size([2, 22050])

    Args:
        waveform: (..., N), a tensor, array or list of floats; silence is assumed around it.
        from_rate: Its sample rate, 4,000 to 384,000 Hz.
        to_rate: The sample rate wanted, 4,000 to 384,000 Hz.

    Returns:
        (..., ceil(N * to_rate / from_rate)), of the same dtype.

    Raises:
        AudioError: A rate outside the bounds, or a waveform that is not of floats, empty, NaN or infinite.
    """
    from_rate, to_rate = check_sample_rate(from_rate, "from_rate"), check_sample_rate(to_rate, "to_rate")
    waveform = as_waveform(waveform, dimensions=())
    if from_rate == to_rate:
        return waveform
    length = -(-waveform.shape[-1] * to_rate // from_rate)
    divisor = math.gcd(from_rate, to_rate)
    taps = from_rate // divisor + 2 * ZERO_CROSSINGS / _cutoff(from_rate, to_rate)
    if to_rate // divisor * taps > _MAX_KERNEL_VALUES:
        return _interpolate(waveform, from_rate, to_rate, length)
    # torchaudio computes the length in float32: the zeros make sure that it is never too short.
    padded = F.pad(waveform, (0, 1 + waveform.shape[-1] // 2**20))
    with torch.device(waveform.device):  # torchaudio computes the length on the default device
        return _resampler(from_rate, to_rate, waveform.dtype, waveform.device)(padded)[..., :length]


class RateChange(nn.Module):
    """`resample` between two fixed rates, as a layer: (B, N) -> (B, ceil(N * to_rate / from_rate)).

    Args:
        from_rate, to_rate: as `resample` takes them.

    Attributes:
        unit: samples that become `made` samples.
        reach: samples to either side that one depends on, a multiple of `unit`.
    """

    kernel: Tensor  # (made, 1, taps)

    def __init__(self, from_rate: int, to_rate: int) -> None:
        super().__init__()
        divisor = math.gcd(from_rate, to_rate)
        self.unit, self.made = from_rate // divisor, to_rate // divisor
        resampler = _resampler(from_rate, to_rate, torch.float32, torch.device("cpu"))
        self.register_buffer("kernel", resampler.get_buffer("kernel").clone(), persistent=False)
        self._before = (self.kernel.shape[-1] - self.unit) // 2
        self.reach = -(-(self._before + self.unit) // self.unit) * self.unit

    def forward(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (self._before, self._before + self.unit))
        taps = padded.unfold(1, self.kernel.shape[-1], self.unit)  # (B, n, taps)
        made = (taps @ self.kernel[:, 0].T).flatten(1)
        return made[:, : -(-waveform.shape[1] * self.made // self.unit)]


def _cutoff(from_rate: int, to_rate: int) -> float:
    """In half cycles per input sample."""
    return ROLLOFF * min(1.0, to_rate / from_rate)


@functools.lru_cache(maxsize=16)
def _resampler(from_rate: int, to_rate: int, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The filter for one pair of rates; computed in float64, where float32 would leave errors at -94 dB."""
    require_torchaudio()
    from torchaudio.transforms import Resample

    # The filter is of float64, which not every device has; those that train use it, too.
    with torch.device("cpu"), torch.inference_mode(False):
        resampler = Resample(
            from_rate,
            to_rate,
            resampling_method="sinc_interp_kaiser",
            lowpass_filter_width=ZERO_CROSSINGS,
            rolloff=ROLLOFF,
            beta=KAISER_BETA,
            dtype=torch.float64,
        )
        return resampler.to(device=device, dtype=dtype)


def _interpolate(waveform: Tensor, from_rate: int, to_rate: int, length: int) -> Tensor:
    """The same filter, computed at each output sample: a ratio like 44100:22051 has too many phases for a table."""
    cutoff = _cutoff(from_rate, to_rate)
    half = math.ceil(ZERO_CROSSINGS / cutoff)
    offsets = torch.arange(-half, half + 2, device="cpu")  # as all that is float64
    windows = F.pad(waveform, (half, half + 1)).unfold(-1, len(offsets), 1)  # (..., N, taps)
    outputs = []
    for indices in torch.arange(length, device="cpu").split(max(1, _INTERPOLATED_VALUES // len(offsets))):
        before, remainder = indices * from_rate // to_rate, indices * from_rate % to_rate
        distance = (offsets - (remainder.double() / to_rate)[:, None]) * cutoff  # in zero crossings
        window = torch.i0(KAISER_BETA * (1 - (distance / ZERO_CROSSINGS) ** 2).clamp(min=0).sqrt())
        window = torch.where(distance.abs() <= ZERO_CROSSINGS, window, 0) / torch.i0(window.new_tensor(KAISER_BETA))
        kernel = (torch.sinc(distance) * window * cutoff).to(waveform)  # (outputs, taps)
        outputs.append((windows[..., before.to(waveform.device), :] * kernel).sum(-1))
    return torch.cat(outputs, dim=-1)
