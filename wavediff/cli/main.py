"""`wavediff SUBCOMMAND ...`: finds the subcommand, turns errors into one line and an exit status.

Each subcommand is a module of this package with `HELP` (one line), `add_arguments(parser)` and
`run(args)`. Exit status: 0 success, 2 bad input or usage, 130 interrupted.
"""

import argparse
import contextlib
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavediff.errors import WavediffError
from wavediff.version import __version__

# Imported only when named, so that each subcommand loads no more than it needs.
SUBCOMMANDS = {
    "demo": "vocode a bundled clip: hear and see what wavediff does",
    "generate": "make sounds from nothing, by class or from a recording",
    "vocode": "turn recordings or mel spectrograms into speech",
    "prepare": "scan a corpus and write its manifests",
    "train": "train a model from a YAML recipe",
    "search": "find a vocoder's best few steps, on held-out speech",
    "evaluate": "compare synthesised speech with its reference",
    "report": "turn a folder of sounds into one web page to listen to",
    "serve": "a web page to vocode, look and listen",
    "export": "write a trained model as a model file, ONNX or a program of torch",
    "import": "turn a foreign checkpoint into a model file",
    "bench": "measure speed, beside the reference implementation, GANs or by itself",
    "doctor": "say which dialect a mel is, and how to decode it",
    "info": "say what is in a model, audio or mel file",
}


class Parser(argparse.ArgumentParser):
    """Takes no empty name of a file or folder: a variable of the shell that is not set would be the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("type", Path, _path)


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a file or a folder")
    return Path(text)


def build_parser() -> argparse.ArgumentParser:
    """The top-level parser; subcommands are only names here."""
    width = max(map(len, SUBCOMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {help_}" for name, help_ in SUBCOMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="wavediff",
        description="Diffusion models that make sound.",
        epilog=f"subcommands:\n{listing}\n\n`wavediff SUBCOMMAND --help` explains each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wavediff {__version__}")
    parser.add_argument("subcommand", choices=SUBCOMMANDS, metavar="SUBCOMMAND")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    _mend_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    name = build_parser().parse_args(argv[:1]).subcommand
    module = importlib.import_module(f"wavediff.cli.{name}_" if name == "import" else f"wavediff.cli.{name}")
    logging.basicConfig(format="wavediff: %(message)s", level=logging.INFO)
    warnings.showwarning = _one_line_warning
    try:
        if hasattr(module, "main"):  # train: LightningCLI parses its own arguments
            module.main(argv[1:])
        else:
            parser = Parser(prog=f"wavediff {name}", description=module.__doc__)
            module.add_arguments(parser)
            module.run(parser.parse_args(argv[1:]))
        sys.stdout.flush()
    except WavediffError as error:
        print(f"wavediff {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"wavediff {name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `wavediff info FILE | head`: nobody reads on, so the rest goes nowhere
        with contextlib.suppress(OSError):  # standard output may be an object without a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


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


def _one_line_warning(message, category, filename, lineno, file=None, line=None) -> None:  # type: ignore[no-untyped-def]
    print(f"wavediff: warning: {' '.join(str(message).split())}", file=sys.stderr)


def entry_point() -> None:
    """What the installed `wavediff` command calls."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
