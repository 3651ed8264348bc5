"""Draw a run's losses: `python recipes/ljspeech/loss_curve.py runs/diffwave_small -o recipes/ljspeech/loss.png`."""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    """Read the TensorBoard events, draw, and print the last validation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()

    events = EventAccumulator(str(args.run), size_guidance={"scalars": 0}).Reload()
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    train = [(event.step, event.value) for event in events.Scalars("train/loss")]
    axes.plot(*zip(*train, strict=True), color="0.8", linewidth=0.6, label="train")
    for tag in sorted(tag for tag in events.Tags()["scalars"] if tag.startswith("valid/loss")):
        curve = [(event.step, event.value) for event in events.Scalars(tag)]
        axes.plot(*zip(*curve, strict=True), label=tag.removeprefix("valid/"))
        print(f"{tag} {curve[-1][1]:.4f} after {curve[-1][0]} steps")
    axes.set(xlabel="optimiser steps", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(args.output, dpi=100)


if __name__ == "__main__":
    main()
