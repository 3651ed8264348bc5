"""Looking over a corpus once: which files can be used, how long they are, which are left out and why."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from wavediff.audio import read_info
from wavediff.data.manifest import Skipped, Utterance, write_skipped
from wavediff.errors import AudioError, DataError

SPLITS = ("train", "valid", "test")
MAX_SKIPPED_SHARE = 0.05
"""A corpus with a larger share of unusable files is more likely the wrong folder than a worn one."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A file that a corpus names, before anything looked into it."""

    path: Path
    split: str
    text: str | None = None
    speaker: str | None = None
    label: str | None = None


def scan(
    clips: Iterable[Clip], *, skipped_path: str | os.PathLike[str] | None = None, overwrite: bool = False
) -> tuple[dict[str, list[Utterance]], list[Skipped]]:
    """Read the header of every clip; no audio is decoded.

    Args:
        clips: what a corpus names.
        skipped_path: where to write the files left out (JSONL: path, reason), whether or not the scan succeeds.
        overwrite: replace an existing `skipped_path`.

    Returns:
        The usable utterances of each split, in the order of `clips`, and the files left out.

    Raises:
        DataError: more than 5 % of the files are bad, or none is left.
        OutputError: `skipped_path` cannot be written.
    """
    splits: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    skipped: list[Skipped] = []
    for clip in clips:
        try:
            info = read_info(clip.path)
        except AudioError as error:
            skipped.append(Skipped(clip.path, str(error)))
            continue
        splits[clip.split].append(
            Utterance(clip.path, info.seconds, info.sample_rate, clip.text, clip.speaker, clip.label)
        )
    if skipped_path is not None:
        write_skipped(skipped_path, skipped, overwrite=overwrite)
    check_skipped(skipped, sum(map(len, splits.values())) + len(skipped))
    return splits, skipped


def check_skipped(skipped: list[Skipped], num_files: int) -> None:
    """Stop where so many files are bad that going on would train on something else than was meant.

    Raises:
        DataError: no file is left, or more than 5 % of `num_files` were skipped.
    """
    if num_files == 0:
        raise DataError("the corpus names no audio file; check its path (WAV, FLAC, OGG, MP3 and others are read)")
    if len(skipped) == num_files or len(skipped) > MAX_SKIPPED_SHARE * num_files:
        raise DataError(
            f"{len(skipped)} of {num_files} files cannot be used, more than {MAX_SKIPPED_SHARE:.0%}; "
            f"repair or remove them. The first: {skipped[0].reason}"
        )
