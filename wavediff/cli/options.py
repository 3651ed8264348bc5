"""The options that several commands have: the same names, the same words."""

import argparse
from pathlib import Path

from wavediff.cli import MODEL_HELP
from wavediff.diffusion import PUBLISHED, SAMPLERS, SPACINGS, SamplingOptions

SAMPLER_HELP = f"for experts: {', '.join(SAMPLERS)}, with options as in ddim:eta=0.5"


def add_checkpoint(parser: argparse._ActionsContainer, default: str = "the bundled model") -> None:
    """`--checkpoint`, as `from_pretrained` takes it."""
    parser.add_argument("--checkpoint", type=Path, metavar="MODEL", help=f"{MODEL_HELP} (default: {default})")


def add_device(parser: argparse._ActionsContainer) -> None:
    """`--device`, as `from_pretrained` takes it."""
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:N or mps")


def add_seed(parser: argparse._ActionsContainer, what: str) -> None:
    """`--seed`."""
    parser.add_argument("--seed", type=int, default=0, metavar="K", help=f"{what} (default 0)")


def add_quiet(parser: argparse._ActionsContainer) -> None:
    """`--quiet`."""
    parser.add_argument(
        "--quiet", action="store_true", help="no progress and no closing words; results, errors and warnings stay"
    )


def add_json(parser: argparse._ActionsContainer, what: str = "one JSON object") -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=f"print {what} on standard output, for programs")


def add_overwrite(parser: argparse._ActionsContainer) -> None:
    """`--overwrite`."""
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """`--num-steps`, `--schedule` and `--sampler`, as `Vocoder.plan` takes them."""
    parser.add_argument("--num-steps", type=int, metavar="N", help="network evaluations (default: the model's)")
    schedule_help = f"for experts: {', '.join([*SPACINGS, *PUBLISHED])}, full, or ascending betas: 0.0001,0.01,0.2"
    parser.add_argument("--schedule", metavar="NAME", help=schedule_help)
    parser.add_argument("--sampler", metavar="NAME", help=SAMPLER_HELP)


def parse_schedule(text: str | None) -> str | list[float] | None:
    """A schedule's name, or its betas."""
    try:
        return None if text is None else [float(beta) for beta in text.split(",")]
    except ValueError:
        return text


def sampling_options(args: argparse.Namespace) -> SamplingOptions:
    """What was said of sampling."""
    return SamplingOptions(args.num_steps, parse_schedule(args.schedule), args.sampler, getattr(args, "seed", 0))
