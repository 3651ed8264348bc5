"""Write a trained model for others: as a model file (.safetensors, of a training checkpoint), or a vocoder as ONNX
(.onnx), as a program of torch (.pt2), or as a page that runs in a browser (a folder), which also makes
sound effects: all run without wavediff.

The ONNX file and the program hold the whole sampler (mel, noise -> speech) or one step of the denoiser (x_t, t, mel ->
x_0), for any batch and length, and say in their metadata which mel, how much noise and which sample rate they mean.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from wavediff.cli.parser import MODEL_HELP, add_options, add_sampling_options, parse_schedule
from wavediff.errors import ConfigError

FORMATS = {"model": ".safetensors", "onnx": ".onnx", "torch": ".pt2", "web": "a folder"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    checkpoint_help = f"training checkpoint, such as runs/NAME/last.ckpt; for the other formats also a {MODEL_HELP}"
    parser.add_argument(
        "checkpoint", nargs="?", type=Path, metavar="CHECKPOINT", help=f"{checkpoint_help} (default: the bundled one)"
    )
    format_help = ", ".join(f"{name} ({suffix})" for name, suffix in FORMATS.items())
    parser.add_argument("--format", choices=FORMATS, default="model", help=f"{format_help}; default model")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="file to write; web: folder, new or empty"
    )
    parser.add_argument("--half", action="store_true", help="model: store float16, half the size")
    parser.add_argument("--what", choices=("step", "sampler"), help="onnx, torch: how much of it (default: sampler)")
    parser.add_argument(
        "--generator", type=Path, metavar="MODEL", help="web: what makes its sounds (default: the bundled generator)"
    )
    runtime_help = "web: folder of the unpacked npm package onnxruntime-web (default: npm fetches it)"
    parser.add_argument("--runtime", type=Path, metavar="DIR", help=runtime_help)
    add_sampling_options(parser)
    add_options(parser, "overwrite", "quiet", "json")


def run(args: argparse.Namespace) -> None:
    """Export."""
    _check(args)
    written = _write_model(args) if args.format == "model" else _write_vocoder(args)
    output = args.output
    size = sum(file.stat().st_size for file in output.iterdir()) if output.is_dir() else output.stat().st_size
    if args.json:
        print(json.dumps({"output": str(args.output), "format": args.format, "bytes": size} | written))
    elif not args.quiet:
        print(f"{args.output}: {size / 1e6:.1f} MB, {_described(written)}")


def _check(args: argparse.Namespace) -> None:
    """Options that belong together.

    Raises:
        ConfigError: one does not.
    """
    sampling = {"--num-steps": args.num_steps, "--schedule": args.schedule, "--sampler": args.sampler}
    given = [name for name, value in sampling.items() if value is not None]
    for name, value in {"--runtime": args.runtime, "--generator": args.generator}.items():
        if value is not None and args.format != "web":
            raise ConfigError(f"{name}: is of pages, not of --format {args.format}; drop it")
    if args.what == "step" and args.format == "web":
        raise ConfigError("--what: a page needs the whole sampler; drop it")
    if args.format == "model":
        if args.checkpoint is None:
            raise ConfigError("CHECKPOINT: a model file is made of a training checkpoint; give runs/NAME/last.ckpt")
        if args.what is not None or given:
            name = "--what" if args.what is not None else given[0]
            raise ConfigError(f"{name}: a model file holds the whole model; choose --format onnx or torch, or drop it")
        return
    if args.half:
        raise ConfigError(f"--half: is for model files, not for --format {args.format}; drop it")
    if args.what == "step" and given:
        raise ConfigError(f"{given[0]}: a step has no sampler, its caller chooses the times; drop it")
    suffix = {"onnx": ".onnx", "torch": ".pt2"}.get(args.format)
    if suffix is not None:  # said before a minute of tracing
        from wavediff.exporting.tracing import check_file

        check_file(args.output, suffix, overwrite=args.overwrite)
    else:
        from wavediff.exporting.web_folder import check_folder

        check_folder(args.output, overwrite=args.overwrite)


def _write_model(args: argparse.Namespace) -> dict[str, Any]:
    from wavediff.models.checkpoint import save_checkpoint
    from wavediff.training.guards import trained_model

    config, weights, facts = trained_model(args.checkpoint)
    save_checkpoint(args.output, config, weights, facts, half=args.half, overwrite=args.overwrite)
    return facts


def _write_vocoder(args: argparse.Namespace) -> dict[str, Any]:
    from wavediff.exporting import What, export_onnx, export_torch, export_web

    vocoder = _vocoder(args.checkpoint)
    what: What = args.what or "sampler"
    plan = None
    if what == "sampler":
        plan = vocoder.plan(args.num_steps, parse_schedule(args.schedule), args.sampler)
    if not args.quiet:
        print("wavediff export: tracing the network, which takes up to a minute ...", file=sys.stderr)
    if args.format == "web":
        from wavediff.pipelines.generator import Generator

        generator = Generator.from_pretrained(args.generator, "cpu")
        options = {"generator": generator, "runtime": args.runtime, "overwrite": args.overwrite}
        return export_web(vocoder, args.output, plan, **options)
    export = export_onnx if args.format == "onnx" else export_torch
    return export(vocoder, args.output, what, plan, overwrite=args.overwrite)


def _vocoder(path: Path | None) -> Any:
    """The vocoder of a model file, of a training checkpoint, or the bundled one."""
    from wavediff.models.checkpoint import Checkpoint
    from wavediff.pipelines.vocoder import Vocoder

    if path is None or path.suffix.lower() != ".ckpt":
        return Vocoder.from_pretrained(path, "cpu")
    from wavediff.training.guards import trained_model  # loads the trainer, which takes seconds

    config, weights, facts = trained_model(path)
    return Vocoder(config, Checkpoint(config, weights, facts, path).build(), facts)


def _described(written: dict[str, Any]) -> str:
    if "what" not in written:
        return f"after {written['steps']} steps"
    if written["what"] == "step":
        return "x_t, t, mel -> x_0"
    if "least_frames" in written:
        return "a page; serve the folder, such as by python -m http.server, and open it in a browser"
    return f"mel, noise -> speech; {written['draws']} draws of noise, {written['evaluations']} evaluations"
