"""Turn a training checkpoint (.ckpt) into a model file (.safetensors), with its averaged weights."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="CKPT", help="full training state, such as runs/NAME/last.ckpt"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="model file to write, .safetensors")
    parser.add_argument("--half", action="store_true", help="store float16: half the size")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    """Export."""
    from wavediff.checkpoint import save_checkpoint
    from wavediff.training.checkpoint_io import trained_model

    config, weights, facts = trained_model(args.checkpoint)
    save_checkpoint(args.output, config, weights, facts, half=args.half, overwrite=args.overwrite)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB, after {facts['steps']} steps")
