"""Taking a mel from one dialect to another, where that is possible at all.

Band magnitudes can be rescaled, their logarithm changed and their floor raised without a loss. Other band edges,
another scale, sample rate, hop or FFT length cannot be made up for: guessing through a pseudo-inverse is wrong by
0.1 to 0.8 neper on average, so it is refused.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from wavediff.arguments import Values, as_floats
from wavediff.errors import MelError
from wavediff.mel.spec import MelSpec
from wavediff.mel.transform import (
    analysis_window,
    as_spec,
    check_dimensions,
    compress,
    expand,
    filterbank,
    highest,
    lowest,
    stft_scale,
)

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


def same_bands(one: MelSpec, other: MelSpec) -> bool:
    """Whether frames and bands of two dialects are the same, on whatever scale their values are."""
    return not _differences(one, other, (*_STRUCTURE, "framing", "mel_norm"))


def band_centres(spec: MelSpec) -> Tensor:
    """Where the bands have their peaks [Hz], rising (n_mels,)."""
    lowest_edge, step = _to_mel(spec.f_min, spec), _spacing(spec)
    peaks = [_to_hertz(lowest_edge + (band + 1) * step, spec) for band in range(spec.n_mels)]
    return torch.tensor(peaks, dtype=torch.float64, device="cpu")


def more_bands(spec: MelSpec) -> MelSpec:
    """The dialect with more bands as far apart as its own, down to 0 Hz and up to half the sample rate."""
    lowest_edge, highest_edge, end = (_to_mel(hertz, spec) for hertz in (spec.f_min, spec.f_max, spec.sample_rate / 2))
    step = _spacing(spec)
    below, above = (int(span / step + 1e-6) for span in (lowest_edge, end - highest_edge))
    return replace(
        spec,
        n_mels=below + spec.n_mels + above,
        f_min=_to_hertz(lowest_edge - below * step, spec) if below else spec.f_min,
        f_max=_to_hertz(highest_edge + above * step, spec) if above else spec.f_max,
    )


_KNEE = 15.0  # Slaney's mel of 1 kHz; linear below, logarithmic above
_OCTAVE = 27.0 / math.log(6.4)


def _spacing(spec: MelSpec) -> float:
    """Of neighbouring bands [mel]."""
    return (_to_mel(spec.f_max, spec) - _to_mel(spec.f_min, spec)) / (spec.n_mels + 1)


def _to_mel(hertz: float, spec: MelSpec) -> float:
    if spec.mel_scale == "htk":
        return 2595.0 * math.log10(1.0 + hertz / 700.0)
    return 0.015 * hertz if hertz < 1000.0 else _KNEE + _OCTAVE * math.log(hertz / 1000.0)


def _to_hertz(mel: float, spec: MelSpec) -> float:
    if spec.mel_scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return mel / 0.015 if mel < _KNEE else 1000.0 * math.exp((mel - _KNEE) / _OCTAVE)


def noise_level(spec: MelSpec) -> Tensor:
    """The bands (n_mels,) of white noise, but for a factor that all dialects share."""
    sums = filterbank(spec).sum(1).double()
    return sums.clamp(min=float(sums[sums > 0].min())) * analysis_window(spec).square().sum().sqrt()  # no bin, no band


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
