"""What makes a sound ready for use: its zero line, its ends, how loud it is; and what is wrong with it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wavediff.arguments import Values, as_waveform, check_sample_rate, real
from wavediff.errors import AudioError
from wavediff.libraries import require_torchaudio

ONSET_LEVEL = 10 ** (-30 / 20)  # of the peak: what is fainter in front of it is heard as delay
END_LEVEL = 10 ** (-60 / 20)
PRE_ROLL_SECONDS = 0.003  # before the onset
TAIL_SECONDS = 0.02  # after the end
CUT_SECONDS = 0.025  # that are listened to for whether a sound still goes on
FADE_PER_DECIBEL = 0.005  # of what is cut above the level at which a sound ends [s]: 0.3 s at the peak
PEAK_LEVEL = -1.0  # [dBFS]
_HEADROOM = 10  # octaves that a filter may amplify: 60 dB
LOWEST = 10.0  # frequency of a sound [Hz]; half of what is heard


def centred(waveform: Values, sample_rate: int, *, loop: bool = False) -> Tensor:
    """(N,) or (channels, N) without an offset: a high-pass of second order at 10 Hz; of a loop the mean is subtracted.

    >>> abs(float(centred(torch.full((44_100,), 0.5), 44_100)[-1])) < 0.01
    True

    Raises:
        AudioError: `waveform` is none, or `sample_rate` no rate of audio.
    """
    waveform, sample_rate = as_waveform(waveform), check_sample_rate(sample_rate)
    if loop:
        return waveform - waveform.mean(-1, keepdim=True)
    require_torchaudio()
    from torchaudio.functional import highpass_biquad

    # In float64, which not every device has: poles as near to 1 as these magnify what float32 rounds off.
    return filtered(lambda x: highpass_biquad(x, sample_rate, LOWEST), waveform.cpu().double()).to(waveform)


def filtered(biquad: Callable[[Tensor], Tensor], waveform: Tensor) -> Tensor:
    """What one of torchaudio's filters makes of a waveform (..., N), which it would clamp to [-1, 1]: it is made soft
    before, and as loud as it was after. Powers of two change no other bit.
    """
    peak = float(waveform.abs().max()) if waveform.numel() else 0.0
    scale = 2.0 ** (_HEADROOM + math.ceil(math.log2(max(peak, 1.0))))
    return biquad(waveform / scale) * scale


def trim(waveform: Values, sample_rate: int) -> Tensor:
    """(N,) without the silence around a sound.

    It begins 3 ms before the first sample above -30 dB of the peak, or where the waveform does, and ends 20 ms after
    the last one above -60 dB of it, or where the waveform does. The edges are faded over these spans. Of silence 20 ms
    are left.

    >>> sound = torch.cat([torch.zeros(500), torch.ones(1_000), torch.zeros(9_000)])
    >>> len(trim(sound, 16_000))  # 48 samples before, 320 behind
    1368

    Raises:
        AudioError: `waveform` is not (N,) of finite floats, or `sample_rate` no rate of audio.
    """
    waveform, sample_rate = as_waveform(waveform, dimensions=(1,)), check_sample_rate(sample_rate)
    before, behind = (round(seconds * sample_rate) for seconds in (PRE_ROLL_SECONDS, TAIL_SECONDS))
    magnitude = waveform.abs()
    peak = magnitude.max()
    if not peak:
        return waveform[:behind]
    start = max(int((magnitude > ONSET_LEVEL * peak).nonzero()[0]) - before, 0)
    end = int((magnitude > END_LEVEL * peak).nonzero()[-1]) + 1 + behind
    sound = waveform[start:end]
    return sound * edges(sound, before if start else 0, behind)


def edges(like: Tensor, rise: int, fall: int) -> Tensor:
    """What a sound (..., N) is multiplied by, (N,): it fades in over its first samples and out over its last ones."""
    length = like.shape[-1]
    rise, fall, gain = min(rise, length), min(fall, length), like.new_ones(length)
    gain[:rise] *= torch.linspace(0, 1, rise, dtype=like.dtype, device=like.device)
    gain[length - fall :] *= torch.linspace(1, 0, fall, dtype=like.dtype, device=like.device)
    return gain


def ended(waveform: Values, sample_rate: int) -> Tensor:
    """(N,) that comes to an end: what still goes on where it is cut fades out there.

    The fade takes 5 ms for each dB that the last 25 ms lie above the end of a sound, which is 60 dB below its loudest
    25 ms. It takes half of the sound at most. What has ended by itself stays as it is.

    >>> hum = torch.sin(torch.arange(16_000) / 4)
    >>> round(ended(hum, 16_000)[-2_400:].abs().max().item(), 1)  # 150 ms before the end
    0.5

    Raises:
        AudioError: `waveform` is not (N,) of finite floats, or `sample_rate` no rate of audio.
    """
    waveform, sample_rate = as_waveform(waveform, dimensions=(1,)), check_sample_rate(sample_rate)
    width = min(max(round(CUT_SECONDS * sample_rate), 1), len(waveform))
    whole = torch.nn.functional.pad(waveform, (-len(waveform) % width, 0))
    power = whole.unflatten(0, (-1, width)).double().square().mean(1)
    if not power.max() or power[-1] <= END_LEVEL**2 * power.max():
        return waveform
    above = 10 * float((power[-1] / (END_LEVEL**2 * power.max())).log10())
    fall = min(round(FADE_PER_DECIBEL * above * sample_rate), len(waveform) // 2)
    sound = waveform.clone()
    phase = torch.linspace(0, torch.pi / 2, fall, dtype=sound.dtype, device=sound.device)
    sound[len(sound) - fall :] *= phase.cos().square()
    return sound


def with_peak(waveform: Values, level: float = PEAK_LEVEL) -> Tensor:
    """(N,) or (channels, N) scaled to a peak, all channels alike; silence stays silence.

    >>> round(with_peak(torch.tensor([0.1, -0.2]), -6.0).abs().max().item(), 3)
    0.501

    Args:
        waveform: a tensor, array or list of floats, full scale 1.
        level: the peak, -100 to 0 dBFS.

    Raises:
        AudioError: `waveform` is none, or `level` out of bounds.
    """
    waveform = as_waveform(waveform)
    level = real(level, "level", "from -100 to 0 dBFS", lambda value: -100 <= value <= 0, AudioError)
    peak = waveform.abs().max()
    return waveform * (10 ** (level / 20) / peak) if peak else waveform


SILENT_PEAK = 10 ** (-60 / 20)  # -60 dBFS
FULL_SCALE = 32767 / 32768  # the largest 16-bit sample
CLIPPED_RUN = 3  # samples in a row: a sound normalised to full scale touches it in one or two
MAX_DC_OFFSET = 0.01
MAX_JUMP = 0.1  # between a sound and the silence around it; one hears a click
FAULTS = ("NaN or infinite", "silent", "clipping", "DC offset", "jump at the start", "jump at the end")


def find_faults(waveform: Tensor) -> tuple[str, ...]:
    """The faults of a waveform (N,), full scale 1, by their names in `FAULTS`; none of most.

    NaN or infinite samples hide what else there may be.
    """
    if not waveform.isfinite().all():
        return FAULTS[:1]
    magnitude = waveform.abs()
    found = (
        magnitude.max() < SILENT_PEAK,
        magnitude.max() > 1 or _longest_run(magnitude >= FULL_SCALE) >= CLIPPED_RUN,
        waveform.double().mean().abs() > MAX_DC_OFFSET,
        magnitude[0] > MAX_JUMP,
        magnitude[-1] > MAX_JUMP,
    )
    return tuple(fault for fault, is_found in zip(FAULTS[1:], found, strict=True) if is_found)


def _longest_run(mask: Tensor) -> int:
    """The most true values in a row."""
    edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff().nonzero()[:, 0]  # starts and stops in turn
    lengths = edges[1::2] - edges[::2]
    return int(lengths.max()) if len(lengths) else 0
