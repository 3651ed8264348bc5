"""Any folder of class folders: ROOT/glass/a.wav, ROOT/glass/b.wav, ROOT/wood/c.wav."""

import dataclasses
from pathlib import Path

from wavediff.audio import iter_audio_files
from wavediff.data.corpora.folder import split_by_hash
from wavediff.data.scan import Clip
from wavediff.errors import DataError


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """Sounds in class folders; the name of the first-level folder is the label, folders without audio are left out.

    Each class is split by itself, so that none is missing from a split: a hash of the path ranks its clips.
    """

    root: Path
    valid_fraction: float = dataclasses.field(
        default=0.05, metadata={"help": "share of each class for validation (default: 0.05, at least one clip)"}
    )
    test_fraction: float = dataclasses.field(
        default=0.1, metadata={"help": "share of each class for testing (default: 0.1, at least one clip)"}
    )

    def clips(self) -> list[Clip]:
        """Every WAV, FLAC and OGG file in a class folder; hidden files and folders are left out.

        Raises:
            AudioError: the root is no folder, or cannot be listed.
            DataError: there is no class folder, or the fractions leave a class without a clip to train on.
        """
        valid, test = self.valid_fraction, self.test_fraction
        if not (valid >= 0 and test >= 0 and valid + test < 1):
            raise DataError(f"valid_fraction {valid} and test_fraction {test} must be 0 or above, their sum below 1")
        classes: dict[str, list[Path]] = {}
        for path in iter_audio_files(self.root):
            below = path.relative_to(self.root)
            if len(below.parts) > 1:
                classes.setdefault(below.parts[0], []).append(below)
        if not classes:
            raise DataError(
                f"{self.root}: holds no class folder with audio (WAV, FLAC, OGG); expected ROOT/CLASS/*.wav"
            )
        return [clip for label, paths in sorted(classes.items()) for clip in self._split(label, paths)]

    def _split(self, label: str, paths: list[Path]) -> list[Clip]:
        num_test, num_valid = (max(round(share * len(paths)), 1) if share else 0 for share in self._shares())
        if len(paths) <= num_test + num_valid:
            raise DataError(
                f"{self.root / label}: {len(paths)} clips leave none to train on; add more, or lower the fractions"
            )
        split_of = split_by_hash(paths, num_valid, num_test)
        return [Clip(self.root / path, split_of[path], label=label) for path in sorted(paths)]

    def _shares(self) -> tuple[float, float]:
        return self.test_fraction, self.valid_fraction
