"""Which recordings belong together, and the metrics of a pair of files."""

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavediff.arguments import as_path
from wavediff.audio import iter_audio_files, read_audio, read_info
from wavediff.errors import AudioError, DataError
from wavediff.metrics.evaluation import evaluate_pair, evaluate_signal
from wavediff.metrics.signals import check_lengths


@dataclass(frozen=True)
class Matching:
    """Recordings paired by stem.

    Attributes:
        pairs: stem -> (reference, synthesised), sorted by stem.
        only_reference: stems without a synthesised file.
        only_synthesised: stems without a reference.
    """

    pairs: dict[str, tuple[Path, Path]]
    only_reference: tuple[str, ...]
    only_synthesised: tuple[str, ...]


def find_recordings(path: str | os.PathLike[str]) -> dict[str, Path]:
    """Stem -> file, for a file or for every recording below a folder.

    Raises:
        DataError: the path is missing or empty, or a stem occurs twice.
    """
    path = as_path(path, "path", DataError)
    if path.is_file():
        return {path.stem: path}
    if not path.is_dir():
        if path.exists():
            raise DataError(f"{path}: is no file and no folder; name recordings")
        raise DataError(f"{path}: no such file or folder; check the path")
    found: dict[str, Path] = {}
    for file in iter_audio_files(path):
        if file.stem in found:
            raise DataError(f"{file}: same stem as {found[file.stem]}; keep one recording for each stem")
        found[file.stem] = file
    if not found:
        raise DataError(f"{path}: no audio file in it; name the folder of the recordings")
    return found


def match_recordings(
    reference: str | os.PathLike[str], synthesised: str | os.PathLike[str], ids: Collection[str] | None = None
) -> Matching:
    """Pair recordings by stem: `LJ001-0001.wav` goes with `LJ001-0001.flac`, in whatever subfolders they lie.

    Two files are a pair whatever their names.

    Args:
        reference: a file, or a folder searched with its subfolders for audio files.
        synthesised: likewise.
        ids: the stems to compare; None means all.

    Raises:
        DataError: a path is missing or empty, a stem occurs twice, or nothing matches.
    """
    reference, synthesised = _paths(reference, synthesised)
    if reference.is_file() and synthesised.is_file():
        return Matching({reference.stem: (reference, synthesised)}, (), ())
    ours, theirs = find_recordings(reference), find_recordings(synthesised)
    wanted = set(ours) | set(theirs) if ids is None else set(ids)
    common = sorted(wanted & set(ours) & set(theirs))
    if not common:
        raise DataError(
            f"{synthesised}: no file has the stem of a {'wanted ' if ids is not None else ''}reference in {reference}; "
            "recordings match by name without extension"
        )
    return Matching(
        {stem: (ours[stem], theirs[stem]) for stem in common},
        tuple(sorted((wanted if ids is not None else set(ours)) - set(theirs))),
        tuple(sorted((wanted if ids is not None else set(theirs)) - set(ours))),
    )


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """The stems in a text file, one a line; blank lines are skipped.

    Raises:
        DataError: the file is missing, not UTF-8 text, or empty.
    """
    path = as_path(path, "path", DataError)
    try:
        ids = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list of stems ({error}); write one stem a line in UTF-8") from error
    if not ids:
        raise DataError(f"{path}: holds no stem; write one a line")
    return ids


def check_files(reference: str | os.PathLike[str], synthesised: str | os.PathLike[str]) -> int:
    """The sample rate [Hz] of two files that can be compared; reads their headers only.

    Raises:
        WavediffError: a file cannot be read, or the two differ in sample rate or length.
    """
    reference, synthesised = _paths(reference, synthesised)
    ours, theirs = read_info(reference), read_info(synthesised)
    if ours.sample_rate != theirs.sample_rate:
        raise DataError(
            f"{synthesised}: {theirs.sample_rate} Hz, but its reference {reference} has {ours.sample_rate} Hz; "
            "resample one of them first"
        )
    with _naming(reference, synthesised):
        check_lengths(ours.frames, theirs.frames, ours.sample_rate)
    return ours.sample_rate


def evaluate_files(
    reference: str | os.PathLike[str], synthesised: str | os.PathLike[str], metrics: Sequence[str] | None = None
) -> dict[str, float | None]:
    """`evaluate_pair` for two audio files of the same sample rate; errors name the file."""
    sample_rate = check_files(reference, synthesised)
    ours, _ = read_audio(reference)
    theirs, _ = read_audio(synthesised)
    with _naming(reference, synthesised):
        return evaluate_pair(ours, theirs, sample_rate, metrics)


def evaluate_file(path: str | os.PathLike[str], metrics: Sequence[str] | None = None) -> dict[str, float | None]:
    """`evaluate_signal` for an audio file; errors name the file."""
    waveform, sample_rate = read_audio(path)
    try:
        return evaluate_signal(waveform, sample_rate, metrics)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error


def _paths(reference: Any, synthesised: Any) -> tuple[Path, Path]:
    return as_path(reference, "reference", DataError), as_path(synthesised, "synthesised", DataError)


@contextlib.contextmanager
def _naming(reference: str | os.PathLike[str], synthesised: str | os.PathLike[str]) -> Iterator[None]:
    """Put the files' names into what the metrics, which see only samples, have to say."""
    try:
        yield
    except (AudioError, DataError) as error:
        raise type(error)(f"{synthesised}: {error} (reference {reference})") from error
