"""`wavediff SUBCOMMAND ...`: finds the subcommand, turns errors into one line and an exit status.

Each subcommand is a module of this package with `add_arguments(parser)` and `run(args)`. Exit status: 0 success,
2 bad input or usage, 130 interrupted.
"""

import contextlib
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from wavediff.cli.parser import Parser
from wavediff.cli.progress import say
from wavediff.errors import WavediffError, did_you_mean
from wavediff.version import __version__


class Subcommand(NamedTuple):
    """What the help says of a subcommand; its module is imported only when it is named."""

    group: str
    help: str
    example: str


SUBCOMMANDS = {
    "demo": Subcommand("make sound", "vocode a bundled clip: hear and see what wavediff does", "wavediff demo"),
    "vocode": Subcommand(
        "make sound",
        "turn recordings or mel spectrograms into speech",
        "wavediff vocode recording.wav -o speech.wav",
    ),
    "generate": Subcommand(
        "make sound",
        "make sound effects from nothing, by class or from a recording",
        "wavediff generate --label glass --count 5 -o out/",
    ),
    "serve": Subcommand("make sound", "open a web page to vocode, look and listen", "wavediff serve --open"),
    "prepare": Subcommand(
        "train",
        "scan a corpus and write its manifests",
        "wavediff prepare folder recordings/ -o data/mine",
    ),
    "train": Subcommand(
        "train", "train a model from a YAML recipe", "wavediff train --config recipes/ljspeech/fast.yaml"
    ),
    "search": Subcommand(
        "train",
        "find a vocoder's best few steps, on held-out speech",
        "wavediff search model.safetensors data/mine/valid.jsonl -o search/",
    ),
    "export": Subcommand(
        "train",
        "write a trained model as a model file, ONNX or a program of torch",
        "wavediff export --format onnx -o vocoder.onnx",
    ),
    "import": Subcommand(
        "train", "turn a foreign checkpoint into a model file", "wavediff import weights.pt -o model.safetensors"
    ),
    "evaluate": Subcommand(
        "judge", "compare speech with its reference: a table of metrics", "wavediff evaluate recordings/ out/"
    ),
    "report": Subcommand(
        "judge", "turn a folder of sounds into one web page to listen to", "wavediff report out/ -o page.html"
    ),
    "bench": Subcommand(
        "judge",
        "measure speed, beside the reference implementation, GANs or by itself",
        "wavediff bench --against itself --lengths 1 10",
    ),
    "doctor": Subcommand("inspect", "say which dialect a mel is, and how to decode it", "wavediff doctor mel.npy"),
    "info": Subcommand(
        "inspect",
        "say what is in a model, audio or mel file; without one, what is installed",
        "wavediff info recording.wav",
    ),
}


def overview() -> str:
    """The help of `wavediff` itself: the subcommands in groups, with an example each."""
    lines = ["usage: wavediff COMMAND [options]", ""]
    lines += ["Diffusion models that make sound: speech from mel spectrograms, and sound effects from nothing."]
    group = ""
    for name, subcommand in SUBCOMMANDS.items():
        if subcommand.group != group:
            group = subcommand.group
            lines += ["", group]
        lines += [f"  {name:<10}{subcommand.help}", f"  {'':<10}  {subcommand.example}"]
    lines += [
        "",
        "`wavediff COMMAND --help` explains each; `wavediff --version` prints the version.",
        "`wavediff --completion bash` prints what teaches bash to complete commands, options and files; zsh likewise.",
    ]
    return "\n".join(lines)


def module_of(name: str) -> ModuleType:
    """The module of a subcommand."""
    return importlib.import_module(f"wavediff.cli.{name}_" if name == "import" else f"wavediff.cli.{name}")


def parser_of(name: str) -> Parser:
    """The parser of a subcommand."""
    module = module_of(name)
    parser = Parser(prog=f"wavediff {name}", description=module.__doc__, example=SUBCOMMANDS[name].example)
    module.add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    _mend_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] in ([], ["help"], ["-h"], ["--help"]):
        print(overview())
        return 0
    if argv[0] == "--version":
        print(f"wavediff {__version__}")
        return 0
    name = argv[0]
    if name not in (*SUBCOMMANDS, "--completion"):
        file = f"; for a file say `wavediff vocode {name} -o speech.wav`" if "." in name else ""
        say(f"wavediff: {name}: is no command{did_you_mean(name, SUBCOMMANDS)}; `wavediff --help` lists them{file}")
        return 2
    _show_in_one_line()
    try:
        _run(name, argv[1:])
        sys.stdout.flush()
    except WavediffError as error:
        say(f"wavediff {name}: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        say(f"wavediff {name}: interrupted")
        return 130
    except BrokenPipeError:  # `wavediff info FILE | head`: nobody reads on, so the rest goes nowhere
        with contextlib.suppress(OSError):  # standard output may be an object without a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(name: str, argv: list[str]) -> None:
    if name == "--completion":
        from wavediff.cli.completion import script

        print(script(*argv[:1]))
        return
    module, parser = module_of(name), parser_of(name)
    if hasattr(module, "main"):  # train: LightningCLI parses its own arguments
        module.main(argv, parser)
    else:
        module.run(parser.parse_args(argv))


def _mend_streams() -> None:
    """Let what is said never stop the work: a stream that is missing says it to nobody, others escape what they lack.

    A closed descriptor is filled, too, or the next file that is opened would take its number and what libraries print.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  as long as the process
        elif isinstance(stream, io.TextIOWrapper) and (
            stream.errors == "strict" or (stream.errors == "surrogateescape" and "utf" not in stream.encoding.lower())
        ):
            stream.reconfigure(errors="backslashreplace")


def _show_in_one_line() -> None:
    """Warnings, and what libraries log, as lines of ours that leave a progress bar whole."""
    warnings.showwarning = _one_line_warning
    if not logging.root.handlers:
        handler = _Lines()
        handler.setFormatter(logging.Formatter("wavediff: %(message)s"))
        logging.root.addHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _one_line_warning(message, category, filename, lineno, file=None, line=None) -> None:  # type: ignore[no-untyped-def]
    say(f"wavediff: warning: {' '.join(str(message).split())}")


def entry_point() -> None:
    """What the installed `wavediff` command calls."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
