"""`wavediff SUBCOMMAND ...`: finds the subcommand, turns errors into one line and an exit status.

Each subcommand is a module of this package with `add_arguments(parser)` and `run(args)`. Exit status: 0 success,
2 bad input or usage, 130 interrupted.
"""

import contextlib
import errno
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from wavediff.cli.progress import say
from wavediff.errors import ConfigError, WavediffError, did_you_mean, lack_of_memory
from wavediff.version import __version__

if TYPE_CHECKING:
    from wavediff.cli.parser import Parser


class Subcommand(NamedTuple):
    """What the help says of a subcommand; its module is imported only when it is named."""

    group: str
    help: str
    example: str


# Group -> name -> what the help says, and the words of an example behind the name.
_GROUPS = {
    "make sound": {
        "demo": ("vocode a bundled clip: hear and see what wavediff does", ""),
        "vocode": ("turn recordings or mel spectrograms into speech", "recording.wav -o speech.wav"),
        "generate": (
            "make sound effects from nothing, by class or from a recording",
            "--label glass --count 5 -o out/",
        ),
        "serve": ("open a web page to vocode, look and listen", "--open"),
    },
    "train": {
        "prepare": ("scan a corpus and write its manifests", "folder recordings/ -o data/mine"),
        "train": ("train a model from a YAML recipe", "--config recipes/ljspeech/fast.yaml"),
        "search": (
            "find a vocoder's best few steps, on held-out speech",
            "model.safetensors data/mine/valid.jsonl -o search/",
        ),
        "export": (
            "write a trained model as a model file, ONNX or a program of torch",
            "--format onnx -o vocoder.onnx",
        ),
        "import": ("turn a foreign checkpoint into a model file", "weights.pt -o model.safetensors"),
    },
    "judge": {
        "evaluate": ("compare speech with its reference: a table of metrics", "recordings/ out/"),
        "report": ("turn a folder of sounds into one web page to listen to", "out/ -o page.html"),
        "bench": (
            "measure speed, beside the reference implementation, GANs or by itself",
            "--against itself --lengths 1 10",
        ),
    },
    "inspect": {
        "doctor": ("say which dialect a mel is, and how to decode it", "mel.npy"),
        "info": ("say what is in a model, audio or mel file; without one, what is installed", "recording.wav"),
    },
}
SUBCOMMANDS = {
    name: Subcommand(group, help_, f"wavediff {name} {words}".rstrip())
    for group, commands in _GROUPS.items()
    for name, (help_, words) in commands.items()
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


def parser_of(name: str) -> "Parser":
    """The parser of a subcommand."""
    from wavediff.cli.parser import Parser

    module = module_of(name)
    parser = Parser(prog=f"wavediff {name}", description=module.__doc__, example=SUBCOMMANDS[name].example)
    module.add_arguments(parser)
    return parser


def completion(shell: str = "") -> str:
    """The script that completes commands, options, choices and files.

    Args:
        shell: bash, zsh, tcsh or another that shtab knows.

    Raises:
        ConfigError: shtab does not know the shell.
    """
    import shtab

    from wavediff.cli.parser import Parser, actions_of

    known: list[str] = list(shtab.SUPPORTED_SHELLS)
    if shell not in known:
        what = f"is no shell with completion here{did_you_mean(shell, known)}" if shell else "missing"
        raise ConfigError(f"{shell or 'SHELL'}: {what}; choose from {', '.join(known)}")
    whole = Parser(prog="wavediff", description="Diffusion models that make sound.")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers()
    for name, subcommand in SUBCOMMANDS.items():
        module_of(name).add_arguments(commands.add_parser(name, help=subcommand.help))
    for action in actions_of(whole):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    text: str = shtab.complete(whole, shell)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    _mend_streams()
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name not in (*SUBCOMMANDS, "--completion", "--version", "help", "-h", "--help"):
        file = f"; for a file say `wavediff vocode {name} -o speech.wav`" if "." in name else ""
        say(f"wavediff: {name}: is no command{did_you_mean(name, SUBCOMMANDS)}; `wavediff --help` lists them{file}")
        return 2
    _show_in_one_line()
    try:
        _run(name, rest)
        sys.stdout.flush()
    except WavediffError as error:
        say(f"wavediff {name}: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        say(f"wavediff {name}: interrupted")
        return 130
    except (MemoryError, RuntimeError) as error:
        if not (reason := lack_of_memory(error)):
            raise
        say(f"wavediff {name}: out of memory ({reason:.200}); ask for less at once, or free memory")
        return 2
    except BrokenPipeError:  # `wavediff info FILE | head`: nobody reads on
        _give_up_output()
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            _give_up_output()
            what, cure = "standard output: could not be written", "check free space"
        elif error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM):  # of a name that was typed
            what, cure = f"{error.filename}: cannot be looked at", "check the name and the permissions of its folder"
        else:
            raise
        say(f"wavediff {name}: {what} ({error.strerror}); {cure}")
        return 2
    return 0


def _give_up_output() -> None:
    """What is left of the output goes nowhere, or Python would try again as it ends."""
    with contextlib.suppress(OSError):  # standard output may be an object without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(name: str, argv: list[str]) -> None:
    if name in ("help", "-h", "--help", "--version"):
        print(f"wavediff {__version__}" if name == "--version" else overview())
        return
    if name == "--completion":
        print(completion(*argv[:1]))
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
