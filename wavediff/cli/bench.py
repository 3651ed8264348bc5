"""Measure speed: beside the reference implementation or others, or as a vocoder's length and batch grow."""

import argparse
import json
from typing import Any

from wavediff.arguments import real, whole
from wavediff.cli.parser import add_number, add_options
from wavediff.cli.progress import Progress
from wavediff.errors import ConfigError

LENGTHS = [1.0, 10.0, 60.0, 600.0, 3600.0]
BATCHES = [1, 4, 16, 64]
MAX_SECONDS, MAX_BATCH = 100_000, 10_000

OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {  # default, and what it is for
    "checkpoint": (None, ("gans", "itself")),
    "lengths": (LENGTHS, ("itself",)),
    "batches": (BATCHES, ("itself",)),
    "seconds": (5.0, ("diffwave", "gans")),
    "batch_size": (4, ("diffwave",)),
    "channels": (64, ("diffwave",)),
    "layers": (30, ("diffwave",)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    against_help = (
        "the lmnt implementation of DiffWave (default); Vocos and HiFi-GAN V1 beside a vocoder of ours; or a vocoder "
        "of ours by itself: growth with length and batch, memory, latency of its stream, share of the roofline"
    )
    parser.add_argument("--against", choices=["diffwave", "gans", "itself"], default="diffwave", help=against_help)
    add_options(parser, "checkpoint")
    numbers = {"type": float, "nargs": "+", "metavar": "N"}
    parser.add_argument("--lengths", **numbers, help="against itself: of the speech [s]")  # type: ignore[arg-type]
    parser.add_argument("--batches", type=int, nargs="+", metavar="N", help="against itself: items")
    add_options(parser, "device")
    parser.add_argument("--seconds", type=float, help="against diffwave and gans: of speech to vocode (default 5)")
    parser.add_argument("--batch-size", type=int, help="against diffwave: of training steps (default 4)")
    parser.add_argument("--channels", type=int, help="against diffwave: of the network (default 64, BASE)")
    parser.add_argument("--layers", type=int, help="against diffwave: of the network (default 30, BASE)")
    add_number(parser, "--repeats", 5, "N", "timed turns each")
    add_options(parser, "quiet", "json")


def run(args: argparse.Namespace) -> None:
    """Measure, then show medians, spread and ratios."""
    from wavediff.bench.machine import machine
    from wavediff.pipelines.pipeline import pick_device

    for name, (default, kinds) in OPTIONS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
        elif args.against not in kinds:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option}: is for --against {' and '.join(kinds)}, not {args.against}; leave it out")
    for option, lengths in (("--seconds", [args.seconds]), ("--lengths", args.lengths)):
        for seconds in lengths:
            real(seconds, option, f"above 0 and at most {MAX_SECONDS}", lambda s: 0 < s <= MAX_SECONDS, ConfigError)
    for option, counts in (("--batch-size", [args.batch_size]), ("--batches", args.batches)):
        for count in counts:
            whole(count, option, 1, MAX_BATCH, ConfigError)
    whole(args.repeats, "--repeats", 1, None, ConfigError)
    measure = {"diffwave": _beside_diffwave, "gans": _beside_gans, "itself": _by_itself}[args.against]
    hardware, (results, lines) = machine(pick_device(args.device)), measure(args)
    print(json.dumps({"machine": hardware} | results) if args.json else "\n".join([hardware, *lines]))


def _beside_diffwave(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """What was measured, and what is said of it."""
    from wavediff.bench.side_by_side import Comparison, ratios

    comparison = Comparison(args.device, args.channels, args.layers)
    contenders = 8 if comparison.device.type == "cuda" else 6 if comparison.bfloat16 else 4
    with Progress("bench", contenders * (args.repeats + 1), "turns", quiet=args.quiet) as progress:
        vocoding = comparison.vocoding(args.seconds, args.repeats, progress.update)
        training = comparison.training(args.batch_size, args.repeats, progress.update)
    results: dict[str, Any] = {}
    lines = [] if comparison.bfloat16 else ["bf16 left out: this CPU has no instructions for bfloat16"]
    for task, timings in (("vocoding", vocoding), ("training", training)):
        results[task], speedups = [timing.to_dict() for timing in timings], ratios(timings, args.against)
        results[f"{task}_speedup"] = speedups
        for row in results[task]:
            speedup, peak = speedups.get(row["name"]), row["peak_bytes"]
            beside = f", {speedup:.2f} times as fast as {args.against}" if speedup else ""
            memory = "" if peak is None else f", {peak / 1e6:.0f} MB"
            lines.append(f"{task:<9} {row['name']:<14} {_took(row, 2)}{memory}{_launched(row)}{beside}")
    return results, lines


def _beside_gans(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from wavediff.bench.side_by_side import STEPS, time_beside_gans
    from wavediff.pipelines.vocoder import Vocoder

    vocoder = Vocoder.from_pretrained(args.checkpoint, args.device)
    with Progress("bench", (len(STEPS) + 2) * (args.repeats + 1), "turns", quiet=args.quiet) as progress:
        timings = time_beside_gans(vocoder, args.seconds, args.repeats, on_repeat=progress.update)
    rows = [timing.to_dict() for timing in timings]
    lines = [f"{row['name']:<18} {_took(row, 3)}{_launched(row)}" for row in rows]
    return {"vocoding": rows}, lines


def _by_itself(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from wavediff.bench.scaling import measure
    from wavediff.pipelines.vocoder import Vocoder

    vocoder = Vocoder.from_pretrained(args.checkpoint, args.device)
    with Progress("bench", len(args.lengths) + len(args.batches), "rows", quiet=args.quiet) as progress:
        results = measure(vocoder, args.lengths, args.batches, args.repeats, progress.update)
    lines = []
    for row in (*results["growth"], *results["batches"]):
        what = f"{row['audio_seconds']:g} s" if "audio_seconds" in row else f"{row['batch']} x 5 s"
        peak = row["peak_bytes_besides_speech"]
        memory = "" if peak is None else f", {peak / 1e6:.0f} MB besides the speech"
        lines.append(f"{what:<10} {_took(row, 3)}{memory}{_launched(row)}")
    for name, row in results["latency"].items():
        compute = f"{1000 * row['compute_seconds_to_first_chunk']:.0f} ms of compute to the first chunk"
        lines.append(f"stream, {name}: {compute}, {row['late_milliseconds']:.0f} ms late")
    for row in results["streams"]:
        each, share = 1000 * row["seconds_together"], row["seconds_together"] / row["seconds_alone"] / row["streams"]
        lines.append(
            f"{row['streams']} streams at once: {each:.1f} ms for {1000 * row['audio_seconds']:.0f} ms of each, "
            f"{share:.2f} of what they cost one by one"
        )
    roof = results["roofline"]
    lines.append(
        f"matrix products {roof['gemm_rate'] / 1e9:.0f} GFLOP/s, copies {roof['copy_rate'] / 1e9:.0f} GB/s; network "
        f"{roof['operations_per_audio_second'] / 1e9:.2f} GFLOP per second of speech, at "
        f"{roof['share_of_gemm_rate_network']:.0%} of that rate, with all else {roof['share_of_gemm_rate_whole']:.0%}"
    )
    return results, lines


def _took(row: dict[str, Any], digits: int) -> str:
    spread = f"{row['fastest_seconds']:.{digits}f} to {row['slowest_seconds']:.{digits}f} s"
    return f"{row['median_seconds']:.{digits}f} s ({spread}), rtf {row['rtf']:.4g}"


def _launched(row: dict[str, Any]) -> str:
    return "" if row["launches"] is None else f", {row['launches']} launches"
