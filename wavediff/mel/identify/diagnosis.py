"""Which dialect a mel most likely is, judged by its values alone, and what a model can make of it.

Ranges rule dialects out; among those left, statistics of speech decide. Some dialects have the same numbers and no
judge can part them: they differ in framing (hifigan, tacotron2, nemo-hifigan), or in a floor that the mel may not
reach (those and coqui; vocos-24k and f5-tts).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from wavediff.arguments import Values
from wavediff.errors import MelError
from wavediff.mel.dialects import can_convert
from wavediff.mel.identify.speech import speech_fit
from wavediff.mel.spec import PRESETS, MelSpec
from wavediff.mel.transform import as_spec, check_shape, lowest, nepers, span_of, value_fault

# The statistics and the next four were chosen with a look at LJSpeech's test clips and VCTK, so the results there
# flatter them a little: with 0.5, 150 and 0.75 one mel of 224 was misnamed on LJSpeech (speecht5) and 12 of 168 on
# VCTK; with these, none and 9.
# Bands of a mel depend on each other more than the fit's model of speech says: its evidence counts for so much,
_TEMPER = 0.25
# and for less where there are fewer frames than these;
_FRAMES = 300
# too few of them tell nothing but their range.
_LEAST_FRAMES = 32
# How much less likely than the first (natural logarithm, tempered) a dialect may be to be named with it.
_TIE = 0.4
# Mean square deviation above which it is not like speech in any dialect; 99 of 100 clips of speech have 0.3 to 3.4.
_UNLIKE = 6.0
# Typical span of speech [nepers]; ranks the dialects where nothing else can.
_SPEECH_SPAN = 12.0

Form = Literal["", "linear magnitudes", "decibels", "mean-variance normalised values"]


@dataclass(frozen=True)
class Diagnosis:
    """What a mel looks like.

    Attributes:
        dialects: Presets that it is likeliest of, which its values do not tell apart; empty where none is known.
        others: Presets that it could be of besides, likeliest first.
        certainty: Probability of `dialects` together, in [0, 1], if it is speech in one of the presets.
        form: What else the values look like than a preset's mel; then `dialects` are those of the mel behind it.
        transposed: Whether the axes look swapped; the rest is said of the mel with its axes put right.
        unlike: Whether the values are possible, but unlike speech in any preset, so that `dialects` is a guess.
        deviation: Mean square deviation of the likeliest from speech, 1 for speech like that of the tables; infinite
            where nothing was compared.
        chances: Probability of each preset that was compared, in [0, 1], under the same condition as `certainty`.
    """

    dialects: tuple[str, ...]
    others: tuple[str, ...] = ()
    certainty: float = 0.0
    form: Form = ""
    transposed: bool = False
    unlike: bool = False
    deviation: float = math.inf
    chances: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        dialects = _either(self.dialects) or "no dialect known"
        text = dialects
        if self.form:
            behind = f" (the mel behind them like {dialects})" if self.dialects else ""
            text = f"{self.form}{behind}"
        return f"a transposed mel, {text}" if self.transposed else text


@dataclass(frozen=True)
class Advice:
    """What a model can make of a mel.

    Attributes:
        usable: "as is", "converted", "retuned" (a network at frame rate takes the dialect as it is) or "no".
        dialect: The preset to name, or "" where none helps.
        reason: Why, in one line.
        options: What to add to `wavediff vocode MEL -o OUT.wav`; None where the command line cannot help.
        python: The line that decodes `mel` with `vocoder`, or that must come before.
    """

    usable: Literal["as is", "converted", "retuned", "no"]
    dialect: str
    reason: str
    options: str | None
    python: str


def diagnose(mel: Values, own: MelSpec | str | None = None) -> Diagnosis:
    """What a mel looks like.

    >>> from wavediff.audio import read_audio
    >>> from wavediff.cli.demo import CLIP
    >>> from wavediff.mel import MelTransform
    >>> mel = MelTransform(MelSpec())(read_audio(CLIP, 22_050)[0].unsqueeze(0))  # (1, n_mels, frames)
    >>> print(diagnose(mel))
    hifigan, tacotron2 or nemo-hifigan
    >>> diagnose(mel.mT).transposed
    True

    Args:
        mel: (n_mels, frames) or (B, n_mels, frames), finite.
        own: A model's dialect, named first among equals.

    Raises:
        MelError: It is no mel: not floats, another shape, no frames, NaN or infinite values.
    """
    mel, own = check_shape(mel, None), None if own is None else as_spec(own, "own")
    bands = {spec.n_mels for spec in PRESETS.values()}
    transposed = mel.shape[-2] not in bands and mel.shape[-1] in bands
    if transposed:
        mel = mel.transpose(-2, -1)
    frames = mel.float().movedim(-2, 0).flatten(1)  # (n_mels, B * frames)
    specs = {name: spec for name, spec in PRESETS.items() if spec.n_mels == len(frames)}
    form = _plain_form(frames)
    if form == "linear magnitudes":
        specs = {name: _unscaled(spec, "ln") for name, spec in specs.items()}
        frames = frames.clamp(min=min((lowest(spec) for spec in specs.values()), default=1e-10)).log()
    elif form == "decibels":
        specs = {name: _unscaled(spec, "db") for name, spec in specs.items()}
    if not form and specs and _looks_normalised(frames):
        return Diagnosis((), form="mean-variance normalised values", transposed=transposed)
    diagnosis = _judge(frames, specs, own)
    return replace(diagnosis, form=form, transposed=transposed)


def likely_dialects(mel: Values, own: MelSpec | str | None = None) -> list[str]:
    """The presets whose mels could have these values and this many bands, most likely first.

    Values that are no preset's are named first: "decibels", "linear magnitudes", "mean-variance normalised values".

    Args:
        mel: (n_mels, frames) or (B, n_mels, frames), finite.
        own: A model's dialect, named first among equals.

    Raises:
        MelError: As `diagnose`.
    """
    diagnosis = diagnose(mel, own)
    return [*([diagnosis.form] if diagnosis.form else []), *diagnosis.dialects, *diagnosis.others]


def advise(diagnosis: Diagnosis, wanted: MelSpec | str) -> Advice:
    """What a model of dialect `wanted` can make of the mel, and how.

    Raises:
        MelError: `diagnosis` is none.
        ConfigError: `wanted` is no dialect.
    """
    if not isinstance(diagnosis, Diagnosis):
        raise MelError(f"diagnosis: a {type(diagnosis).__name__} is none; give what wavediff.mel.diagnose returns")
    wanted = as_spec(wanted, "wanted")
    if diagnosis.transposed:
        return Advice("no", "", "its axes are swapped", None, "mel = mel.T  # then ask again")
    if diagnosis.form == "linear magnitudes":
        line = f"mel = mel.clamp(min={wanted.floor:g}).log()  # then ask again"
        return Advice("no", "", "it was not taken the logarithm of", None, line)
    if diagnosis.form == "mean-variance normalised values":
        line = 'mel_spec = dataclasses.replace(MelSpec.preset("espnet"), mean=..., std=...)'
        reason = "its statistics are needed: mean and std of each band, from the model that made it, and its dialect"
        return Advice("no", "", reason, None, line)
    if not diagnosis.dialects:
        return Advice("no", "", "no dialect is known that has such values", None, recompute(wanted))
    if diagnosis.form:
        return _advise_decibels(diagnosis, wanted)
    if wanted.name in diagnosis.dialects:
        doubt = "; if you know it to be another, name that one with --mel-spec" if len(diagnosis.dialects) > 1 else ""
        return Advice("as is", wanted.name, f"it looks like the model's own dialect{doubt}", "", "vocoder.decode(mel)")
    reasons = {name: can_convert(PRESETS[name], wanted) for name in diagnosis.dialects}
    for name, conversion in reasons.items():
        if conversion.kind != "no":
            line = f'vocoder.decode(mel, mel_spec="{name}")'
            reason = f"{name} becomes {wanted.name}: {conversion.reason}"
            return Advice("converted", name, reason, f"--mel-spec {name}", line)
    name, conversion = next(iter(reasons.items()))
    return Advice("no", name, f"{name} cannot become {wanted.name}: {conversion.reason}", None, recompute(wanted))


def _advise_decibels(diagnosis: Diagnosis, wanted: MelSpec) -> Advice:
    for name in diagnosis.dialects:
        if can_convert(_unscaled(PRESETS[name], "db"), wanted).kind != "no":
            changes = 'log="db", scale=1.0, offset=0.0, clip=None'
            line = f'vocoder.decode(mel, mel_spec=dataclasses.replace(MelSpec.preset("{name}"), {changes}))'
            return Advice("converted", name, f"decibels of {name} bands become {wanted.name}", None, line)
    reason = f"decibels of {_either(diagnosis.dialects)} bands cannot become {wanted.name}"
    return Advice("no", diagnosis.dialects[0], reason, None, recompute(wanted))


def recompute(wanted: MelSpec) -> str:
    """What to do about a mel that cannot become one of dialect `wanted`."""
    return f"mel = vocoder.mel(waveform, sample_rate)  # {wanted.name}, from the recording; or use another model"


def _judge(mel: Tensor, specs: dict[str, MelSpec], own: MelSpec | None) -> Diagnosis:
    """Which of `specs` a mel (n_mels, frames) is of."""
    fitting = {name: spec for name, spec in specs.items() if not value_fault(mel, spec)}
    if not fitting:
        return Diagnosis(())
    fits = {}
    if mel.shape[1] >= _LEAST_FRAMES and span_of(mel) > 0:
        fits = {name: fit for name, spec in fitting.items() if (fit := speech_fit(mel, spec)) is not None}
    if not fits:
        distance = {name: abs(span_of(nepers(mel, spec)) - _SPEECH_SPAN) for name, spec in fitting.items()}
        ranked = sorted(fitting, key=distance.__getitem__)
        return Diagnosis(tuple(ranked), certainty=1.0, unlike=True)
    temper = _TEMPER * min(1.0, mel.shape[1] / _FRAMES)
    scores = {name: temper * fit.score - fit.penalty for name, fit in fits.items()}
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    best = scores[ranked[0]]
    tied = sorted((name for name in ranked if scores[name] > best - _TIE), key=list(PRESETS).index)
    if own is not None and own.name in tied:
        tied.remove(own.name)
        tied.insert(0, own.name)
    evidence = torch.tensor([scores[name] for name in ranked], dtype=torch.float32, device="cpu")
    chances = dict(zip(ranked, evidence.softmax(0).tolist(), strict=True))
    certainty = sum(chances[name] for name in tied)
    others = [name for name in ranked if name not in tied] + [name for name in fitting if name not in fits]
    unlike, deviation = min(fit.deviation for fit in fits.values()) > _UNLIKE, fits[ranked[0]].deviation
    return Diagnosis(tuple(tied), tuple(others), certainty, unlike=unlike, deviation=deviation, chances=chances)


def _plain_form(mel: Tensor) -> Form:
    least, middle, most = float(mel.min()), float(mel.median()), float(mel.max())
    if most - least > 40 and least < -30:
        return "decibels"
    return "linear magnitudes" if least >= 0 and middle < 0.1 * most else ""


def _unscaled(spec: MelSpec, log: Literal["ln", "db"]) -> MelSpec:
    return replace(spec, log=log, scale=1.0, offset=0.0, clip=None)


def _looks_normalised(mel: Tensor) -> bool:
    """Whether every band has about the mean 0 and the deviation 1, as no band but such has."""
    means, deviations = mel.mean(1), mel.std(1)
    return bool(means.square().mean().sqrt() < 0.5 and (deviations.log().abs() < math.log(2)).all())


def _either(names: tuple[str, ...]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
