"""Completion for shells: a script, made once, so that a press of the tab key loads nothing of wavediff."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from wavediff.cli.main import SUBCOMMANDS, module_of
from wavediff.cli.parser import Parser
from wavediff.errors import ConfigError, did_you_mean


def script(shell: str = "") -> str:
    """The script that completes commands, options, choices and files.

    Args:
        shell: bash, zsh, tcsh or another that shtab knows.

    Raises:
        ConfigError: shtab does not know the shell.
    """
    import shtab

    known: list[str] = list(shtab.SUPPORTED_SHELLS)
    if shell not in known:
        what = f"is no shell with completion here{did_you_mean(shell, known)}" if shell else "missing"
        raise ConfigError(f"{shell or 'SHELL'}: {what}; choose from {', '.join(known)}")
    whole = Parser(prog="wavediff", description="Diffusion models that make sound.")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers()
    for name, subcommand in SUBCOMMANDS.items():
        module_of(name).add_arguments(commands.add_parser(name, help=subcommand.help))
    for action in _actions(whole):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    text: str = shtab.complete(whole, shell)
    return text


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of a parser and of those below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
