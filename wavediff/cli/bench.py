"""Measure speed beside the reference implementation: vocoding and training steps, the same weights in alternation."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("--against", choices=["diffwave"], default="diffwave", help="the reference (default diffwave)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--seconds", type=float, default=5.0, help="of speech to vocode (default 5)")
    parser.add_argument("--batch-size", type=int, default=4, help="of training steps (default 4)")
    parser.add_argument("--channels", type=int, default=64, help="of the network (default 64, BASE)")
    parser.add_argument("--layers", type=int, default=30, help="of the network (default 30, BASE)")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns each (default 5)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> None:
    """Measure, then show medians, spread and ratios."""
    from tqdm import tqdm

    from wavediff.benchmark import Comparison, machine, ratios
    from wavediff.errors import ConfigError

    if min(args.seconds, args.batch_size, args.repeats) <= 0:
        raise ConfigError("--seconds, --batch-size and --repeats must be above zero")
    comparison = Comparison(args.device, args.channels, args.layers)
    turns = 5 * (args.repeats + 1)
    with tqdm(total=turns, unit="turn", disable=args.quiet) as bar:
        vocoding = comparison.vocoding(args.seconds, args.repeats, lambda: bar.update(1))
        training = comparison.training(args.batch_size, args.repeats, lambda: bar.update(1))
    results = {
        "machine": machine(comparison.device),
        "vocoding": [timing.to_dict() for timing in vocoding],
        "vocoding_speedup": ratios(vocoding, args.against),
        "training": [timing.to_dict() for timing in training],
        "training_speedup": ratios(training, args.against),
    }
    if args.json:
        print(json.dumps(results))
        return
    print(results["machine"])
    for task, timings in (("vocoding", vocoding), ("training", training)):
        for timing in timings:
            row = timing.to_dict()
            spread = f"{row['fastest_seconds']:.2f} to {row['slowest_seconds']:.2f} s"
            speedup = ratios(timings, args.against).get(timing.name)
            beside = f", {speedup:.2f} times as fast as {args.against}" if speedup else ""
            print(f"{task:<9} {timing.name:<14} {row['median_seconds']:.2f} s ({spread}), rtf {row['rtf']:.2f}{beside}")
