"""Measure speed: beside the reference implementation or others, or as a vocoder's length and batch grow."""

import argparse
import json
from typing import Any

from wavediff.cli.options import add_checkpoint, add_device, add_json, add_quiet
from wavediff.cli.progress import Progress

LENGTHS = [1.0, 10.0, 60.0, 600.0, 3600.0]
BATCHES = [1, 4, 16, 64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    against_help = (
        "the lmnt implementation of DiffWave (default); Vocos and HiFi-GAN V1 beside a vocoder of ours; or a vocoder "
        "of ours by itself: growth with length and batch, memory, latency of its stream, share of the roofline"
    )
    parser.add_argument("--against", choices=["diffwave", "gans", "itself"], default="diffwave", help=against_help)
    add_checkpoint(parser)
    numbers = {"type": float, "nargs": "+", "metavar": "N"}
    parser.add_argument("--lengths", **numbers, default=LENGTHS, help="against itself: of the speech [s]")  # type: ignore[arg-type]
    parser.add_argument("--batches", type=int, nargs="+", metavar="N", default=BATCHES, help="against itself: items")
    add_device(parser)
    parser.add_argument("--seconds", type=float, default=5.0, help="of speech to vocode (default 5)")
    parser.add_argument("--batch-size", type=int, default=4, help="of training steps (default 4)")
    parser.add_argument("--channels", type=int, default=64, help="of the network (default 64, BASE)")
    parser.add_argument("--layers", type=int, default=30, help="of the network (default 30, BASE)")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns each (default 5)")
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Measure, then show medians, spread and ratios."""
    from wavediff.bench.side_by_side import Comparison, machine, ratios
    from wavediff.errors import ConfigError

    if min(args.seconds, args.batch_size, args.repeats) <= 0:
        raise ConfigError("--seconds, --batch-size and --repeats must be above zero")
    if min([*args.lengths, *args.batches]) <= 0:
        raise ConfigError("--lengths and --batches must be above zero")
    if args.against == "itself":
        _run_itself(args)
        return
    if args.against == "gans":
        _run_gans(args)
        return
    comparison = Comparison(args.device, args.channels, args.layers)
    contenders = 8 if comparison.device.type == "cuda" else 6 if comparison.bfloat16 else 4
    turns = contenders * (args.repeats + 1)
    with Progress("bench", turns, "turns", quiet=args.quiet) as progress:
        vocoding = comparison.vocoding(args.seconds, args.repeats, progress.update)
        training = comparison.training(args.batch_size, args.repeats, progress.update)
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
    if not comparison.bfloat16:
        print("bf16 left out: this CPU has no instructions for bfloat16")
    for task, timings in (("vocoding", vocoding), ("training", training)):
        for timing in timings:
            row = timing.to_dict()
            spread = f"{row['fastest_seconds']:.2f} to {row['slowest_seconds']:.2f} s"
            speedup = ratios(timings, args.against).get(timing.name)
            beside = f", {speedup:.2f} times as fast as {args.against}" if speedup else ""
            peak = "" if timing.peak_bytes is None else f", {timing.peak_bytes / 1e6:.0f} MB"
            peak += _launched(row)
            median = f"{row['median_seconds']:.2f} s ({spread})"
            print(f"{task:<9} {timing.name:<14} {median}, rtf {row['rtf']:.2f}{peak}{beside}")


def _launched(row: dict[str, Any]) -> str:
    return "" if row["launches"] is None else f", {row['launches']} launches"


def _run_itself(args: argparse.Namespace) -> None:
    from wavediff.bench.scaling import measure
    from wavediff.bench.side_by_side import machine
    from wavediff.pipelines.vocoder import Vocoder

    vocoder = Vocoder.from_pretrained(args.checkpoint, args.device)
    with Progress("bench", len(args.lengths) + len(args.batches), "rows", quiet=args.quiet) as progress:
        results = measure(vocoder, args.lengths, args.batches, args.repeats, progress.update)
    results["machine"] = machine(vocoder.device)
    if args.json:
        print(json.dumps(results))
        return
    print(results["machine"])
    for row in (*results["growth"], *results["batches"]):
        what = f"{row['audio_seconds']:g} s" if "audio_seconds" in row else f"{row['batch']} x 5 s"
        spread = f"{row['fastest_seconds']:.3f} to {row['slowest_seconds']:.3f} s"
        peak = row["peak_bytes_besides_speech"]
        memory = "" if peak is None else f", {peak / 1e6:.0f} MB besides the speech"
        print(f"{what:<10} {row['median_seconds']:.3f} s ({spread}), rtf {row['rtf']:.4f}{memory}{_launched(row)}")
    for name, row in results["latency"].items():
        compute = 1000 * row["compute_seconds_to_first_chunk"]
        print(f"stream, {name}: {compute:.0f} ms of compute to the first chunk, {row['late_milliseconds']:.0f} ms late")
    for row in results["streams"]:
        each, share = 1000 * row["seconds_together"], row["seconds_together"] / row["seconds_alone"] / row["streams"]
        print(
            f"{row['streams']} streams at once: {each:.1f} ms for {1000 * row['audio_seconds']:.0f} ms of each, "
            f"{share:.2f} of what they cost one by one"
        )
    roof = results["roofline"]
    print(
        f"matrix products {roof['gemm_rate'] / 1e9:.0f} GFLOP/s, copies {roof['copy_rate'] / 1e9:.0f} GB/s; network "
        f"{roof['operations_per_audio_second'] / 1e9:.2f} GFLOP per second of speech, at "
        f"{roof['share_of_gemm_rate_network']:.0%} of that rate, with all else {roof['share_of_gemm_rate_whole']:.0%}"
    )


def _run_gans(args: argparse.Namespace) -> None:
    from wavediff.bench.gans import STEPS, time_beside_gans
    from wavediff.bench.side_by_side import machine
    from wavediff.pipelines.vocoder import Vocoder

    vocoder = Vocoder.from_pretrained(args.checkpoint, args.device)
    with Progress("bench", (len(STEPS) + 2) * (args.repeats + 1), "turns", quiet=args.quiet) as progress:
        timings = time_beside_gans(vocoder, args.seconds, args.repeats, on_repeat=progress.update)
    rows = [timing.to_dict() for timing in timings]
    if args.json:
        print(json.dumps({"machine": machine(vocoder.device), "vocoding": rows}))
        return
    print(machine(vocoder.device))
    for row in rows:
        spread = f"{row['fastest_seconds']:.3f} to {row['slowest_seconds']:.3f} s"
        median = f"{row['median_seconds']:.3f} s ({spread})"
        print(f"{row['name']:<18} {median}, rtf {row['rtf']:.4f}{_launched(row)}")
