"""The options that several commands have: the same names, the same words."""

import argparse
from pathlib import Path
from typing import Any

from wavediff.diffusion import PUBLISHED, SAMPLERS, SPACINGS, SamplingOptions

MODEL_HELP = "model file, folder, or user/model on the Hugging Face Hub"
"""What `--checkpoint` takes wherever `from_pretrained` loads it."""
SAMPLER_HELP = f"for experts: {', '.join(SAMPLERS)}, with options as in ddim:eta=0.5"

# What a command may say of its own stands in the place of {}.
_COMMON: dict[str, dict[str, Any]] = {
    "checkpoint": {"type": Path, "metavar": "MODEL", "help": f"{MODEL_HELP} (default: {{}})"},
    "device": {"default": "auto", "metavar": "NAME", "help": "auto (default), cpu, cuda, cuda:N or mps"},
    "seed": {"type": int, "default": 0, "metavar": "K", "help": "{} (default 0)"},
    "overwrite": {"action": "store_true", "help": "replace what an earlier run wrote"},
    "quiet": {"action": "store_true", "help": "no progress and no closing words; results, errors and warnings stay"},
    "json": {"action": "store_true", "help": "print {} on standard output, for programs"},
}
_USUALLY = {"checkpoint": "the bundled model", "json": "one JSON object"}


def add_options(parser: argparse._ActionsContainer, *names: str, **words: str) -> None:
    """Options that several commands have, by their names in `_COMMON`.

    Args:
        parser: of the command.
        names: of those that need no words of the command.
        words: name -> what the command says of the option, such as what its seed decides.
    """
    for name in (*names, *words):
        option = _COMMON[name]
        help_ = option["help"].format(words.get(name) or _USUALLY.get(name))
        parser.add_argument(f"--{name}", **option | {"help": help_})


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """`--num-steps`, `--schedule` and `--sampler`, as `Vocoder.plan` takes them."""
    parser.add_argument("--num-steps", type=int, metavar="N", help="network evaluations (default: the model's)")
    schedule_help = f"for experts: {', '.join([*SPACINGS, *PUBLISHED])}, full, or ascending betas: 0.0001,0.01,0.2"
    parser.add_argument("--schedule", metavar="NAME", help=schedule_help)
    parser.add_argument("--sampler", metavar="NAME", help=SAMPLER_HELP)


def parse_names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_schedule(text: str | None) -> str | list[float] | None:
    """A schedule's name, or its betas."""
    try:
        return None if text is None else [float(beta) for beta in text.split(",")]
    except ValueError:
        return text


def sampling_options(args: argparse.Namespace) -> SamplingOptions:
    """What was said of sampling."""
    return SamplingOptions(args.num_steps, parse_schedule(args.schedule), args.sampler, getattr(args, "seed", 0))
