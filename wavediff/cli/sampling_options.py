"""How a vocoder is sampled, as options of whichever command needs it."""

import argparse

from wavediff.diffusion import PUBLISHED, SAMPLERS, SPACINGS, SamplingOptions


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """`--num-steps`, `--schedule` and `--sampler`, as `Vocoder.plan` takes them."""
    parser.add_argument("--num-steps", type=int, metavar="N", help="network evaluations (default: the model's)")
    schedule_help = f"for experts: {', '.join([*SPACINGS, *PUBLISHED])}, full, or ascending betas: 0.0001,0.01,0.2"
    parser.add_argument("--schedule", help=schedule_help)
    parser.add_argument("--sampler", help=f"for experts: {', '.join(SAMPLERS)}, with options as in ddim:eta=0.5")


def parse_schedule(text: str | None) -> str | list[float] | None:
    """A schedule's name, or its betas."""
    try:
        return None if text is None else [float(beta) for beta in text.split(",")]
    except ValueError:
        return text


def sampling_options(args: argparse.Namespace) -> SamplingOptions:
    """What was said of sampling."""
    return SamplingOptions(args.num_steps, parse_schedule(args.schedule), args.sampler, getattr(args, "seed", 0))
