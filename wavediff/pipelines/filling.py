"""A span of a sound, and what is put in its place."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from wavediff.arguments import real
from wavediff.audio.finish import edges
from wavediff.errors import SamplingError
from wavediff.pipelines.peaks import within

EDGE_SECONDS = 0.005  # of the cross-fade between the sound and the filling
CONTEXT_SECONDS = 0.02  # on either side, whose level decides that of the filling; sounds decay within longer ones
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
        (B, N), outside the span the sound itself. A filling that would exceed 0.98 is scaled down to it.
    """
    context = round(CONTEXT_SECONDS * sample_rate)
    before, behind = slice(max(first - context, 0), first), slice(last, last + context)
    around = [torch.cat([signal[..., before], signal[..., behind]], dim=-1) for signal in (made, waveform)]
    ours, theirs = (signal.square().sum(-1, keepdim=True) for signal in around)
    gain = torch.where((ours > 0) & (theirs > 0), (theirs / ours).sqrt().clamp(1 / MAX_GAIN, MAX_GAIN), 1.0)
    return insert(waveform, within(gain * made[:, first:last]), first, sample_rate)


def insert(waveform: Tensor, filling: Tensor, first: int, sample_rate: int) -> Tensor:
    """A sound (N,) with fillings (B, n) in the place of its samples from `first` on, (B, N).

    Inside the span, 5 ms at either edge are a cross-fade; there is none at an end of the sound.
    """
    length = filling.shape[-1]
    last = first + length
    ramp = min(round(EDGE_SECONDS * sample_rate), length // 2)
    inside = edges(waveform[first:last], ramp if first > 0 else 0, ramp if last < len(waveform) else 0)
    filled = waveform.repeat(len(filling), 1)
    filled[:, first:last] = torch.lerp(waveform[first:last].expand_as(filling), filling, inside)
    return filled


def carry_over(recording: Tensor, extended: Tensor, start: float, end: float, sample_rate: int) -> Tensor:
    """A recording (N,) with the span of a filling from its copy (N',) of the same rate whose octave is new.

    Outside the span the recording keeps its own octave.

    Raises:
        SamplingError: the span does not lie in the recording.
    """
    first, last = span_of(start, end, len(recording), sample_rate)
    filling = extended[first:last]
    filling = pad(filling, (0, last - first - len(filling)))  # resampling may leave out a last sample
    return insert(recording, within(filling[None]), first, sample_rate)[0]
