"""Which dialect a mel without a name is decoded in: the model's own, unless it surely is of another, or "auto"."""

from wavediff.arguments import Values
from wavediff.errors import MelError
from wavediff.mel.identify.diagnosis import diagnose
from wavediff.mel.shape import check_shape
from wavediff.mel.spec import PRESETS, MelSpec, as_spec

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
