"""Taking a mel in the dialect of a model: checked, converted, refused where it could not be used.

A mel that nothing names is taken for one of the model's own dialect, unless it surely is of another.

What this cannot tell: dialects whose numbers overlap, such as a hop or band edges that differ, natural from decimal
logarithms (a warning at most), and linear magnitudes so quiet that they pass for normalised ones. Only a stored
dialect can; `diagnose` says what the values look like.
"""

import math
import warnings
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from wavediff.arguments import Values
from wavediff.errors import MelError
from wavediff.mel.dialects import convert
from wavediff.mel.identify.diagnosis import diagnose
from wavediff.mel.spec import PRESETS, MelSpec
from wavediff.mel.transform import MARGIN, as_spec, check_shape, compress, lowest, nepers, span_of, value_fault

# Hardly any speech, noisy as it may be, spans fewer nepers than this over a third of a second: decimal logarithms
# read as natural ones span 4 to 6.
_NARROW, _NARROW_FRAMES = 6.2, 32


def check_mel(
    mel: Values, spec: MelSpec | str, *, source: str = "mel", warn: bool = True, whole: bool = True
) -> Tensor:
    """Check that `mel` is what a model of dialect `spec` expects.

    Args:
        mel: (n_mels, frames) or (B, n_mels, frames), a tensor, array or list of floats.
        spec: The dialect expected.
        source: What to call it in messages: a file name, usually.
        warn: Whether to warn.
        whole: Whether it is a whole mel. A piece of one may be a pause: how alike its values are is no matter.

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
    if fault := value_fault(mel, spec, whole=whole):
        raise MelError(
            f"{source}: values from {float(mel.min()):.4g} to {float(mel.max()):.4g} are not {spec.name} ({fault}); "
            f"they look like {diagnose(mel, spec)}; "
            f"compute the mel in {spec.name}, or say which dialect it is so that it can be converted"
        )
    level = nepers(mel, spec)
    # At the floor, a quiet recording is narrow too.
    at_floor = float(level.min()) < math.log(lowest(spec)) + MARGIN
    warn = warn and whole
    if warn and 0 < span_of(level) < _NARROW and mel.shape[-1] >= _NARROW_FRAMES and not at_floor:
        warnings.warn(
            f"{source}: values span only {span_of(level):.1f} nepers as {spec.name}, speech spans 9 or more; "
            f"they look like {diagnose(mel, spec)}",
            stacklevel=2,
        )
    if warn and (padding := padded_frames(mel, spec)):
        warnings.warn(f"{source}: {padding}", stacklevel=2)
    return mel


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


def in_dialect(
    mel: Values, given: MelSpec | str, wanted: MelSpec | str, *, source: str = "mel", whole: bool = True
) -> Tensor:
    """A mel of dialect `given` as one of dialect `wanted`: checked, converted where they differ, and checked again.

    Args:
        mel, source, whole: as of `check_mel`.
        given: the mel's dialect.
        wanted: the dialect to give.

    Returns:
        (B, n_mels, frames) in float32; another framing may have dropped or repeated the last frame.

    Raises:
        MelError: as `check_mel` and `convert`.
    """
    given, wanted = as_spec(given, "given"), as_spec(wanted, "wanted")
    mel = check_mel(mel, given, source=source, whole=whole)
    if given == wanted:
        return mel
    try:
        converted = convert(mel, given, wanted)
    except MelError as error:
        raise MelError(f"{source}: {str(error).removeprefix('mel: ')}") from error
    return check_mel(converted, wanted, source=source, whole=whole)


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


# Measured on speech of 86 speakers in 9 languages, LJ Speech and VCTK: 735 of 812 mels of another scale are refused. Of
# mels of the own dialect none is: 216 clips of speech, whole and smoothed, 91 sound effects, 64 pieces of music, noise.
_DOUBT = 0.02  # chance of the own dialect below which a mel is not taken for one of it
_LIKE_SPEECH = 1.8  # deviation from speech in the other dialect up to which one is sure
_SURE = 0.5  # chance of a dialect above which "auto" takes it
_FRAMES, _LEAST_FRAMES = 300, 32  # looked at; fewer tell too little


def dialect_of(mel: Values, own: MelSpec | str | None = None, *, source: str = "mel") -> MelSpec:
    """The preset that a mel is likeliest of.

    Args:
        mel: (n_mels, frames) or (B, n_mels, frames), finite.
        own: A model's dialect, which is taken among equals.
        source: Of the mel, for messages.

    Raises:
        MelError: It is no mel, or no preset is likelier than all others.
    """
    diagnosis = diagnose(mel, own)
    sure = diagnosis.dialects and diagnosis.certainty >= _SURE and not diagnosis.unlike
    if not sure or diagnosis.form or diagnosis.transposed:
        raise MelError(f"{source}: its dialect cannot be told, it looks like {diagnosis}; name it as mel_spec")
    return as_spec(diagnosis.dialects[0])


def check_unnamed(mel: Values, own: MelSpec, *, source: str = "mel") -> None:
    """Refuse a mel without a name that is surely not of dialect `own`.

    Dialects of the same logarithm and scale are not told apart here: music in one may look like speech in another.

    Args:
        mel: (n_mels, frames) or (B, n_mels, frames), finite; the first item is looked at.
        own: The dialect that it is taken for.
        source: Of the mel, for messages.

    Raises:
        MelError: The mel is of another one, which the message names; or it is no mel.
    """
    mel = check_shape(mel, None)
    if mel.shape[-1] < _LEAST_FRAMES:
        return
    diagnosis = diagnose(mel.reshape(-1, *mel.shape[-2:])[0, :, :_FRAMES], own)
    if not diagnosis.dialects or diagnosis.form or diagnosis.transposed or diagnosis.deviation > _LIKE_SPEECH:
        return
    alike = sum(chance for name, chance in diagnosis.chances.items() if _values(PRESETS[name]) == _values(own))
    if alike < _DOUBT:
        other = diagnosis.dialects[0]
        raise MelError(
            f"{source}: its values are those of {other}, not of {own.name}; name the dialect as mel_spec (--mel-spec): "
            f"{other}, or {own.name} if it is that"
        )


def _values(spec: MelSpec) -> tuple[object, ...]:
    return spec.log, spec.scale, spec.offset, spec.clip, spec.mean, spec.std


def in_dialect_pieces(
    pieces: Iterable[Values], given: MelSpec | str, wanted: MelSpec | str, *, source: str = "mel"
) -> Iterator[Tensor]:
    """Pieces of one mel of dialect `given` as pieces of what `in_dialect` makes of the whole.

    A change of framing drops or repeats the last frame of a mel. Only the end of the last piece is such a frame, so
    from "center" to "same" one frame is held back until the next piece comes, or the end.

    Args:
        pieces: (n_mels, n) or (B, n_mels, n), of any lengths but 0.
        given: the mel's dialect.
        wanted: the dialect to give.
        source: what to call the mel in messages.

    Yields:
        (B, n_mels, m) in float32, m >= 1, each checked; a piece may be too short to warn of its values.

    Raises:
        MelError: as `in_dialect`, when the piece is reached.
    """

    given, wanted = as_spec(given, "given"), as_spec(wanted, "wanted")

    def converted(piece: Values) -> Tensor:
        return in_dialect(piece, given, wanted, source=source, whole=False)

    drops, repeats = given.framing == "center" != wanted.framing, wanted.framing == "center" != given.framing
    held: Tensor | None = None
    ready = False
    for piece in pieces:
        if drops:
            frames = check_shape(piece, given, source=source)
            frames = frames if held is None else torch.cat([held, frames], -1)
            held = frames[..., -1:].clone()
            if frames.shape[-1] > 1:
                yield converted(frames)
                ready = True
        elif repeats:
            longer = converted(piece)
            held = longer[..., -1:].clone()
            yield longer[..., :-1]
        else:
            yield converted(piece)
    if held is not None and repeats:
        yield held
    elif held is not None and not ready:
        converted(held)  # a single frame, which is refused
