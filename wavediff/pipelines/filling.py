"""A span of a sound, and what is put in its place."""

import torch
from torch import Tensor

from wavediff.arguments import real
from wavediff.errors import SamplingError

EDGE_SECONDS = 0.005  # over which the sound and the filling go over into each other
CONTEXT_SECONDS = 0.25  # on either side, whose level decides that of the filling
MAX_GAIN = 4.0  # 12 dB


def span_of(start: float, end: float, length: int, sample_rate: int) -> tuple[int, int]:
    """The samples `first` to `last`, exclusive, of a span in seconds.

    Raises:
        SamplingError: it does not lie in the `length` samples of the sound, or holds none.
    """
    start, end = (
        real(t, name, "of seconds", lambda _: True, SamplingError) for t, name in ((start, "start"), (end, "end"))
    )
    if not 0 <= start < end <= length / sample_rate + 1e-6:
        raise SamplingError(
            f"start, end: the span {start} to {end} s does not lie in the sound, which is {length / sample_rate:.3f} s "
            "long; choose one inside"
        )
    first, last = round(start * sample_rate), min(round(end * sample_rate), length)
    if first == last:
        raise SamplingError(f"start, end: the span {start} to {end} s holds no sample; make it longer")
    return first, last


def fill(waveform: Tensor, made: Tensor, first: int, last: int, sample_rate: int) -> Tensor:
    """A sound with a span of it anew.

    Args:
        waveform: the sound (N,).
        made: the same sound made anew from end to end, the span with it (B, N): its level around the span is brought to
            that of the sound, by 12 dB at most.
        first, last: the span.
        sample_rate: [Hz].

    Returns:
        (B, N), outside the span the sound itself.
    """
    context = round(CONTEXT_SECONDS * sample_rate)
    before, behind = slice(max(first - context, 0), first), slice(last, last + context)
    around = [torch.cat([signal[..., before], signal[..., behind]], dim=-1) for signal in (made, waveform)]
    ours, theirs = (signal.square().sum(-1, keepdim=True) for signal in around)
    gain = torch.where((ours > 0) & (theirs > 0), (theirs / ours).sqrt().clamp(1 / MAX_GAIN, MAX_GAIN), 1.0)
    inside = torch.zeros_like(waveform)
    ramp = min(round(EDGE_SECONDS * sample_rate), (last - first) // 2)
    inside[first:last] = 1
    if first > 0:
        inside[first : first + ramp] = torch.linspace(0, 1, ramp, dtype=waveform.dtype, device=waveform.device)
    if last < len(waveform):
        inside[last - ramp : last] = torch.linspace(1, 0, ramp, dtype=waveform.dtype, device=waveform.device)
    return torch.lerp(waveform.expand_as(made), gain * made, inside)
