"""A folder of sounds as one HTML page that needs nothing else: to listen, look and compare."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from wavediff.arguments import as_path
from wavediff.errors import AudioError, OutputError
from wavediff.files import check_output, write_text
from wavediff.report.clips import Sound, find_sounds, load_sound
from wavediff.report.markup import Group, render

Item = TypeVar("Item")
MAX_PAGE_BYTES = 2**27  # 134 MB; browsers grow slow long before they refuse


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is on a page: `sounds` of the folder, of which `faulty` are marked, in `groups`, beside `references`.

    `left_out` counts the files of the folder that `max_per_group` kept away, `skipped` says for each file that could
    not be read why, `notes` what else is missing from a comparison.
    """

    sounds: int
    references: int
    groups: int
    faulty: int
    left_out: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()


def write_page(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    title: str | None = None,
    reference: str | os.PathLike[str] | None = None,
    max_per_group: int | None = None,
    overwrite: bool = False,
    on_sound: Callable[[int, int], object] = lambda done, total: None,
) -> Contents:
    """Write one self-contained HTML page with a player and a spectrogram for every sound below a folder.

    Each folder of sounds is a group, as in ClassFolders' layout. The same sounds give the same page, byte for byte.

    Args:
        path: of the page, .html or .htm.
        directory: audio files, in folders or not; hidden ones are left out.
        title: heading of the page; None takes the folder's name.
        reference: a folder of recorded sounds: a group of the same name shows as many of them in a second row.
        max_per_group: show no more of a group, chosen at equal distances in the order of their names.
        overwrite: replace an existing page.
        on_sound: called with the number of files done and of all.

    Raises:
        AudioError: a folder holds no sound, no sound can be read, or no group has a reference.
        OutputError: the page would be too large, exists, or cannot be written.
    """
    path, directory = as_path(path, "path", OutputError), as_path(directory, "directory", AudioError)
    check_page(path, max_per_group, overwrite=overwrite)
    found = _groups_of(directory)
    recorded = {} if reference is None else _references(as_path(reference, "reference", AudioError), directory, found)
    chosen = {name: spread(paths, max_per_group) for name, paths in found.items()}
    beside = {name: spread(recorded.get(name, []), len(paths)) for name, paths in chosen.items()}

    reader = Reader(path, sum(map(len, [*chosen.values(), *beside.values()])), on_sound)
    own_name = directory.resolve().name or "sounds"
    groups = []
    for name, paths in chosen.items():
        sounds, references = reader.read(paths), reader.read(beside[name])
        if sounds:
            groups.append(Group(name or own_name, sounds, references, len(found[name]) - len(paths)))
    if not groups:
        raise AudioError(f"{directory}: none of its sounds can be shown; the first: {reader.skipped[0]}")

    html = render(title or own_name, groups, len(reader.skipped))
    write_text(path, html, overwrite=overwrite)
    return Contents(
        sounds=sum(len(group.sounds) for group in groups),
        references=sum(len(group.references) for group in groups),
        groups=len(groups),
        faulty=sum(bool(sound.faults) for group in groups for sound in group.sounds),
        left_out=sum(group.left_out for group in groups),
        skipped=tuple(reader.skipped),
    )


def check_page(path: Path, limit: int | None, *, overwrite: bool) -> None:
    """What can be known before the work.

    Raises:
        OutputError: `path` is no name of a page or exists, or `limit`, the most of a group, leaves nothing.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{path}: a page is written; name it .html, so that browsers know it")
    if limit is not None and limit < 1:
        raise OutputError(f"max_per_group {limit}: leaves nothing to show; choose 1 or more")
    check_output(path, overwrite=overwrite)


def spread(items: Sequence[Item], count: int | None) -> list[Item]:
    """At most `count` of `items` at equal distances: the first few would often be variants of one sound."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


class Reader:
    """Reads sounds, remembers which could not be read, and stops before the page grows too large."""

    def __init__(self, page: Path, num_files: int, on_sound: Callable[[int, int], object]) -> None:
        self.skipped: list[str] = []
        self._page, self._num_files, self._on_sound = page, num_files, on_sound
        self._num_done, self._num_bytes = 0, 0

    def read(self, paths: Sequence[Path]) -> list[Sound]:
        """Those of `paths` that can be read.

        Raises:
            OutputError: they are too much for the page.
        """
        sounds = []
        for path in paths:
            try:
                sounds.append(load_sound(path))
                self._num_bytes += (len(sounds[-1].audio) + len(sounds[-1].picture)) * 4 // 3  # base64
            except AudioError as error:
                self.skipped.append(str(error))
            self._num_done += 1
            if self._num_bytes > MAX_PAGE_BYTES:
                shown = f"{self._num_done} of {self._num_files} sounds"
                limit = f"the {MAX_PAGE_BYTES / 1e6:.0f} MB that a page may have"
                cure = "show fewer with --max-per-group (max_per_group=)"
                raise OutputError(f"{self._page}: {shown} fill {limit}; {cure}")
            self._on_sound(self._num_done, self._num_files)
        return sounds


def _groups_of(folder: Path) -> dict[str, list[Path]]:
    groups = find_sounds(folder)
    if not groups:
        raise AudioError(f"{folder}: holds no sound (WAV, FLAC, OGG, MP3, ...); name the folder that does")
    return groups


def _references(reference: Path, directory: Path, found: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """The groups of `reference` that `found`, the groups of `directory`, has too."""
    groups = _groups_of(reference)
    shared = {name: paths for name, paths in groups.items() if name in found}
    if not shared:
        some = ", ".join(name or "files in the folder itself" for name in list(found)[:5])
        raise AudioError(f"{reference}: has no group of {directory} ({some}); its folders need the same names")
    return shared
