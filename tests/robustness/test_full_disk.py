"""Where the disk is full, whatever is saved: an error that names the file, the old one as it was, nothing beside it."""

import ctypes
import hashlib
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from saving import KINDS, save_once, size_of
from workers import CONTEXT, closing_line

PATIENCE = 60.0  # [s]
PAGE = resource.getpagesize()
# Two places per kind, or eight.
POINTS = pytest.mark.parametrize("points", [2, pytest.param(8, marks=pytest.mark.long)])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def told(kind: str, folder: Path, prepare: Callable[[Path, int], None], room: int) -> tuple[str, str]:
    """Have a process save over an older file once `prepare` has left it so many bytes; how it ended, and its word."""
    pipe, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=save_once, args=(kind, folder, prepare, room, theirs), daemon=True)
    process.start()
    theirs.close()
    assert pipe.poll(PATIENCE), "it hangs"
    answer: Any = pipe.recv()
    process.join()
    return answer


def limit_files(folder: Path, room: int) -> None:
    """No file may grow beyond `room`: as on a full disk the rest of a write is refused, but as EFBIG."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))


def fill(folder: Path, room: int) -> None:
    """Leave `room` bytes, rounded down to whole pages, of the filesystem: the next write beyond is ENOSPC."""
    free = shutil.disk_usage(folder).free
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - room // PAGE * PAGE)


def check(kind: str, folder: Path, prepare: Callable[[Path, int], None], points: int) -> int:
    """Run out of room at several places of one kind's file; returns how many."""
    chosen = KINDS[kind]
    path, size = folder / chosen.name, size_of(kind, folder)
    chosen.save(path, 1)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    rooms = [round(size * share / points) for share in range(points)]
    for room in rooms:
        name, message = told(kind, folder, prepare, room)
        assert name == "OutputError", f"{room} of {size} bytes: {name}: {message}"
        assert message.startswith(f"{path}: could not be written (")
        assert "check free space" in message
        assert "\n" not in message
        (folder / "filler").unlink(missing_ok=True)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == before, "the old file was touched"
        assert sorted(item.name for item in folder.iterdir()) == [chosen.name]
    assert chosen.load(path) == 1
    assert told(kind, folder, prepare, 2 * size + 16 * PAGE) == ("", ""), "with room enough it is saved"
    (folder / "filler").unlink(missing_ok=True)
    assert chosen.load(path) == 2
    return len(rooms)


@POINTS
@EVERY_KIND
def test_a_file_that_may_not_grow_leaves_the_old_one(kind: str, points: int, tmp_path: Path) -> None:  # fault 50
    start = time.monotonic()
    done = check(kind, tmp_path, limit_files, points)
    closing_line(f"files that may not grow, {kind}: {done} points, the old file kept at each", start)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 16 MiB of its own."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "mount") or library.mount(b"tmpfs", bytes(tmp_path), b"tmpfs", 0, b"size=16m"):
        pytest.skip("a filesystem cannot be mounted here; the tests that limit the size of files are like these")
    try:
        yield tmp_path
    finally:
        library.umount2(bytes(tmp_path), 2)  # MNT_DETACH


@POINTS
@EVERY_KIND
def test_a_full_disk_leaves_the_old_file(kind: str, points: int, small_disk: Path) -> None:  # fault 50
    start = time.monotonic()
    done = check(kind, small_disk, fill, points)
    closing_line(f"full disks, {kind}: {done} points, the old file kept at each", start)
