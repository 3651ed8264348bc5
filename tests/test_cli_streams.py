"""The command line where standard streams are closed, or cannot take what is written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from handmade import saved, wav

COMMAND = f"{sys.executable} -m wavediff.cli.main"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", line.replace("wavediff", COMMAND, 1)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_does_not_stop_the_work(closed: str, tmp_path: Path) -> None:
    saved(tmp_path, wav())
    done = shell(f"wavediff vocode a.wav -o b.wav {closed}", tmp_path)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "b.wav").read_bytes()[:4] == b"RIFF"


CLOSED = """
import os, sys
os.close(0), os.close(1), os.close(2)
sys.stdout = sys.stderr = None
from wavediff.cli.main import _mend_streams
_mend_streams()
if os.open(os.devnull, os.O_RDONLY) < 3:
    os._exit(3)
print("to nobody"), print("to nobody", file=sys.stderr), sys.stdout.flush(), sys.stderr.flush()
os._exit(7)
"""


def test_a_closed_descriptor_is_filled_and_what_is_said_goes_to_nobody() -> None:
    """Else the next file that is opened would be standard output, and a library's print would be in it."""
    assert subprocess.run([sys.executable, "-c", CLOSED], check=False).returncode == 7


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("arguments", ["info missing.wav", "frobnicate", "vocode"])
def test_an_error_keeps_its_status_where_a_stream_is_closed(arguments: str, closed: str, tmp_path: Path) -> None:
    done = shell(f"wavediff {arguments} {closed}", tmp_path)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:surrogateescape", "cp1252"])
def test_a_name_that_the_encoding_lacks_is_escaped(encoding: str, tmp_path: Path) -> None:
    saved(tmp_path, wav(), "ö☃.wav")
    done = shell("wavediff info ö☃.wav", tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2603.wav" in done.stdout


def test_json_is_the_same_in_any_encoding(tmp_path: Path) -> None:
    saved(tmp_path, wav(), "ö.wav")
    outputs = [
        json.loads(shell("wavediff info ö.wav --json", tmp_path, PYTHONIOENCODING=encoding).stdout)
        for encoding in ("ascii", "utf-8")
    ]
    assert outputs[0] == outputs[1]


def test_an_error_is_escaped_too(tmp_path: Path) -> None:
    done = shell("wavediff info ☃.wav", tmp_path, PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 2
    assert done.stderr.startswith(b"wavediff info: \\u2603.wav: ")
    assert done.stderr.count(b"\n") == 1
