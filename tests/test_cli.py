"""The command line: exit statuses, errors of one line, and help for every subcommand."""

import importlib
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from handmade import saved, wav

import wavediff
from wavediff.cli.main import SUBCOMMANDS, main, parser_of
from wavediff.errors import AudioError, WavediffError

COMMAND = [sys.executable, "-m", "wavediff.cli.main"]


@pytest.fixture(autouse=True)
def own_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` replaces how warnings are shown; other tests get theirs back."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Runs `wavediff info FILE` with its work replaced."""

    def run(work: Callable[[], object]) -> int:
        monkeypatch.setattr(_module("info"), "run", lambda args: work())
        return main(["info", "a.wav"])

    return run


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"wavediff.cli.{name}")


def _raises(error: BaseException) -> Callable[[], object]:
    def work() -> None:
        raise error

    return work


def _exit_status(argv: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    return caught.value.code


def test_help_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--help"], ["help"]):
        assert main(argv) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        for name, subcommand in SUBCOMMANDS.items():
            assert subcommand.group in lines
            place = next(n for n, line in enumerate(lines) if line.split(maxsplit=1) == [name, subcommand.help])
            assert lines[place + 1] == subcommand.example


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_example_of_a_subcommand_has_options_that_it_takes(name: str) -> None:
    program, command, *arguments = SUBCOMMANDS[name].example.split()
    assert (program, command) == ("wavediff", name)
    parser_of(name).parse_args(arguments)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([name, "--help"]) if name == "train" else _exit_status([name, "--help"])
    assert not status
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: ")
    assert printed.out.rstrip().endswith(f"example:\n  {SUBCOMMANDS[name].example}")
    assert len(printed.out.splitlines()) < 75
    assert printed.err == ""


def test_info_without_a_file_says_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["wavediff"] == wavediff.__version__
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert f"{torch.get_num_threads()} threads" in facts["devices"]["cpu"]
    assert set(facts["extras"]) == {"serve", "onnx", "hub", "ray", "shards", "s3", "eval"}
    for state in facts["extras"].values():
        assert state == "installed" or "pip install 'wavediff[" in state


@pytest.mark.parametrize("name", ["demo", "vocode", "generate", "train", "search", "export", "import", "report"])
def test_what_makes_something_prints_json_and_overwrites_only_when_told(name: str) -> None:
    options = parser_of(name)._option_string_actions
    assert {"--json", "--quiet"} <= options.keys()
    assert "--overwrite" in options or name == "train"  # whose folder is a run, to be resumed or left alone


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wavediff {wavediff.__version__}\n"


@pytest.mark.parametrize("argv", [["vocode", "", "-o", "x"], ["vocode", "a.wav", "-o", ""], ["prepare", "folder", ""]])
def test_an_empty_name_is_not_the_current_folder(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert "is empty; name a file or a folder" in capsys.readouterr().err


@pytest.mark.parametrize("error", [WavediffError("a.wav: cause;\n  cure"), AudioError("a.wav: cause; cure")])
def test_an_error_is_one_line_and_status_2(
    error: WavediffError, running: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert running(_raises(error)) == 2
    assert capsys.readouterr() == ("", "wavediff info: a.wav: cause; cure\n")


def test_an_interrupt_is_one_line_and_status_130(
    running: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert running(_raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "wavediff info: interrupted\n")


def test_an_interrupt_while_torch_is_loading_is_one_line_too() -> None:
    """As the installed command begins, which imports its entry point before anything could be caught."""
    code = """
import os, signal, sys


class Interrupting:
    def find_spec(name, path, target=None):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)


sys.meta_path.insert(0, Interrupting)
from wavediff.cli.main import entry_point

entry_point()
"""
    done = subprocess.run([sys.executable, "-c", code, "info"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "wavediff info: interrupted\n")


def test_a_bug_is_not_hidden(running: Callable[..., int]) -> None:
    with pytest.raises(ZeroDivisionError):
        running(_raises(ZeroDivisionError()))


def test_a_warning_is_one_line(running: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert running(lambda: warnings.warn("two\nlines", stacklevel=1)) == 0
    assert capsys.readouterr() == ("", "wavediff: warning: two lines\n")


def test_a_reader_that_went_away_is_no_error(running: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # may be closed
    assert running(_raises(BrokenPipeError())) == 0


def test_the_command_reports_a_missing_file_without_traceback() -> None:
    done = subprocess.run([*COMMAND, "info", "no such file.wav"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("wavediff info: no such file.wav: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["info"], ["info", "--json"]])
def test_an_output_that_is_full_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    cause = "standard output: could not be written (No space left on device); check free space"
    assert (done.returncode, done.stderr) == (2, f"wavediff {arguments[0]}: {cause}\n")


def test_the_command_is_quiet_when_its_reader_goes_away(tmp_path: Path) -> None:
    file = saved(tmp_path, wav())
    # Output to a pipe stays in Python's buffer until the end, so the pipe breaks only there.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as gone:
        done = subprocess.run(
            [*COMMAND, "info", str(file)], stdout=gone, stderr=subprocess.PIPE, env=environment, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
