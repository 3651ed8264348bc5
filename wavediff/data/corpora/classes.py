"""Any folder of class folders: ROOT/glass/a.wav, ROOT/glass/b.wav, ROOT/wood/c.wav."""

import dataclasses
import re
from collections import Counter, defaultdict
from pathlib import Path

from wavediff.audio import iter_audio_files
from wavediff.data.corpora.sharing import check_fractions, option, split_by_hash, unit_hash
from wavediff.data.manifest import Clip
from wavediff.errors import DataError

LEAST_TAKES = 3  # of a kind of sound


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """Sounds in class folders; the name of the first-level folder is the label, folders without audio are left out.

    Each class is split by itself, so that none is missing from a split: a hash of the path ranks its clips. With
    `families`, takes of one sound (`tick_001`, `tick_002`) stay together, in classes that have a family for each split.
    """

    root: Path
    valid_fraction: float = option(0.05, "share of each class for validation (default: 0.05, at least one clip)")
    test_fraction: float = option(0.1, "share of each class for testing (default: 0.1, at least one clip)")

    families: bool = option(False, "numbered takes (tick_001, tick_002) stay in one split: an honest test")
    kinds: bool = option(False, "labels of two levels, laser/retro, the second from the file names")

    def clips(self) -> list[Clip]:
        """Every audio file (WAV, FLAC, OGG, MP3, ...) in a class folder; hidden files and folders are left out.

        Raises:
            AudioError: the root is no folder, or cannot be listed.
            DataError: there is no class folder, or the fractions leave a class without a clip to train on.
        """
        check_fractions(self.valid_fraction, self.test_fraction)
        classes: dict[str, list[Path]] = {}
        for path in iter_audio_files(self.root):
            below = path.relative_to(self.root)
            if len(below.parts) > 1:
                classes.setdefault(below.parts[0], []).append(below)
        if not classes:
            raise DataError(
                f"{self.root}: holds no class folder with audio (WAV, FLAC, OGG, MP3, ...); expected ROOT/CLASS/*.wav"
            )
        clips = [clip for label, paths in sorted(classes.items()) for clip in self._split(label, paths)]
        if not self.kinds:
            return clips
        kinds = kinds_of({label: [path.stem for path in paths] for label, paths in classes.items()})
        return [
            dataclasses.replace(clip, label=f"{clip.label}/{kinds[str(clip.label)][clip.path.stem]}") for clip in clips
        ]

    def _split(self, label: str, paths: list[Path]) -> list[Clip]:
        shares = (self.test_fraction, self.valid_fraction)
        num_test, num_valid = (max(round(share * len(paths)), 1) if share else 0 for share in shares)
        if len(paths) <= num_test + num_valid:
            raise DataError(
                f"{self.root / label}: {len(paths)} clips leave none to train on; add more, or lower the fractions"
            )
        families: dict[Path, list[Path]] = defaultdict(list)
        for path in paths:
            families[path.parent / family_of(path.stem)].append(path)
        if self.families and len(families) >= 3:
            split_of = _split_families(families, num_valid, num_test)
        else:
            split_of = split_by_hash(paths, num_valid, num_test)
        return [Clip(self.root / path, split_of[path], label=label) for path in sorted(paths)]


def family_of(stem: str) -> str:
    """The name that numbered takes share: "tick" of "tick_001"; a name that is only a number stands for itself."""
    return re.sub(r"[\W_]*\d+$", "", stem) or stem


def _split_families(families: dict[Path, list[Path]], num_valid: int, num_test: int) -> dict[Path, str]:
    """Whole families in the order of their hashes, until a split has its clips; the last one is trained on.

    Each split has one, if it was to have any.
    """
    split_of: dict[Path, str] = {}
    wanted = {"test": num_test, "valid": num_valid}
    ranked = sorted(families, key=lambda family: (unit_hash(family), family))
    for place, family in enumerate(ranked, 1):
        wanting = [name for name, number in wanted.items() if number > 0]
        empty = [name for name in wanting if name not in split_of.values()]
        split = next(iter(empty if len(ranked) - place <= len(empty) else wanting), "train")
        split = "train" if family == ranked[-1] else split
        split_of |= dict.fromkeys(families[family], split)
        if split in wanted:
            wanted[split] -= len(families[family])
    return split_of


def kinds_of(stems: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    """Class -> the stems of its files -> the kind of sound that each names.

    A kind is the longest beginning of a name, in words, that `LEAST_TAKES` clips of the class share; numbers do not
    count, nor does what names of several classes or all names of the class begin with (a pack's name), nor the class's
    own name. "other" is what has no kind.

    >>> stems = [f"pack_laser{kind}_{number}" for kind in ("Retro", "Large") for number in range(3)]
    >>> kinds_of({"laser": stems, "bell": ["pack_bell"]})["laser"]["pack_laserRetro_0"]
    'retro'
    """
    words = {label: {stem: _words(stem) for stem in names} for label, names in stems.items()}
    users: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for label, names in words.items():
        for name in names.values():
            for beginning in _beginnings(name):
                users[beginning].add(label)
    kinds: dict[str, dict[str, str]] = {}
    for label, names in words.items():
        counts = Counter(beginning for name in names.values() for beginning in _beginnings(name))
        own: dict[str, tuple[str, ...]] = {}
        for stem, name in names.items():
            packs = [each for each in _beginnings(name) if len(users[each]) > 1 or counts[each] == len(names)]
            own[stem] = tuple(word for word in name[len(packs[-1]) :] if word != label)
        counts = Counter(beginning for name in own.values() for beginning in _beginnings(name))
        kinds[label] = {}
        for stem, name in own.items():
            shared = [each for each in _beginnings(name) if counts[each] >= LEAST_TAKES]
            kinds[label][stem] = "-".join(shared[-1] if shared else ()) or "other"
    return kinds


def _words(stem: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", stem))


def _beginnings(name: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [name[:end] for end in range(len(name) + 1)]
