"""Several systems on the same clips as one HTML page: to listen in turn, to see figures, to judge blindly."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wavediff.arguments import as_path
from wavediff.errors import AudioError, ConfigError, OutputError, WavediffError
from wavediff.files import write_text
from wavediff.metrics import evaluate_files, select_metrics
from wavediff.report.clips import find_sounds
from wavediff.report.comparison_markup import Clip, Entry, Gap, render_comparison
from wavediff.report.page import Contents, Reader, check_page, spread

# Those that take a fraction of a second a clip; pYIN, which F0 and voicing need, takes several.
CHEAP_METRICS = ("log_mel_l1", "mr_stft", "mcd", "stoi", "pesq")


def write_comparison(
    path: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    title: str | None = None,
    reference: str | None = None,
    metrics: Sequence[str] | None = None,
    max_clips: int | None = None,
    overwrite: bool = False,
    on_sound: Callable[[int, int], object] = lambda done, total: None,
) -> Contents:
    """Write one self-contained HTML page that compares systems: each clip of each with a player and its figures.

    Each folder in `directory` is a system; files with the same path below it, but for the extension, are one clip. A
    clip that a system lacks is a gap, and named in `Contents.notes`, as is a pair that cannot be measured. The same
    sounds give the same page, byte for byte.

    Args:
        path: of the page, .html or .htm.
        directory: two folders or more of audio files; hidden ones are left out.
        title: heading of the page; None takes the folder's name.
        reference: the system that the others are measured against; None shows no metrics.
        metrics: names from `wavediff.metrics.METRICS`; None takes those of `CHEAP_METRICS` that are installed.
        max_clips: show no more clips, chosen at equal distances in the order of their names.
        overwrite: replace an existing page.
        on_sound: called with the number of files done and of all.

    Returns:
        What is on the page; its groups are the systems.

    Raises:
        AudioError: fewer than two folders hold sounds, a clip occurs twice in one, or no sound can be read.
        ConfigError: no system is called `reference`, a metric is unknown, or metrics are asked for without a reference.
        MissingExtraError: a metric named in `metrics` needs the `eval` extra.
        OutputError: the page would be too large, exists, or cannot be written.
    """
    path, directory = as_path(path, "path", OutputError), as_path(directory, "directory", AudioError)
    check_page(path, max_clips, overwrite=overwrite)
    found, notes = _systems(directory)
    names = _chosen_metrics(reference, metrics)
    if reference is not None:
        if reference not in found:
            raise ConfigError(f"reference {reference}: no system of {directory}; choose from {', '.join(found)}")
        found = {reference: found.pop(reference), **found}
    all_clips = sorted(set().union(*found.values()))
    clip_names = spread(all_clips, max_clips)

    reader = Reader(path, sum(name in files for files in found.values() for name in clip_names), on_sound)
    clips = []
    for name in clip_names:
        entries: list[Entry | Gap] = []
        for system, files in found.items():
            if name not in files:
                entries.append(Gap("no such clip"))
                notes.append(f"{directory / system}: has no clip {name}, the page shows a gap")
            elif not (sounds := reader.read([files[name]])):
                entries.append(Gap("cannot be read"))
            else:
                figures: Mapping[str, float | None] = {}
                if reference is not None and system != reference and isinstance(entries[0], Entry):
                    figures = _figures(found[reference][name], files[name], names, notes)
                entries.append(Entry(sounds[0], figures))
        clips.append(Clip(name, entries))
    shown = [entry.sound for clip in clips for entry in clip.entries if isinstance(entry, Entry)]
    if not shown:
        raise AudioError(f"{directory}: none of its sounds can be shown; the first: {reader.skipped[0]}")

    title = title or directory.resolve().name or "comparison"
    html = render_comparison(title, list(found), clips, names, len(all_clips), reference)
    write_text(path, html, overwrite=overwrite)
    return Contents(
        sounds=len(shown),
        references=0,
        groups=len(found),
        faulty=sum(bool(sound.faults) for sound in shown),
        left_out=len(all_clips) - len(clips),
        skipped=tuple(reader.skipped),
        notes=tuple(notes),
    )


def _systems(directory: Path) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """The files of each system by clip, and a note for every file of none."""
    systems: dict[str, dict[str, Path]] = {}
    notes = []
    for path in (path for paths in find_sounds(directory).values() for path in paths):
        below = path.relative_to(directory)
        if len(below.parts) == 1:
            notes.append(f"{path}: is in no system's folder, so it is left out; move it into one")
            continue
        clips, clip = systems.setdefault(below.parts[0], {}), Path(*below.parts[1:]).with_suffix("").as_posix()
        if clip in clips:
            raise AudioError(f"{path}: is the same clip as {clips[clip]}; keep one file for each")
        clips[clip] = path
    if len(systems) < 2:
        some = f"one folder of sounds ({next(iter(systems))})" if systems else "no folder of sounds"
        raise AudioError(f"{directory}: holds {some}, a comparison needs two; give each system a folder of its own")
    return dict(sorted(systems.items())), notes


def _chosen_metrics(reference: str | None, metrics: Sequence[str] | None) -> tuple[str, ...]:
    if metrics is None:
        installed, _ = select_metrics()
        return () if reference is None else tuple(name for name in CHEAP_METRICS if name in installed)
    if reference is None:
        raise ConfigError("metrics: compare with a reference; name its system with --reference (reference=)")
    return select_metrics(metrics)[0]


def _figures(reference: Path, path: Path, names: Sequence[str], notes: list[str]) -> Mapping[str, float | None]:
    """The metrics of a pair; none, and a note, where it cannot be measured: it can still be listened to."""
    try:
        return evaluate_files(reference, path, names)
    except WavediffError as error:
        notes.append(f"no metrics: {error}")
        return {}
