"""Where the sounds of `wavediff generate` go: a folder for each class, and names that tell what a sound was made of."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from wavediff.audio import READ_SUFFIXES
from wavediff.cli import pack
from wavediff.errors import ConfigError


def folder_of(args: argparse.Namespace) -> Path:
    """The folder of all sounds.

    Raises:
        ConfigError: it is named like a sound.
    """
    folder: Path = args.pack or args.output or Path("generated")
    if folder.suffix.lower() in READ_SUFFIXES and not folder.is_dir():
        what = "is to be a folder, in which sounds have names of their own"
        raise ConfigError(f"{folder}: {what}; write {folder.with_suffix('')}/")
    return folder


def target_of(args: argparse.Namespace, folder: Path, label: str | None, seed: int) -> Path:
    """The file of a sound: what was changed, recordings or the sounds of seeds, its label, its seed.

    Raises:
        ConfigError: the label names no folder; a model file must not choose places outside the output.
    """
    ends = [end for end in (args.vary, args.inpaint, *(args.between or ())) if end is not None]
    kind = [] if label is None else [label.replace("/", "-")]
    if args.pack:
        name = pack.name_of(label or "sound", seed)
    elif are_seeds(ends):
        name = "-".join([*(kind or ["sound"]), *(f"{end:03}" for end in ends), f"{seed:03}"])
    else:
        name = "-".join([*(Path(end).stem for end in ends), *kind, f"{seed:03}"])
    return folder / _folder(label) / f"{name}.{args.format}"


def are_seeds(ends: Sequence[str | int]) -> bool:
    """Whether what is to be changed are the sounds of seeds, and no recordings."""
    return all(isinstance(end, int) for end in ends)


def _folder(label: str | None) -> str:
    if label is None:
        return ""
    parts = label.split("/")
    if len(parts) > 2 or "\0" in label or any(part in ("", ".", "..") or Path(part).name != part for part in parts):
        raise ConfigError(f"--label: {label!r} does not name a folder, this model's sounds are made from Python only")
    return parts[0]
