"""Compare synthesised speech with its reference: a table of metrics for each utterance, their mean and spread.

Files in two folders are matched by name without extension (LJ001-0001.wav with LJ001-0001.flac).
With one path alone, the metrics that need no reference score its recordings.
With --generated, sets of sounds are compared instead, where no file has a counterpart: REF is the real one and SYN the
generated one, each a folder of class folders or a manifest (.jsonl) with labels. A classifier of sounds says whether
the generated ones are of their class, as close to the real ones as these are to each other, as varied, and no copies.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wavediff.cli.parser import add_options, parse_names
from wavediff.cli.progress import Progress, number, say, table, track
from wavediff.errors import ConfigError
from wavediff.files import check_output, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", type=Path, help="recording, or folder of recordings")
    parser.add_argument("synthesised", metavar="SYN", type=Path, nargs="?", help="synthesised file, or folder of them")
    parser.add_argument(
        "--metrics",
        type=parse_names,
        metavar="NAME,...",
        help="which metrics to compute (default: all that are installed); an unknown name lists them",
    )
    parser.add_argument("--ids", type=Path, metavar="FILE", help="compare only the names in this file, one a line")
    parser.add_argument("--generated", action="store_true", help="compare sets of sounds: real REF, generated SYN")
    parser.add_argument(
        "--classifier", type=Path, metavar="FILE", help="of the sounds' classes (default: the bundled one)"
    )
    add_options(parser, "json")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="also write the JSON here")
    add_options(parser, "overwrite", "quiet")


def run(args: argparse.Namespace) -> None:
    """Compare, then print tables or JSON, and write the JSON where a file is named."""
    if args.generated and args.synthesised is None:
        raise ConfigError("--generated: compares two sets of sounds; name the generated one after the real one")
    if args.generated and (args.metrics is not None or args.ids is not None):
        raise ConfigError("--generated: computes metrics of its own, of all clips; leave --metrics and --ids out")
    if args.classifier is not None and not args.generated:
        raise ConfigError("--classifier: is for generated sounds; add --generated, or leave it out")
    if args.ids and args.synthesised is not None and not args.reference.is_dir():
        raise ConfigError("--ids: chooses among the recordings of folders; leave it out for two files")
    if args.output:
        check_output(args.output, overwrite=args.overwrite)
    report, tables = _of_sets(args) if args.generated else _of_recordings(args)
    text = json.dumps(report, indent=2, allow_nan=False)
    if args.output:
        write_text(args.output, text + "\n", overwrite=args.overwrite)
    print(text if args.json else tables)


def _of_recordings(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The report on recordings as JSON literals and as tables."""
    from wavediff.metrics import METRICS, select_metrics, summarise

    alone = args.synthesised is None
    names, left_out = select_metrics(args.metrics, alone=alone)
    rows, recordings, facts = _score_alone(args) if alone else _compare(args, names)
    for name, package in left_out.items():
        _say(f"{name} is left out, it needs {package}: pip install 'wavediff[eval]'")
    summary, own = summarise(list(rows.values())), summarise(list(recordings.values()))
    report = {
        **facts,
        "left_out": left_out,
        "metrics": {
            name: {
                "unit": METRICS[name].unit,
                "higher_is_better": METRICS[name].higher_is_better,
                "description": METRICS[name].description,
            }
            for name in names
        },
        "summary": {name: asdict(figures) for name, figures in summary.items()},
        "recordings": {name: asdict(figures) for name, figures in own.items()},
        "files": rows,
    }
    lines = [["metric", "unit", "mean", "sd", "95 % of the mean", "n", "recordings", "better", ""]]
    for name, figures in summary.items():
        metric = METRICS[name]
        low_high = " to ".join(map(number, figures.interval95)) if figures.interval95 else "-"
        better = {True: "higher", False: "lower", None: "-"}[metric.higher_is_better]
        mean, deviation = number(figures.mean), number(figures.standard_deviation)
        themselves = number(own[name].mean) if name in own else "-"
        count = str(figures.count)
        lines.append([name, metric.unit, mean, deviation, low_high, count, themselves, better, metric.description])
    each = [["utterance", *names]] + [[stem, *map(number, row.values())] for stem, row in rows.items()]
    return report, f"{table(each)}\n\n{table(lines)}"


Rows = dict[str, dict[str, float | None]]  # utterance -> metric -> figure


def _score_alone(args: argparse.Namespace) -> tuple[Rows, Rows, dict[str, Any]]:
    """The rows of recordings without a reference."""
    from wavediff.metrics import evaluate_file, find_recordings, read_ids

    files = find_recordings(args.reference)
    wanted = files if args.ids is None else read_ids(args.ids)
    absent = [stem for stem in wanted if stem not in files]
    if absent:
        raise ConfigError(f"--ids: {', '.join(absent[:5])} not in {args.reference}; name recordings that are there")
    rows = {
        stem: evaluate_file(files[stem], args.metrics)
        for stem in track(list(wanted), "evaluate", "files", quiet=args.quiet)
    }
    return rows, {}, {"reference": None, "synthesised": str(args.reference)}


def _compare(args: argparse.Namespace, names: Sequence[str]) -> tuple[Rows, Rows, dict[str, Any]]:
    """The rows of pairs, and what the metrics that need no reference say of the references themselves."""
    from wavediff.metrics import METRICS, check_files, evaluate_file, evaluate_files, match_recordings, read_ids

    matching = match_recordings(args.reference, args.synthesised, read_ids(args.ids) if args.ids else None)
    for stems, folder in ((matching.only_reference, args.synthesised), (matching.only_synthesised, args.reference)):
        if stems:
            some = ", ".join(stems[:5]) + (", ..." if len(stems) > 5 else "")
            _say(f"{len(stems)} without a counterpart in {folder}: {some}")
    for pair in matching.pairs.values():  # headers only, so that a bad pair shows before the long work
        check_files(*pair)
    opinions = [name for name in names if METRICS[name].alone and METRICS[name].higher_is_better]
    rows, recordings = {}, {}
    for stem, (ours, theirs) in track(list(matching.pairs.items()), "evaluate", "files", quiet=args.quiet):
        rows[stem] = evaluate_files(ours, theirs, args.metrics)
        if opinions:
            recordings[stem] = evaluate_file(ours, opinions)
    facts = {"reference": str(args.reference), "synthesised": str(args.synthesised)}
    unmatched = {"only_reference": matching.only_reference, "only_synthesised": matching.only_synthesised}
    return rows, recordings, facts | unmatched


def _say(message: str) -> None:
    say(f"wavediff evaluate: {message}")


def _of_sets(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The report on generated sounds as JSON literals and as tables."""
    from wavediff.metrics.classifier import load_classifier
    from wavediff.metrics.generated import evaluate_generated

    classifier = load_classifier(args.classifier).classifier
    with Progress("evaluate", None, "clips", quiet=args.quiet) as progress:
        report = evaluate_generated(args.synthesised, args.reference, classifier, on_clip=progress.to)
    return {"real": str(args.reference), "generated": str(args.synthesised)} | asdict(report), _tables(report)


def _tables(report: Any) -> str:
    from wavediff.metrics.generated import COPY_CORRELATION

    pairs = ("clips", "accuracy", "confidence", "diversity")
    classes = [["class", *(f"{name}{suffix}" for name in pairs for suffix in ("", " real"))]]
    for label, figures in report.classes.items():
        both = (getattr(figures, name) for name in pairs)
        classes.append([label, *(number(value) for pair in both for value in (pair.generated, pair.real))])
    figures = [["", "generated", "real", ""]]
    for name, pair, meaning in (
        ("accuracy", report.accuracy, "share of clips the classifier takes for their class"),
        ("confidence", report.confidence, "mean probability it gives that class"),
        ("Frechet distance", report.frechet, f"to {report.distance_size} real clips; real: of as many others"),
        ("kernel distance", report.kernel, "likewise; as low as the real one is as good as real"),
        ("precision", report.precision, "share of clips that are like real ones"),
        ("recall", report.recall, "share of real clips that are like one of these"),
        ("coverage", report.coverage, "share of real clips that have one of these near by"),
        ("nearest real clip", report.nearest, f"median distance; ratio {number(report.nearest_ratio)}"),
        ("as near as 5 %", report.near, "share of clips nearer to a real one than 5 % of the real ones are"),
        ("correlation", report.correlation, "median of each one's highest, of spectrograms, with a real clip"),
        ("suspected copies", report.copies, f"share of clips where it is {COPY_CORRELATION} or more"),
        *((fault, pair, "clips") for fault, pair in report.faults.items()),
    ):
        figures.append([name, number(pair.generated), number(pair.real), meaning])
    parts = [table(classes), table(figures)]
    if report.suspected:
        copies = [["correlation", "generated", "may be a copy of"]]
        parts.append(table(copies + [[number(c), clip, of] for clip, (of, c) in report.suspected.items()]))
    if report.faulty:
        parts.append(table([["fault", "generated"]] + [[", ".join(f), clip] for clip, f in report.faulty.items()]))
    if report.left_out:
        parts.append(f"not generated, and left out of the real set: {', '.join(report.left_out)}")
    return "\n\n".join(parts)
