"""`wavediff evaluate --generated`: what is printed of `metrics.evaluate_generated`."""

import argparse
import dataclasses
import json
from typing import Any

from wavediff.cli.progress import Progress
from wavediff.cli.tables import number, table
from wavediff.errors import ConfigError
from wavediff.files import atomic_write, check_output


def run(args: argparse.Namespace) -> None:
    """Compare, then print tables or JSON, and write the JSON where a file is named."""
    from wavediff.metrics.classifier import load_classifier
    from wavediff.metrics.generated import evaluate_generated

    if args.metrics is not None or args.ids is not None:
        raise ConfigError("--generated: computes metrics of its own, of all clips; leave --metrics and --ids out")
    if args.output:
        check_output(args.output, overwrite=args.overwrite)
    classifier = load_classifier(args.classifier).classifier
    with Progress("evaluate", None, "clips", quiet=args.quiet) as progress:
        report = evaluate_generated(args.synthesised, args.reference, classifier, on_clip=progress.to)
    names = {"real": str(args.reference), "generated": str(args.synthesised)}
    text = json.dumps(names | dataclasses.asdict(report), indent=2, allow_nan=False)
    if args.output:
        with atomic_write(args.output, overwrite=args.overwrite) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    print(text if args.json else _tables(report))


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
