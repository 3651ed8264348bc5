"""What corpora share: options, splits by hash and by speaker, texts, downloads."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from wavediff.errors import DataError
from wavediff.libraries import require_torchaudio

Value = TypeVar("Value")


def option(default: Value, help: str) -> Value:
    """A field of a corpus that is an option of `wavediff prepare`."""
    return dataclasses.field(default=default, metadata={"help": help})


def unit_hash(path: Path) -> float:
    """A number in [0, 1) that depends on the path alone."""
    digest = hashlib.sha256(path.as_posix().encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_by_hash(paths: Iterable[Path], num_valid: int, num_test: int) -> dict[Path, str]:
    """Path -> split: those with the lowest hashes are tested on, the next validated on, the rest trained on."""
    ranked = sorted(paths, key=lambda path: (unit_hash(path), path))
    splits = ["test"] * num_test + ["valid"] * num_valid + ["train"] * (len(ranked) - num_test - num_valid)
    return dict(zip(ranked, splits, strict=True))


def check_fractions(valid: float, test: float) -> None:
    """Refuse shares of a corpus to validate and to test on that are none.

    Raises:
        DataError: one is negative, or nothing is left to train on.
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise DataError(f"valid_fraction {valid} and test_fraction {test} must be 0 or above, their sum below 1")


def split_speakers(speakers: Iterable[str], num_valid: int, num_test: int, root: Path) -> dict[str, str]:
    """The split of each speaker: those whose name has the lowest hash are tested on, the next validated on.

    A speaker stays in a split when others are added, but for those at its edge.

    Args:
        speakers: their names, each once or several times.
        num_valid: how many to validate on.
        num_test: how many to test on.
        root: folder of the corpus, for the message.

    Raises:
        DataError: a number is negative, or no speaker is left to train on.
    """
    names = set(speakers)
    if num_valid < 0 or num_test < 0 or len(names) <= num_valid + num_test:
        raise DataError(
            f"{root}: {len(names)} speakers, {num_test} to test on and {num_valid} to validate on, leave none to "
            "train on; lower the numbers"
        )
    split_of = split_by_hash(map(Path, names), num_valid, num_test)
    return {name: split_of[Path(name)] for name in names}


def read_text(path: Path, cure: str) -> str:
    """What a text file of a corpus says.

    Raises:
        DataError: it cannot be read; `cure` says what to do.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {cure}") from error


def transcript(path: Path) -> str | None:
    """What a corpus's text file says, None where there is none.

    Raises:
        DataError: it is there, but cannot be read.
    """
    return read_text(path, "fetch the corpus again, or remove the file").strip() if path.exists() else None


def download(name: str, root: Path) -> None:
    """Fetch and unpack a corpus below `root`, its checksum verified; does nothing where it is unpacked.

    Args:
        name: of the corpus's class in `torchaudio.datasets`.
        root: folder, made where it is missing.

    Raises:
        DataError: it could not be fetched.
    """
    require_torchaudio()
    from torchaudio import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        getattr(datasets, name)(root, download=True)
    except (OSError, RuntimeError) as error:  # no network or disk space; a wrong checksum
        raise DataError(
            f"{root}: {name} could not be downloaded ({error}); check the network and free space"
        ) from error
