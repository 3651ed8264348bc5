"""Splitting a corpus by speaker, so that what is tested on is a voice that was never heard."""

from collections.abc import Iterable
from pathlib import Path

from wavediff.data.corpora.folder import split_by_hash
from wavediff.errors import DataError


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


def transcript(path: Path) -> str | None:
    """What a corpus's text file says, None where there is none.

    Raises:
        DataError: it is there, but cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the corpus again, or remove the file") from error
