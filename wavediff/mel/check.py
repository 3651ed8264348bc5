"""Refusing a mel a model could not use, and saying which dialect it probably is.

Everything is judged in nepers (natural logarithm of the band magnitude as the dialect reads it), so that one
set of limits serves every dialect. Measured on 92 clips of LJSpeech, LibriTTS, LibriSpeech and VCTK: speech spans
8.7 to 13.6 nepers (up to 24 with digital silence), its loudest value lies 0.5 to 3.2 below `_ceiling`; white noise
at full scale spans at least 2.2.

What this cannot tell: a hop or band edges that differ, natural from decimal logarithms where the ranges overlap
(a warning at most), and linear magnitudes so quiet that they pass for normalised ones. Only a stored dialect can.
"""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from wavediff.errors import MelError
from wavediff.mel.dialects import highest, lowest
from wavediff.mel.spec import PRESETS, MelSpec
from wavediff.mel.transform import analysis_window, filterbank, nepers, stft_scale

# Nepers beyond the floor and the ceiling that are let pass: models that predict mels overshoot (2 is 17 dB).
_MARGIN = 2.0
# Over several frames no sound has every value this close to white noise at full scale, or above it ...
_BRIGHT = 1.0
# ... or spans less than this,
_FLAT = 1.5
_SEVERAL_FRAMES = 8
# and hardly any speech, noisy as it may be, spans less than this over a third of a second: decimal logarithms read
# as natural ones span 4 to 6.
_NARROW, _NARROW_FRAMES = 6.2, 32
# Typical span of speech; ranks the dialects a mel may be.
_SPEECH_SPAN = 12.0


def check_mel(mel: Tensor | np.ndarray, spec: MelSpec, *, source: str = "mel", warn: bool = True) -> Tensor:
    """Check that `mel` is what a model of dialect `spec` expects.

    Args:
        mel: (n_mels, frames) or (B, n_mels, frames), of any float type.
        spec: The dialect expected.
        source: What to call it in messages: a file name, usually.
        warn: Whether to warn; not of a piece of a longer mel, which may be a pause.

    Returns:
        (B, n_mels, frames) in float32.

    Raises:
        MelError: Wrong type or shape, NaN or infinite values, or values that the dialect cannot have; the message
            names the dialects they look like.

    Warns:
        UserWarning: The values are possible, but span so little that they are probably decimal logarithms.
    """
    mel = check_shape(mel, spec, source=source)
    if fault := _value_fault(mel, spec):
        raise MelError(
            f"{source}: values from {float(mel.min()):.4g} to {float(mel.max()):.4g} are not {spec.name} ({fault}); "
            f"they look like {', '.join(likely_dialects(mel)) or 'no dialect known'}; "
            f"compute the mel in {spec.name}, or say which dialect it is so that it can be converted"
        )
    level = nepers(mel, spec)
    # At the floor, a quiet recording is narrow too.
    at_floor = float(level.min()) < math.log(lowest(spec)) + _MARGIN
    if warn and 0 < _span(level) < _NARROW and mel.shape[-1] >= _NARROW_FRAMES and not at_floor:
        warnings.warn(
            f"{source}: values span only {_span(level):.1f} nepers as {spec.name}, speech spans 9 or more; "
            f"they look like {', '.join(likely_dialects(mel)[:3])}",
            stacklevel=2,
        )
    return mel


def check_shape(mel: Tensor | np.ndarray, spec: MelSpec | None, *, source: str = "mel") -> Tensor:
    """The part of `check_mel` that does not look at the values, but for NaN and infinity.

    Without `spec` any number of bands will do.

    Raises:
        MelError: As `check_mel`.
    """
    tensor = _as_float32(mel, source)
    check_dimensions(tuple(tensor.shape), spec, source=source)
    finite = tensor.isfinite()
    if not bool(finite.all()):
        first = tuple((~finite).nonzero()[0].tolist())
        count = int((~finite).sum())
        raise MelError(f"{source}: {count} values are NaN or infinite, the first at {first}; compute the mel again")
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(0)


def check_dimensions(shape: tuple[int, ...], spec: MelSpec | None, *, source: str = "mel") -> None:
    """The part of `check_shape` that needs no values.

    Raises:
        MelError: As `check_mel`.
    """
    if len(shape) not in (2, 3):
        raise MelError(f"{source}: shape {shape} is not (n_mels, frames) or (B, n_mels, frames)")
    if 0 in shape:
        raise MelError(f"{source}: shape {shape} holds no frames; a mel needs at least one")
    if spec is not None and shape[-2] != spec.n_mels:
        cure = f"expected {spec.n_mels} bands ({spec.name}), got {shape[-2]}; compute the mel in {spec.name}"
        if shape[-1] == spec.n_mels:
            cure = f"it looks transposed, expected ({spec.n_mels}, frames); swap its last two axes"
        raise MelError(f"{source}: shape {shape}: {cure}")


def likely_dialects(mel: Tensor) -> list[str]:
    """The presets whose mels could have these values and this many bands, most likely first.

    Judged by range alone: dialects that differ in hop, band edges or framing look the same, and all of them are
    listed. Values that are no preset's may be named "decibels" or "linear magnitudes".

    Args:
        mel: (..., n_mels, frames), finite
    """
    mel = mel.float()
    fitting = {
        name: abs(_span(nepers(mel, spec)) - _SPEECH_SPAN)
        for name, spec in PRESETS.items()
        if spec.n_mels == mel.shape[-2] and not _value_fault(mel, spec)
    }
    names = sorted(fitting, key=fitting.__getitem__)
    least, middle, most = float(mel.min()), float(mel.median()), float(mel.max())
    if least >= 0 and middle < 0.1 * most:
        names.insert(0, "linear magnitudes")
    if most - least > 40 and least < -30:
        names.insert(0, "decibels")
    return names


def _as_float32(mel: Tensor | np.ndarray, source: str) -> Tensor:
    if isinstance(mel, np.ndarray) and mel.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return torch.from_numpy(mel.astype(np.float32))
    if isinstance(mel, Tensor) and mel.is_floating_point():
        return mel.float()
    kind = str(getattr(mel, "dtype", type(mel).__name__)).removeprefix("torch.")
    raise MelError(f"{source}: holds {kind} values; a mel holds floats (16, 32 or 64 bit)")


def _value_fault(mel: Tensor, spec: MelSpec) -> str:
    """What is impossible about these values in that dialect, or ""."""
    level = nepers(mel, spec)
    if float(level.min()) < math.log(lowest(spec)) - _MARGIN:
        return "below its floor"
    if float((level - _ceiling(spec).to(mel.device)).max()) > _MARGIN:
        return "louder than a waveform within +-1 can be"
    span = _span(level)
    # A constant, as some hosts probe with, tells nothing, and a single frame little.
    if span == 0 or mel.shape[-1] < _SEVERAL_FRAMES:
        return ""
    if float((level - _full_scale_noise(spec).to(mel.device)).min()) > -_BRIGHT:
        return "everywhere as loud as noise at full scale"
    if span < _FLAT and float(level.max()) > math.log(lowest(spec)) + _MARGIN:  # predicted silence is flat too
        return "flatter than any sound"
    return ""


def _span(level: Tensor) -> float:
    return float(level.max() - level.min())


def _ceiling(spec: MelSpec) -> Tensor:
    """Per band (n_mels, 1), nepers no waveform within +-1 exceeds: Cauchy-Schwarz on Parseval's theorem."""
    energy = float(analysis_window(spec).square().sum()) * spec.n_fft / 2
    bands = filterbank(spec).norm(dim=1) * stft_scale(spec) * math.sqrt(energy)
    return bands.clamp(lowest(spec), highest(spec)).log().unsqueeze(-1)


def _full_scale_noise(spec: MelSpec) -> Tensor:
    """Per band (n_mels, 1), nepers of white noise with power 1."""
    bands = filterbank(spec).sum(1) * stft_scale(spec) * float(analysis_window(spec).square().sum().sqrt())
    return bands.clamp(lowest(spec), highest(spec)).log().unsqueeze(-1)
