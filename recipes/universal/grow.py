"""A vocoder with more layers, which look at the past alone and do nothing yet: to go on from, with room to learn.

python recipes/universal/grow.py runs/grown.safetensors --layers 4
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from wavediff.backbones import SpectralConfig
from wavediff.models import WEIGHTS
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import build_denoiser


def main() -> None:
    """Old weights, new layers whose scale is 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="model file to write")
    parser.add_argument("--checkpoint", type=Path, default=WEIGHTS / "vocoder.safetensors", help="default: the bundled")
    parser.add_argument("--layers", type=int, default=4, help="how many more (default 4)")
    args = parser.parse_args()

    small = load_checkpoint(args.checkpoint)
    backbone = small.config.backbone
    if not isinstance(backbone, SpectralConfig):
        raise SystemExit(f"{args.checkpoint}: holds no network at frame rate; give a model of fast.yaml")
    layers, causal = backbone.layers + args.layers, backbone.causal_layers + args.layers
    config = dataclasses.replace(
        small.config, backbone=dataclasses.replace(backbone, layers=layers, causal_layers=causal)
    )
    torch.manual_seed(0)
    weights = build_denoiser(config).state_dict()
    for name in weights:
        if name in small.weights:
            weights[name] = small.weights[name]
        elif name.endswith(".scale"):
            weights[name] = torch.zeros_like(weights[name])
    save_checkpoint(args.output, config, weights, small.facts)


if __name__ == "__main__":
    main()
