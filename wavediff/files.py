"""Writing files so that a reader never sees half of one."""

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from wavediff.errors import OutputError
from wavediff.places import Address, Place, place

TEMPORARY_SUFFIX = ".wavediff-tmp"
SYSTEM_FOLDERS = {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information"}
"""What macOS, network storage and Windows leave beside recordings, in small letters; besides names with a dot first."""
_live: set[str] = set()  # names of the temporaries that threads of this process are writing


def is_leftover(below: PurePath) -> bool:
    """Whether a path below a folder that was named is hidden, or something that a system has left there.

    Of the folder itself nothing is asked: whoever names a hidden one means it.
    """
    return any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in below.parts)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    Of an address in object storage the temporary lies in a folder of its own, and is put there on success: an object
    is there whole or not at all.

    The temporary lies in the same directory because a rename across filesystems is a copy, and a copy
    can be cut. A failure inside the block leaves an existing `path` untouched and no temporary behind.

    Raises:
        OutputError: `path` exists and `overwrite` is false, its folder is missing or not writable, or the
            disk is full.
    """
    path = place(path)
    if isinstance(path, Address):
        check_output(path, overwrite=overwrite)
        try:
            with tempfile.TemporaryDirectory() as folder:
                yield (temporary := Path(folder) / path.name)
                path.put(temporary)
        except OSError as error:
            raise _unwritable(path, error) from error
        return
    check_output(path, overwrite=overwrite)
    # No other writer has this name, whichever thread, process or machine it is in.
    temporary = path.with_name(f".{_stem(path)}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _live.add(temporary.name)
        permissions = _create(temporary)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(permissions)  # some libraries create files that only their owner can read
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _live.discard(temporary.name)


def write_text(path: str | os.PathLike[str], text: str, *, overwrite: bool = False) -> None:
    """Write a text in UTF-8 as `atomic_write` does, with its errors."""
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_output(path: Place, *, overwrite: bool) -> None:
    """What `atomic_write` asks of `path`, for those who must know before the work and not after it.

    Raises:
        OutputError: `path` is a directory, exists and `overwrite` is false, or cannot be a name.
    """
    try:
        if isinstance(path, Path) and path.is_dir():  # in object storage a name can be both
            raise OutputError(f"{path}: is a directory, a file was to be written there; choose another output name")
        if not overwrite and path.exists():
            raise OutputError(f"{path}: already exists; remove it or pass --overwrite (overwrite=True)")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Place, error: OSError) -> OutputError:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return OutputError(f"{path}: cannot be written, because a part of it is a file and no folder; choose another")
    return OutputError(f"{path}: could not be written ({error.strerror or error}); check free space and permissions")


def _create(temporary: Path) -> int:
    """Make an empty file; returns what it is allowed by default.

    The mask of the process can be read only by setting it, which every other thread would feel.
    """
    with open(temporary, "xb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(directory: str | os.PathLike[str], of: Iterable[Path] | None = None) -> int:
    """Remove what killed writers left in `directory`; returns how many files went.

    Args:
        directory: the folder itself, not those in it.
        of: what was being written, in whichever folder; anything if None. Others may be writing there.

    What this process is writing at the moment stays.
    """
    stems = None if of is None else {_stem(path) for path in of}
    stale = [
        path
        for path in Path(directory).glob(f".*{TEMPORARY_SUFFIX}")
        if path.name not in _live
        and (stems is None or path.name[1:].removesuffix(TEMPORARY_SUFFIX).rpartition(".")[0] in stems)
    ]
    for path in stale:
        with contextlib.suppress(OSError):
            path.unlink()
    return len(stale)


def _stem(path: Path) -> str:
    """What a temporary is recognised by; cut, because a file system limits names."""
    return path.name[:50]
