"""Where a sound ends."""

from torch import Tensor

from wavediff.arguments import Values, as_waveform
from wavediff.audio.resampling import check_sample_rate

TRIM_LEVEL = 1e-3  # -60 dBFS
TAIL_SECONDS = 0.02


def trim_end(waveform: Values, sample_rate: int) -> Tensor:
    """(N,) without what is below -60 dBFS at its end, but 20 ms; that much is left of silence, too.

    >>> import torch
    >>> len(trim_end(torch.cat([torch.ones(1_000), torch.zeros(9_000)]), 16_000))
    1320

    Raises:
        AudioError: `waveform` is not (N,) of finite floats, or `sample_rate` no rate of audio.
    """
    waveform, sample_rate = as_waveform(waveform, dimensions=(1,)), check_sample_rate(sample_rate)
    loud = (waveform.abs() > TRIM_LEVEL).nonzero()
    end = int(loud[-1]) + 1 if len(loud) else 0
    return waveform[: end + round(TAIL_SECONDS * sample_rate)]
