"""Say which dialect a mel most likely is, and whether and how a vocoder can take it."""

import argparse
import dataclasses
import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavediff.cli.parser import add_options

if TYPE_CHECKING:
    from wavediff.mel import Advice, MelSpec
    from wavediff.pipelines.vocoder import Vocoder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("mel", type=Path, metavar="MEL", help="a mel spectrogram (.npy, .safetensors)")
    add_options(parser, "checkpoint", "json")


def run(args: argparse.Namespace) -> None:
    """Examine the mel."""
    from wavediff.pipelines.vocoder import Vocoder

    vocoder = Vocoder.from_pretrained(args.checkpoint, "cpu")
    wanted = vocoder.mel_spec
    facts = examine(args.mel, wanted, args.checkpoint, vocoder)
    if args.json:
        print(json.dumps(facts))
        return
    print(
        f"mel:      {facts['n_mels']} bands, {facts['frames']} frames, {facts['lowest']:.4g} to {facts['highest']:.4g}"
    )
    print(f"dialect:  {facts['looks_like']}{_certainty(facts)}")
    if facts["also_possible"]:
        print(f"          less likely: {', '.join(facts['also_possible'][:3])}")
    print(f"model:    {args.checkpoint or 'the bundled vocoder'} takes {wanted.name}")
    verdict = {
        "as is": "can be decoded as it is",
        "converted": "can be converted",
        "retuned": "can be decoded by the same network",
        "no": "cannot be decoded",
    }
    print(f"verdict:  {verdict[facts['usable']]} ({facts['reason']})")
    if facts["command"]:
        print(f"command:  {facts['command']}")
    print(f"python:   {facts['python']}")


def examine(
    path: Path, wanted: "MelSpec", checkpoint: Path | None = None, vocoder: "Vocoder | None" = None
) -> dict[str, Any]:
    """What is found of a mel, and what a model of dialect `wanted` can make of it; JSON literals.

    Args:
        path: of the mel.
        wanted: the model's dialect.
        checkpoint: of the model, for the command; the bundled one by default.
        vocoder: the model, which may take other dialects too.

    Raises:
        MelError: Not a readable mel, or with NaN or infinite values.
    """
    from wavediff.mel import advise, diagnose, read_mel

    mel, said = read_mel(path)
    seen = diagnose(mel, wanted)
    advice = advise(seen, wanted) if said is None else _as_said(said, wanted)
    if vocoder is not None and advice.usable == "no":
        advice = _retuned(advice, vocoder)
    return {
        "path": os.fspath(path),
        "n_mels": mel.shape[0],
        "frames": mel.shape[1],
        "lowest": float(mel.min()),
        "highest": float(mel.max()),
        "said": None if said is None else said.name,
        "looks_like": str(seen),
        "dialects": list(seen.dialects),
        "also_possible": list(seen.others),
        "certainty": round(seen.certainty, 3),
        "form": seen.form,
        "transposed": seen.transposed,
        "unlike_speech": seen.unlike,
        "model_dialect": wanted.name,
        **{name: value for name, value in dataclasses.asdict(advice).items() if name != "options"},
        "command": _command(path, advice, checkpoint),
    }


def _retuned(advice: "Advice", vocoder: "Vocoder") -> "Advice":
    """Of a dialect that cannot be converted, but that the vocoder's network takes."""
    from wavediff.errors import MelError

    name = advice.dialect
    try:
        if not name or vocoder.for_mels(name) is vocoder:  # the dialect is not the reason
            return advice
    except MelError:
        return advice
    line = f'vocoder.for_mels("{name}").decode(mel, mel_spec="{name}")'
    return dataclasses.replace(
        advice, usable="retuned", reason=f"at the rate and hop of {name}", options=f"--mel-spec {name}", python=line
    )


def _as_said(said: "MelSpec", wanted: "MelSpec") -> "Advice":
    """A file that says its dialect is converted by that, whatever it looks like."""
    from wavediff.mel import Advice, can_convert
    from wavediff.mel.identify.diagnosis import recompute

    conversion = can_convert(said, wanted)
    name = "" if said.name == "custom" else said.name
    reason = f"the file says {said.name}; {conversion.reason}"
    if said == wanted:
        return Advice("as is", name, reason, "", "vocoder.decode(mel)")
    if conversion.kind == "no":
        return Advice("no", name, reason, None, recompute(wanted))
    return Advice("converted", name, reason, "", "vocoder.decode(mel, mel_spec=spec)  # mel, spec = read_mel(path)")


def _command(path: Path, advice: "Advice", checkpoint: Path | None) -> str | None:
    if advice.options is None:
        return None
    model = [] if checkpoint is None else ["--checkpoint", os.fspath(checkpoint)]
    return shlex.join(["wavediff", "vocode", os.fspath(path), "-o", "speech.wav", *model, *advice.options.split()])


def _certainty(facts: dict[str, Any]) -> str:
    said = f"; the file says {facts['said']}" if facts["said"] else ""
    if not facts["dialects"]:
        return said
    if facts["unlike_speech"]:
        return f" (a guess by their range: this is not like speech, or too short){said}"
    sure = f"{min(facts['certainty'], 0.99):.0%} sure, if it is speech"
    return f" ({sure}; their values are alike){said}" if len(facts["dialects"]) > 1 else f" ({sure}){said}"
