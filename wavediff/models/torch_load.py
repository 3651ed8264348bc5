"""Reading files of `torch.save` without running what they may hold."""

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from wavediff.arguments import as_path
from wavediff.errors import CheckpointError

# How torch's restricted loader names what it would not call.
_REFUSED = re.compile(r"GLOBAL ([\w.]+)|but got (?:<class ')?([\w.]+)|function ([\w.]+)")


def load_restricted(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read a dictionary of tensors and plain data, in today's zip format or the older one, onto the CPU.

    A zip must be stored, not compressed, must not unpack to more than its own size, and its checksums must hold:
    torch itself checks none of this. The older format has no checksum.

    Args:
        path: of the file.
        kind: what it should be, for the error messages: "training checkpoint".

    Raises:
        CheckpointError: missing, damaged, compressed, not a dictionary, or holding more than tensors and plain data.
    """
    path = as_path(path, "path", CheckpointError)
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is not a file' if path.exists() else 'does not exist'}; give a {kind}")
    try:
        with path.open("rb") as file:
            start = file.read(4)
        zipped = start == b"PK\x03\x04"  # how torch.load, too, tells the formats apart
        if not start:
            raise CheckpointError(f"{path}: is empty; use another copy of it")
        if not zipped and start[:1] != b"\x80":  # the first byte of a pickle
            raise CheckpointError(f"{path}: is no {kind}, which torch.save writes; use another")
        if zipped:
            _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile, pickle and torch each have their own
        raise CheckpointError(f"{path}: {_reason(error, kind)}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, not the dictionary of a {kind}; give another")
    return state


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError(f"{path}: is compressed, as torch.save never writes; it is not loaded, save it again")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CheckpointError(f"{path}: would unpack to more than its own size; it is not loaded, save it again")
        if (damaged := archive.testzip()) is not None:
            raise CheckpointError(f"{path}: the checksum of {damaged!r:.60} does not match; use another copy of it")


def _reason(error: Exception, kind: str) -> str:
    """What went wrong, without torch's advice to load the file unrestricted."""
    message = str(error)
    if "Weights only load failed" in message and (refused := _REFUSED.search(message)):
        name = next(filter(None, refused.groups()))
        return f"asks to run {name:.60}, a {kind} needs tensors and plain data only; it is not loaded"
    first = next(iter(message.rpartition("WeightsUnpickler error: ")[2].strip().splitlines()), "")
    return (
        f"cannot be read as a {kind} ({type(error).__name__}: {first:.120}); it is damaged or no such file, use another"
    )
