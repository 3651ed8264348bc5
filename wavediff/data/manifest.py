"""A manifest: the list of utterances one split of a corpus holds; and the scan of a corpus that it is made by.

JSONL, one utterance a line and nothing else:

    {"path": "wavs/LJ001-0001.wav", "seconds": 9.655, "sample_rate": 22050, "text": "Printing, in ..."}

`path` is absolute, or relative to the folder of the manifest itself: a corpus and the manifests inside it
can then be moved together. `text`, `speaker` and `label` are there where known; `mel`, a path like the other, where a
model is to be trained on that mel instead of the recording's own.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path

from wavediff.arguments import as_path
from wavediff.audio import read_info
from wavediff.errors import AudioError, DataError, OutputError
from wavediff.files import atomic_write
from wavediff.places import is_remote


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One recording of a corpus.

    Attributes:
        path: the audio file, absolute once read from a manifest.
        seconds: its duration, above zero.
        sample_rate: of the file [Hz].
        text: what is said.
        speaker: who says it.
        label: the class of the sound.
        mel: file of a mel (.npy, .safetensors) to train on instead of computing it.
    """

    path: Path
    seconds: float
    sample_rate: int
    text: str | None = None
    speaker: str | None = None
    label: str | None = None
    mel: Path | None = None

    @property
    def frames(self) -> int:
        """The file's length in samples."""
        return round(self.seconds * self.sample_rate)


def class_of(label: str | None) -> str | None:
    """The class of a label of two levels: "laser" of "laser/retro", and of "laser"."""
    return None if label is None else label.partition("/")[0]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A file that cannot be used, and why."""

    path: Path
    reason: str


_KEYS = {field.name for field in dataclasses.fields(Utterance)}
_PATHS = {"path", "mel"}


def read_manifest(path: str | os.PathLike[str]) -> list[Utterance]:
    """The utterances of a manifest, in its order. The audio files themselves are not looked at.

    Raises:
        DataError: the manifest is missing, empty, or has a line that is no utterance; the message names the line.
    """
    path = as_path(path, "path", DataError)
    utterances = []
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    utterances.append(_parse(line, path.parent.absolute(), f"{path}, line {number}"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; `wavediff prepare` writes manifests") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); a manifest is JSONL") from error
    if not utterances:
        raise DataError(f"{path}: holds no utterance; prepare the corpus again")
    return utterances


def write_manifest(path: str | os.PathLike[str], utterances: Iterable[Utterance], *, overwrite: bool = False) -> None:
    """Write `utterances` so that `read_manifest` gives them back.

    Raises:
        OutputError: the file exists and `overwrite` is false, or cannot be written.
    """
    folder = as_path(path, "path", OutputError).parent.absolute()
    rows = []
    for utterance in utterances:
        row = {key: value for key, value in dataclasses.asdict(utterance).items() if value is not None}
        for key in row.keys() & _PATHS:
            file = row[key].absolute()
            row[key] = str(file.relative_to(folder) if file.is_relative_to(folder) else file)
        rows.append(row)
    _write_jsonl(path, rows, overwrite)


def write_skipped(path: str | os.PathLike[str], skipped: Iterable[Skipped], *, overwrite: bool = False) -> None:
    """Write the files left out as JSONL: path, reason.

    Raises:
        OutputError: the file exists and `overwrite` is false, or cannot be written.
    """
    _write_jsonl(path, ({"path": str(item.path), "reason": item.reason} for item in skipped), overwrite)


def _write_jsonl(path: str | os.PathLike[str], rows: Iterable[dict[str, str]], overwrite: bool) -> None:
    # ASCII escapes, because a file name need not be valid UTF-8 and must come back unchanged.
    with atomic_write(path, overwrite=overwrite) as temporary, temporary.open("w", encoding="ascii") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _parse(line: str, folder: Path, where: str) -> Utterance:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); each line of a manifest is one object") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a {type(row).__name__}, not an object; each line of a manifest is one object")
    if unknown := sorted(row.keys() - _KEYS):
        raise DataError(f"{where}: unknown key {unknown[0]!r}; a manifest knows {', '.join(sorted(_KEYS))}")
    row = {key: value for key, value in row.items() if value is not None}
    if missing := sorted({"path", "seconds", "sample_rate"} - row.keys()):
        raise DataError(f"{where}: has no {missing[0]!r}; an utterance needs path, seconds and sample_rate")
    seconds, sample_rate = row["seconds"], row["sample_rate"]
    if type(seconds) not in (int, float) or not 0 < seconds < 1e9:
        raise DataError(f"{where}: seconds is {seconds!r}, must be a number above zero")
    if type(sample_rate) is not int or not 0 < sample_rate < 1e9:
        raise DataError(f"{where}: sample_rate is {sample_rate!r}, must be a whole number above zero [Hz]")
    for key in _KEYS - {"seconds", "sample_rate"}:
        if not isinstance(row.get(key, ""), str):
            raise DataError(f"{where}: {key} is {row[key]!r}, must be a string")
        if key in _PATHS and is_remote(row.get(key, "")):
            raise DataError(f"{where}: {key} is the address {row[key]!r}; a manifest names files of this machine")
    return Utterance(**(row | {key: folder / row[key] for key in row.keys() & _PATHS}))


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
