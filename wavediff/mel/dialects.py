"""Taking a mel from one dialect to another, where that is possible at all; and which values a dialect can have.

Band magnitudes can be rescaled, their logarithm changed and their floor raised without a loss. Other band edges,
another scale, sample rate, hop or FFT length cannot be made up for: guessing through a pseudo-inverse is wrong by
0.1 to 0.8 neper on average, so it is refused.
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wavediff.arguments import Values, as_floats
from wavediff.errors import MelError
from wavediff.mel.spec import MelSpec, as_spec
from wavediff.mel.transform import analysis_window, check_dimensions, compress, expand, filterbank, nepers, stft_scale

# What the frames and bands are: no arithmetic on a mel changes these.
_STRUCTURE = ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels", "f_min", "f_max", "mel_scale")
# What barely matters away from the ends of the waveform.
_FRAMES = ("framing", "pad_mode", "window", "magnitude_eps")

# Largest error in nepers that still counts as exact.
_EXACT = 1e-4


@dataclass(frozen=True)
class Conversion:
    """Whether one dialect can be turned into another.

    Attributes:
        kind: "exact": the same numbers as computing the target from the waveform (within 1e-4 nepers); "shifted":
            those numbers for the waveform moved by at most half a hop, which nobody hears; "no".
        reason: Why, in one line; names the fields that differ, with both values.
    """

    kind: Literal["exact", "shifted", "no"]
    reason: str


def can_convert(source: MelSpec | str, target: MelSpec | str) -> Conversion:
    """Whether a mel of dialect `source` can be turned into one of dialect `target`.

    >>> can_convert(MelSpec.preset("tacotron2"), MelSpec.preset("hifigan")).kind
    'shifted'
    >>> can_convert(MelSpec.preset("speecht5"), MelSpec.preset("hifigan"))
    Conversion(kind='no', reason='sample_rate 16000 against 22050...

    A floor or a lower clip of the source that lies above the target's has destroyed what the target would show:
    "no". An upper clip has too, but speech seldom reaches it: "exact", and `convert` refuses a mel that does.
    """
    source, target = as_spec(source, "source"), as_spec(target, "target")
    if source == target:
        return Conversion("exact", "the same dialect")
    if structural := _differences(source, target, _STRUCTURE):
        return Conversion("no", structural)
    ratio = _band_ratio(source, target)
    if lost := _lost_floor(source, target, ratio):
        return Conversion("no", lost)
    if framing := _differences(source, target, _FRAMES):
        return _compare_frames(source, target, framing)
    return Conversion("exact", "the same frames and bands; only their scaling, logarithm or floor differ")


def convert(mel: Values, source: MelSpec | str, target: MelSpec | str) -> Tensor:
    """Turn a mel of dialect `source` into one of dialect `target`.

    >>> centred = torch.full((80, 40), -5.0)
    >>> convert(centred, MelSpec.preset("tacotron2"), MelSpec.preset("hifigan")).shape
    torch.Size([80, 39])

    Between the framings, frame t stays frame t although it is centred half a hop (128 samples of 256) later in
    "same" than in "center": the result is the mel of the same sound, half a hop later ("center" to "same", whose
    last frame is dropped) or earlier ("same" to "center", whose last frame is repeated). On LJSpeech it is within
    0.002 nepers of that on average, and 0.26 from the mel of the unmoved sound. Averaging neighbours would keep the
    time and bring 0.26 down to 0.10, but smear the spectrum.

    Args:
        mel: (..., n_mels, frames)
        source: Its dialect.
        target: The dialect wanted.

    Returns:
        (..., n_mels, frames) in float32; one frame fewer from "center" to "same", one more the other way.

    Raises:
        MelError: Not convertible, or the mel reaches the upper clip of its dialect, where values were lost.
    """
    source, target = as_spec(source, "source"), as_spec(target, "target")
    mel = as_floats(mel, "mel", MelError, cure="read a file with wavediff.mel.read_mel")
    check_dimensions(tuple(mel.shape[-3:]), source)
    conversion = can_convert(source, target)
    if conversion.kind == "no":
        raise MelError(
            f"mel: {source.name} cannot be turned into {target.name} ({conversion.reason}); compute the mel in "
            f"the dialect wanted, or use a model trained on {source.name}"
        )
    if source == target:
        return mel.float()
    ratio = _band_ratio(source, target).to(mel.device)
    bands = expand(mel.float(), source)
    if highest(source) * float(ratio.min()) < highest(target) * (1 - 1e-6):
        _refuse_clipped(bands, source, target)
    bands = bands * ratio.unsqueeze(-1)
    if source.framing != target.framing:
        bands = _reframe(bands, target)
    return compress(bands, target)


def lowest(spec: MelSpec) -> float:
    """The band magnitude below which the dialect tells nothing apart."""
    floor = spec.floor
    return floor if spec.clip is None else max(floor, _magnitude(spec.clip[0], spec))


def highest(spec: MelSpec) -> float:
    """The band magnitude above which the dialect tells nothing apart; may be infinite."""
    return math.inf if spec.clip is None else _magnitude(spec.clip[1], spec)


def _magnitude(value: float, spec: MelSpec) -> float:
    """Band magnitude at a value before mean and variance."""
    level = (value - spec.offset) / spec.scale
    return math.exp(level) if spec.log == "ln" else 10 ** (level / (20 if spec.log == "db" else 1))


def _differences(source: MelSpec, target: MelSpec, fields: tuple[str, ...]) -> str:
    pairs = ((name, getattr(source, name), getattr(target, name)) for name in fields)
    return ", ".join(f"{name} {mine} against {theirs}" for name, mine, theirs in pairs if mine != theirs)


def _gain(spec: MelSpec) -> Tensor:
    """Per band (n_mels,), its magnitude for a spectrum of ones."""
    return filterbank(spec).sum(1) * stft_scale(spec)


def _band_ratio(source: MelSpec, target: MelSpec) -> Tensor:
    """Per band (n_mels,), target magnitude over source magnitude; 1 for a band no bin falls into."""
    gain = _gain(source)
    return torch.where(gain > 0, _gain(target) / gain, 1.0)


def _lost_floor(source: MelSpec, target: MelSpec, ratio: Tensor) -> str:
    """Why the source's floor hides what the target shows, or ""."""
    hidden = float(ratio.max()) * lowest(source)
    shown = lowest(target)
    recoverable = source.floor_mode == "add" and source.clip is None
    if target.floor_mode == "add" and target.clip is None and not recoverable:
        shown = _EXACT * target.floor  # what is clamped must not show beside what is added
    if hidden <= shown * (1 + 1e-6):
        return ""
    kind = "clip" if source.clip is not None and lowest(source) > source.floor else "floor"
    return f"the {kind} at magnitude {hidden:g} cannot be lowered to {shown:g}"


def _compare_frames(source: MelSpec, target: MelSpec, differences: str) -> Conversion:
    """Near-lossless, unless one dialect's eps shows above the target's floor."""
    eps = max(source.magnitude_eps, target.magnitude_eps)
    pedestal = math.sqrt(eps) * float(_gain(target).max())
    if source.magnitude_eps != target.magnitude_eps and pedestal > lowest(target):
        return Conversion(
            "no",
            f"magnitude_eps {source.magnitude_eps:g} against {target.magnitude_eps:g}: the larger one "
            f"raises silence to {pedestal:.2g}, above the floor at {lowest(target):.2g}",
        )
    return Conversion("shifted", differences)


def _refuse_clipped(bands: Tensor, source: MelSpec, target: MelSpec) -> None:
    clipped = int((bands >= highest(source) * (1 - 1e-5)).sum())
    if clipped:
        raise MelError(
            f"mel: {clipped} of {bands.numel()} values lie at the upper clip of {source.name}, where they cannot be "
            f"turned into {target.name}; compute the mel in the dialect wanted, or lower the recording's level"
        )


def _reframe(bands: Tensor, target: MelSpec) -> Tensor:
    if target.framing == "center":
        return torch.cat([bands, bands[..., -1:]], dim=-1)
    if bands.shape[-1] < 2:
        raise MelError("mel: one frame in framing 'center' is less than a hop of sound in 'same'; give two or more")
    return bands[..., :-1]


# Values are judged in nepers (natural logarithm of the band magnitude as the dialect reads it), so that one set of
# limits serves every dialect. Measured on 92 clips of LJSpeech, LibriTTS, LibriSpeech and VCTK: speech spans 8.7 to
# 13.6 nepers (up to 24 with digital silence), its loudest value lies 0.5 to 3.2 below `_ceiling`; white noise at full
# scale spans at least 2.2.
# Nepers beyond the floor and the ceiling that are let pass: models that predict mels overshoot (2 is 17 dB).
MARGIN = 2.0
# Over several frames no sound has every value this close to white noise at full scale, or above it ...
_BRIGHT = 1.0
# ... or spans less than this.
_FLAT = 1.5
_SEVERAL_FRAMES = 8
_CACHED = 32  # dialects: more than there are presets


def value_fault(mel: Tensor, spec: MelSpec, *, whole: bool = True) -> str:
    """What is impossible about the values of a mel (..., n_mels, frames) in that dialect, or "".

    A piece of one, not `whole`, may be a pause: it is not judged by how alike its values are.
    """
    level = nepers(mel, spec)
    if float(level.min()) < math.log(lowest(spec)) - MARGIN:
        return "below its floor"
    if float((level - _ceiling(spec).to(mel.device)).max()) > MARGIN:
        return "louder than a waveform within +-1 can be"
    span = span_of(level)
    # A constant, as some hosts probe with, tells nothing, and a single frame little.
    if not whole or span == 0 or mel.shape[-1] < _SEVERAL_FRAMES:
        return ""
    if float((level - _full_scale_noise(spec).to(mel.device)).min()) > -_BRIGHT:
        return "everywhere as loud as noise at full scale"
    if span < _FLAT and float(level.max()) > math.log(lowest(spec)) + MARGIN:  # predicted silence is flat too
        return "flatter than any sound"
    return ""


def padded_frames(mel: Tensor, spec: MelSpec) -> str:
    """What is to be said of frames of a mel (..., n_mels, frames) that no sound has but padding, or "".

    The bands of a frame of sound differ. Those of padding, mostly with zeros, do not, and unless it is about as low as
    the lowest value of the sound it is heard as noise.
    """
    alike, level = mel.amax(-2) == mel.amin(-2), nepers(mel, spec).amin(-2)  # (..., frames)
    if mel.shape[-2] == 1 or not bool(alike.any()):
        return ""
    quiet = math.log(lowest(spec)) if bool(alike.all()) else max(math.log(lowest(spec)), float(level[~alike].min()))
    alike &= level > quiet + MARGIN
    if not bool(alike.any()):
        return ""
    *_, first = alike.nonzero()[0].tolist()
    silence = float(compress(torch.zeros(spec.n_mels, 1, dtype=torch.float32, device=mel.device), spec).min())
    return (
        f"{int(alike.sum())} of {alike.numel()} frames, the first at {first}, have one value in all bands, as padding "
        f"has, and would be noise; leave them out (lengths=), or fill up with silence, {silence:.4g}"
    )


def span_of(level: Tensor) -> float:
    """From the lowest value to the highest."""
    return float(level.max() - level.min())


@functools.lru_cache(maxsize=_CACHED)
def _ceiling(spec: MelSpec) -> Tensor:
    """Per band (n_mels, 1), nepers no waveform within +-1 exceeds: Cauchy-Schwarz on Parseval's theorem."""
    energy = float(analysis_window(spec).square().sum()) * spec.n_fft / 2
    bands = filterbank(spec).norm(dim=1) * stft_scale(spec) * math.sqrt(energy)
    return bands.clamp(lowest(spec), highest(spec)).log().unsqueeze(-1)


@functools.lru_cache(maxsize=_CACHED)
def _full_scale_noise(spec: MelSpec) -> Tensor:
    """Per band (n_mels, 1), nepers of white noise with power 1."""
    bands = filterbank(spec).sum(1) * stft_scale(spec) * float(analysis_window(spec).square().sum().sqrt())
    return bands.clamp(lowest(spec), highest(spec)).log().unsqueeze(-1)
