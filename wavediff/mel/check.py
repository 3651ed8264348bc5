"""Refusing a mel a model could not use, and saying which dialect it probably is.

What this cannot tell: dialects whose numbers overlap, such as a hop or band edges that differ, natural from decimal
logarithms (a warning at most), and linear magnitudes so quiet that they pass for normalised ones. Only a stored
dialect can; `diagnose` says what the values look like.
"""

import math
import warnings

from torch import Tensor

from wavediff.arguments import Values
from wavediff.errors import MelError
from wavediff.mel.dialects import convert, lowest
from wavediff.mel.identify import check_unnamed, diagnose
from wavediff.mel.identify.limits import MARGIN, padded_frames, span_of, value_fault
from wavediff.mel.shape import check_shape
from wavediff.mel.spec import MelSpec, as_spec
from wavediff.mel.transform import nepers

# Hardly any speech, noisy as it may be, spans fewer nepers than this over a third of a second: decimal logarithms
# read as natural ones span 4 to 6.
_NARROW, _NARROW_FRAMES = 6.2, 32


def check_mel(mel: Values, spec: MelSpec | str, *, source: str = "mel", warn: bool = True) -> Tensor:
    """Check that `mel` is what a model of dialect `spec` expects.

    Args:
        mel: (n_mels, frames) or (B, n_mels, frames), a tensor, array or list of floats.
        spec: The dialect expected.
        source: What to call it in messages: a file name, usually.
        warn: Whether to warn; not of a piece of a longer mel, which may be a pause.

    Returns:
        (B, n_mels, frames) in float32.

    Raises:
        MelError: Wrong type or shape, NaN or infinite values, or values that the dialect cannot have; the message
            names the dialects they look like.

    Warns:
        UserWarning: The values are possible, but span so little that they are probably decimal logarithms; or frames
            are alike in all bands and not silent, as those are that fill up a batch.
    """
    spec = as_spec(spec, "spec")
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
    if warn and (padding := padded_frames(mel, spec)):
        warnings.warn(f"{source}: {padding}", stacklevel=2)
    return mel


def in_dialect(
    mel: Values, given: MelSpec | str, wanted: MelSpec | str, *, source: str = "mel", warn: bool = True
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
    given, wanted = as_spec(given, "given"), as_spec(wanted, "wanted")
    mel = check_mel(mel, given, source=source, warn=warn)
    if given == wanted:
        return mel
    try:
        converted = convert(mel, given, wanted)
    except MelError as error:
        raise MelError(f"{source}: {str(error).removeprefix('mel: ')}") from error
    return check_mel(converted, wanted, source=source, warn=warn)


def checked_mel(mel: Values, given: MelSpec | None, own: MelSpec, *, source: str = "mel") -> Tensor:
    """A mel in the dialect `own`: taken for one of dialect `given`, or of `own` unless it surely is of another.

    Args:
        mel, source: as of `check_mel`.
        given: the mel's dialect; None where nothing names it.
        own: the dialect of a model.

    Returns:
        (B, n_mels, frames) in float32.

    Raises:
        MelError: as `check_unnamed` and `in_dialect`.
    """
    own = as_spec(own, "own")
    if given is None:
        check_unnamed(mel, own, source=source)
    return in_dialect(mel, own if given is None else given, own, source=source)
