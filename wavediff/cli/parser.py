"""How a command reads its options: help with an example, and a mistake answered by one line with its cure; and the
options that several commands have, by the same names and in the same words.
"""

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from wavediff.diffusion import PUBLISHED, SAMPLERS, SPACINGS, SamplingOptions
from wavediff.errors import did_you_mean
from wavediff.places import Place, place

_KINDS = {"int": "a whole number", "float": "a number"}


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one line what is wrong.

    Args:
        example: a command as it is typed, shown in the help and to those who leave something out.
    """

    def __init__(self, *args: object, example: str | None = None, **options: object) -> None:
        options.setdefault("formatter_class", _Formatter)
        super().__init__(*args, **options)  # type: ignore[arg-type]
        for kind in (Path, place):
            self.register("type", kind, functools.partial(_named, kind))
        self.example = example
        if example is not None:
            self.epilog = f"example:\n  {example}"

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it; what was given is remembered for what may be said of it."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """One line on standard error, exit status 2."""
        dashed = next((word for word in self._given if word.startswith("-") and Path(word).exists()), None)
        what = f"{dashed}: a name with a dash first is taken for an option; write ./{dashed}" if dashed else None
        self.exit(2, f"{self.prog}: {what or self._explained(message)}\n")

    def _explained(self, message: str) -> str:
        see = f"`{self.prog} --help` explains"
        if found := re.match(r"unrecognized arguments: (.*)", message):
            given = next((word for word in found[1].split() if word.startswith("-")), None)
            if given is None:
                return f"{found[1]}: is too much; quote a name that holds spaces ({see} the rest)"
            name, known = given.partition("=")[0], [o for action in actions_of(self) for o in action.option_strings]
            return f"{name}: is no option of this command{did_you_mean(name, known)}; {see} all"
        if found := re.match(r"the following arguments are required: (.*)", message):
            example = f"for example: {self.example}" if self.example else see
            return f"{found[1]}: missing; {example}"
        if found := re.match(r"argument (.*): invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
            choices = found[3].replace("'", "").split(", ")
            meant = did_you_mean(found[2], choices)
            return f"{found[1]}: {found[2]} is unknown{meant}; choose from {', '.join(choices)}"
        if found := re.match(r"argument (.*): invalid (int|float) value: (.*)", message):
            return f"{found[1]}: {found[3]} is not {_KINDS[found[2]]}; give one"
        if found := re.match(r"argument (.*): expected one argument", message):
            return f"{found[1]}: needs a value; of a name with a dash first write ./-name ({see} the rest)"
        return f"{message.removeprefix('argument ')}; {see}"


def _named(kind: Callable[[str], Place], text: str) -> Place:
    """Takes no empty name: a variable of the shell that is not set would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a file or a folder")
    return kind(text)


class _Formatter(argparse.HelpFormatter):
    """Wraps the description, and leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(
            part if part.startswith("example") else super(_Formatter, self)._fill_text(part, width, indent)
            for part in paragraphs
        )


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of those below it, such as `prepare CORPUS`."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions_of(below)


MODEL_HELP = "model file, folder, or user/model on the Hugging Face Hub"
"""What `--checkpoint` takes wherever `from_pretrained` loads it."""
SAMPLER_HELP = f"for experts: {', '.join(SAMPLERS)}, with options as in ddim:eta=0.5"

# What a command may say of its own stands in the place of {}.
_COMMON: dict[str, dict[str, Any]] = {
    "checkpoint": {"type": Path, "metavar": "MODEL", "help": f"{MODEL_HELP} (default: {{}})"},
    "device": {"default": "auto", "metavar": "NAME", "help": "auto (default), cpu, cuda, cuda:N or mps"},
    "seed": {"type": int, "default": 0, "metavar": "K", "help": "{} (default 0)"},
    "overwrite": {"action": "store_true", "help": "replace what an earlier run wrote"},
    "resume": {"action": "store_true", "help": "go on with a run that stopped: skip existing outputs"},
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


def add_number(parser: argparse._ActionsContainer, option: str, default: float, metavar: str, what: str) -> None:
    """An option that is a number, of the type of its default, which its help tells."""
    help_ = f"{what} (default {default:g})"
    parser.add_argument(option, type=type(default), default=default, metavar=metavar, help=help_)


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
