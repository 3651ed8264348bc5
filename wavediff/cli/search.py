"""Find a vocoder's best few steps: for each number of network evaluations the sampler, the times and the noise.

DATA is held-out speech, a manifest (.jsonl) such as valid.jsonl or a folder: neither what the model was trained on nor
what it will be tested on. OUTPUT becomes a folder with the model that knows the plans found (model.safetensors; with
it, `wavediff vocode --num-steps N` takes the best N), the curve of quality against evaluations (curve.json, curve.png)
and the diary of all trials (trials.jsonl), from which a search that was cut goes on: give the same command again.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from wavediff.cli.parser import add_number, add_options, parse_names
from wavediff.cli.progress import Progress, number, table
from wavediff.errors import ConfigError, DataError
from wavediff.files import atomic_write, check_output, write_text

BUDGETS = "1,2,3,4,6,8,12"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="model file of a vocoder, or 'bundled'")
    parser.add_argument("data", type=Path, metavar="DATA", help="held-out recordings: manifest (.jsonl) or folder")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder (default: CHECKPOINT's name + -search)"
    )
    parser.add_argument("--budgets", default=BUDGETS, metavar="N,...", help=f"evaluations (default: {BUDGETS})")
    metric_help = "what to judge by (default: mr_stft); of several, the mean relative gain; an unknown name lists them"
    parser.add_argument("--metric", type=parse_names, default="mr_stft", metavar="NAME,...", help=metric_help)
    add_number(parser, "--minutes", 25.0, "M", "time limit")
    add_number(parser, "--trials", 100, "N", "plans a budget, at most")
    add_number(parser, "--clips", 6, "N", "to search on, as many again confirm")
    add_number(parser, "--seconds", 3.0, "S", "length of a clip")
    add_number(parser, "--draws", 2, "N", "noises of each clip")
    add_options(parser, "device", seed="of the noise")
    parser.add_argument("--update", action="store_true", help="also store the plans in CHECKPOINT itself")
    add_options(parser, "overwrite", "quiet", json="the curve as JSON")


def run(args: argparse.Namespace) -> None:
    """Search, then write model, curve and picture."""
    import torch

    from wavediff.models import WEIGHTS
    from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
    from wavediff.models.file import digest
    from wavediff.models.hub import MODEL_FILE
    from wavediff.pipelines.vocoder import Vocoder
    from wavediff.search.curve import draw_curve, search

    path = Vocoder.model_path(args.checkpoint)
    folder = args.output or Path(f"{path.stem}-search")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; -o names a folder")
    if args.update and path.parent == WEIGHTS:
        raise ConfigError(f"--update: the bundled model stays as it is; the plans are stored in {folder / MODEL_FILE}")
    recordings = held_out(args.data)
    checkpoint = load_checkpoint(path)
    vocoder = Vocoder(checkpoint.config, checkpoint.build(), checkpoint.facts).to(args.device)
    diary = folder / "trials.jsonl"
    for name in (MODEL_FILE, "curve.json", "curve.png"):  # beside a diary they are this search's, to be renewed
        check_output(folder / name, overwrite=args.overwrite or diary.exists())
    budgets = _numbers(args.budgets)
    # At most so many: a budget whose best is found, or whose time is up, ends before.
    with Progress("search", args.trials * len(set(budgets)), "trials", quiet=args.quiet) as progress:

        def on_trial(evaluations: int, done: int) -> None:
            progress.note = lambda: f"{evaluations} evaluations"
            progress.to(args.trials * sorted(set(budgets)).index(evaluations) + done)

        curve = search(
            vocoder,
            recordings,
            diary,
            digest(checkpoint.weights, {}),
            budgets=budgets,
            metrics=args.metric,
            clips=args.clips,
            seconds=args.seconds,
            draws=args.draws,
            minutes=args.minutes,
            trials=args.trials,
            seed=args.seed,
            overwrite=args.overwrite,
            on_trial=on_trial,
        )
    text = json.dumps(curve.to_dict(), indent=2, allow_nan=False)
    write_text(folder / "curve.json", text + "\n", overwrite=True)
    with atomic_write(folder / "curve.png", overwrite=True) as temporary:
        draw_curve(curve, temporary)
    plans = dict(checkpoint.config.plans) | dict(curve.plans)  # those for other numbers stay
    config = dataclasses.replace(checkpoint.config, plans=tuple(sorted(plans.items())))
    half = all(weight.dtype == torch.float16 for weight in checkpoint.weights.values())
    facts = checkpoint.facts | {"search": curve.subject}
    for target in (folder / MODEL_FILE, *([path] if args.update else [])):
        save_checkpoint(target, config, checkpoint.weights, facts, half=half, overwrite=True)
    unfinished = [str(evaluations) for evaluations, found in curve.found.items() if not found.in_time]
    if unfinished:
        numbers = ", ".join(unfinished)
        note = f"the time was up before the end for {numbers} evaluations; the same command goes on"
        print(f"wavediff search: {note}", file=sys.stderr)
    if args.json:
        print(text)
    else:
        print(_table(curve))
        print(f"\n{folder / MODEL_FILE}: takes these steps for --num-steps {', '.join(map(str, curve.found))}")


def held_out(data: Path) -> list[Path]:
    """The recordings of a manifest or folder.

    Raises:
        DataError: there are none, or they are a test set.
    """
    from wavediff.audio import iter_audio_files
    from wavediff.data.manifest import read_manifest

    if data.name == "test.jsonl":
        raise DataError(f"{data}: is a test set, and what is tuned on it can no longer be tested; give valid.jsonl")
    if data.suffix.lower() == ".jsonl":
        paths = [utterance.path for utterance in read_manifest(data)]
    else:
        paths = sorted(iter_audio_files(data)) if data.is_dir() else [data]
    if not paths:
        raise DataError(f"{data}: holds no recordings; check the path")
    return paths


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise ConfigError(f"--budgets: {text!r} is not a list of whole numbers such as {BUDGETS}") from None


def _table(curve: Any) -> str:
    names = dict.fromkeys(name for found in curve.found.values() for name in found.references)
    rows = [["evaluations", "sampler", "times", *(f"{m} {s}" for m in curve.metrics for s in ("searched", *names))]]
    for evaluations, found in curve.found.items():
        times = " ".join(f"{t:.3g}" for t in found.plan.times[:-1])
        figures = [
            number((found.figures if name is None else found.references[name][1])[metric])
            if name is None or name in found.references
            else "-"
            for metric in curve.metrics
            for name in (None, *names)
        ]
        rows.append([str(evaluations), found.plan.sampler, times, *figures])
    return table(rows)
