"""Turn a foreign DiffWave checkpoint into a model file: `weights.pt` of the lmnt diffwave package, or a `.pkl` of
the paper's author. Nothing that the file holds is run. (Our own training checkpoints: `wavediff export`.)
"""

import argparse
import json
from pathlib import Path

from wavediff.cli.parser import add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the foreign checkpoint")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.safetensors", help="model file to write"
    )
    parser.add_argument(
        "--layout",
        choices=("auto", "lmnt", "author"),
        default="auto",
        help="whose file it is (default: told by its keys)",
    )
    mel_help = "format of the mels that it was trained on (default: the layout's own)"
    parser.add_argument("--mel-spec", metavar="PRESET", help=mel_help)
    parser.add_argument("--num-steps", type=int, metavar="T", help="training steps T, where the file does not tell")
    parser.add_argument(
        "--beta-max", type=float, metavar="B", help="last beta of training, where the file does not tell"
    )
    add_options(parser, "overwrite", "quiet", "json")


def run(args: argparse.Namespace) -> None:
    """Import."""
    from wavediff.models.checkpoint import save_checkpoint
    from wavediff.models.importing import import_checkpoint

    model = import_checkpoint(
        args.file, layout=args.layout, mel=args.mel_spec, num_steps=args.num_steps, beta_max=args.beta_max
    )
    save_checkpoint(args.output, model.config, model.weights, model.facts, overwrite=args.overwrite)
    if args.json:
        found = {"source": str(args.file), "output": str(args.output), "config": model.config.to_dict()}
        print(json.dumps(found | {"facts": model.facts}, allow_nan=False))
        return
    if args.quiet:
        return
    trained = (
        f"trained for {model.facts['steps']} steps" if "steps" in model.facts else "does not tell how long it trained"
    )
    print(f"{args.file}: {model.facts['layout']} layout, {trained}")
    parts = model.config.to_dict()
    network, steps = parts["backbone"], parts["schedule"]
    print("network   DiffWave, {channels} channels, {layers} layers, cycle {dilation_cycle}".format(**network))
    print("schedule  {num_steps} steps, beta {beta_min:g} to {beta_max:g}".format(**steps))
    if model.config.mel is not None:
        print(f"mel       {model.config.mel.describe()}")
    if model.facts["assumed"]:
        print(f"assumed   {'; '.join(model.facts['assumed'])} (the file does not tell)")
    print(f"wrote {args.output}")
