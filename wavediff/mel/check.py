"""Refusing a mel a model could not use, and saying which dialect it probably is.

What this cannot tell: dialects whose numbers overlap, such as a hop or band edges that differ, natural from decimal
logarithms (a warning at most), and linear magnitudes so quiet that they pass for normalised ones. Only a stored
dialect can; `diagnose` says what the values look like.
"""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from wavediff.errors import MelError
from wavediff.mel.dialects import convert, lowest
from wavediff.mel.identify import diagnose
from wavediff.mel.identify.limits import MARGIN, span_of, value_fault
from wavediff.mel.spec import MelSpec
from wavediff.mel.transform import nepers

# Hardly any speech, noisy as it may be, spans fewer nepers than this over a third of a second: decimal logarithms
# read as natural ones span 4 to 6.
_NARROW, _NARROW_FRAMES = 6.2, 32


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
    if fault := value_fault(mel, spec):
        raise MelError(
            f"{source}: values from {float(mel.min()):.4g} to {float(mel.max()):.4g} are not {spec.name} ({fault}); "
            f"they look like {diagnose(mel, spec)}; "
            f"compute the mel in {spec.name}, or say which dialect it is so that it can be converted"
        )
    level = nepers(mel, spec)
    # At the floor, a quiet recording is narrow too.
    at_floor = float(level.min()) < math.log(lowest(spec)) + MARGIN
    if warn and 0 < span_of(level) < _NARROW and mel.shape[-1] >= _NARROW_FRAMES and not at_floor:
        warnings.warn(
            f"{source}: values span only {span_of(level):.1f} nepers as {spec.name}, speech spans 9 or more; "
            f"they look like {diagnose(mel, spec)}",
            stacklevel=2,
        )
    return mel


def in_dialect(
    mel: Tensor | np.ndarray, given: MelSpec, wanted: MelSpec, *, source: str = "mel", warn: bool = True
) -> Tensor:
    """A mel of dialect `given` as one of dialect `wanted`: checked, converted where they differ, and checked again.

    Args:
        mel, source, warn: as of `check_mel`.
        given: the mel's dialect.
        wanted: the dialect to give.

    Returns:
        (B, n_mels, frames) in float32; another framing may have dropped or repeated the last frame.

    Raises:
        MelError: as `check_mel` and `convert`.
    """
    mel = check_mel(mel, given, source=source, warn=warn)
    if given == wanted:
        return mel
    try:
        converted = convert(mel, given, wanted)
    except MelError as error:
        raise MelError(f"{source}: {str(error).removeprefix('mel: ')}") from error
    return check_mel(converted, wanted, source=source, warn=warn)


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


def _as_float32(mel: Tensor | np.ndarray, source: str) -> Tensor:
    if isinstance(mel, Tensor) and mel.layout != torch.strided:
        raise MelError(f"{source}: is a sparse tensor; pass mel.to_dense()")
    if isinstance(mel, np.ndarray) and mel.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return torch.from_numpy(mel.astype(np.float32))
    if isinstance(mel, Tensor) and mel.is_floating_point():
        return mel.float()
    kind = str(getattr(mel, "dtype", type(mel).__name__)).removeprefix("torch.")
    raise MelError(f"{source}: holds {kind} values; a mel holds floats (16, 32 or 64 bit)")
