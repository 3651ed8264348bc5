"""How far a command is: a bar on a terminal, few lines elsewhere, nothing where silence was asked for."""

import io
import re
import sys
from pathlib import Path

import pytest

from wavediff.cli import progress
from wavediff.cli.main import main
from wavediff.cli.progress import Progress, clock, say, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called in the test, because pytest sets the stream anew before it."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "REDRAW", 1e-9)  # or short work ends before the first bar
    return stream


def states(stream: Terminal) -> list[str]:
    """What a terminal shows one after another."""
    return [state.strip() for state in re.split(r"[\r\n]", stream.getvalue()) if state.strip()]


def test_a_bar_shows_an_estimate_and_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    with Progress("vocode", None, "files") as bar:
        bar.to(1, 4)
        bar.update()
    last = states(terminal)[-1]
    assert re.fullmatch(r"100%\|.*\| 4 of 4 files \[\d\d:\d\d<\d\d:\d\d\]", last)


def test_work_that_fails_does_not_claim_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)

    def fail() -> None:
        for _ in track(range(4), "vocode", "files", quiet=False):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "100%" not in terminal.getvalue()


def test_steps_of_a_sound_move_the_bar_before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    at_terminal(monkeypatch)
    with Progress("generate", 4, "sounds") as bar:
        bar.update(2)
        bar.steps_of(2)(5, 10)
        assert bar.done == 3


def test_a_line_does_not_break_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    with Progress("vocode", 2, "files") as bar:
        bar.update()
        say("wavediff: warning: something")
    assert "wavediff: warning: something" in states(terminal)


def test_a_log_gets_few_lines_and_the_last_one_is_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for _ in track(range(100), "prepare", "clips", quiet=False):
        now[0] += 1
    first, *_, last = lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert first == "wavediff prepare: 30 of 100 clips (30%), 01:10 to go"
    assert last == "wavediff prepare: 100 of 100 clips (100%)"


def test_short_work_leaves_a_log_empty_and_quiet_work_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(track(range(3), "prepare", "clips", quiet=False))
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    list(track(range(3), "prepare", "clips", quiet=True))
    assert sys.stderr.getvalue() == ""


def test_what_an_earlier_run_did_counts_but_not_for_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    resumed = Progress("train", 60, "steps", quiet=True, first=52)
    now[0] = 16.0
    resumed.to(60)
    assert resumed.speed == 0.5


def test_times_read_as_on_a_clock() -> None:
    assert [clock(seconds) for seconds in (0.4, 59.6, 3723)] == ["00:00", "01:00", "1:02:03"]


def test_the_bar_of_the_demonstration_ends_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    assert states(terminal)[-1].startswith("100%")
    assert main(["demo"]) == 2  # a second time asks for --overwrite
    assert "--overwrite" in states(terminal)[-1]
