"""Any folder of recordings."""

import bisect
import dataclasses
from collections import Counter
from pathlib import Path

from wavediff.audio import iter_audio_files
from wavediff.data.corpora.sharing import check_fractions, option, split_by_hash, unit_hash
from wavediff.data.manifest import Clip
from wavediff.errors import DataError
from wavediff.files import is_leftover


@dataclasses.dataclass(frozen=True)
class Folder:
    """Any folder of recordings, sub-folders included; the first level of sub-folders is the speaker.

    A clip's split depends on a hash of its path below the root: it stays where it is when others are added.
    """

    root: Path
    valid_fraction: float = option(0.02, "share of the clips for validation (default: 0.02)")
    test_fraction: float = option(0.02, "share of the clips for testing (default: 0.02)")

    def clips(self) -> list[Clip]:
        """Every audio file (WAV, FLAC, OGG, MP3, ...) below the root; hidden files and folders are left out.

        Raises:
            AudioError: the root is no folder, or cannot be listed.
            DataError: nothing to train on is found, or left by the fractions.
        """
        valid, test = self.valid_fraction, self.test_fraction
        check_fractions(valid, test)
        paths = [path.relative_to(self.root) for path in iter_audio_files(self.root)]
        if not paths:
            raise DataError(f"{self.root}: holds no audio file (WAV, FLAC, OGG, MP3, ...){_others(self.root)}")
        # The lowest hashes are tested on, then validated on: at least one clip each where a share was asked for.
        hashes = sorted(unit_hash(path) for path in paths)
        num_test = max(bisect.bisect_left(hashes, test), int(test > 0))
        num_held_out = max(bisect.bisect_left(hashes, valid + test), num_test + int(valid > 0))
        if len(paths) <= num_held_out:
            raise DataError(f"{self.root}: {len(paths)} audio files leave none to train on; add more")
        split_of = split_by_hash(paths, num_held_out - num_test, num_test)
        return [
            Clip(self.root / path, split_of[path], speaker=path.parts[0] if len(path.parts) > 1 else None)
            for path in paths
        ]


def _others(root: Path) -> str:
    """What a folder holds instead of audio, counted by extension, and the cure."""
    below = (path for path in root.rglob("*") if not is_leftover(path.relative_to(root)) and path.is_file())
    counts = Counter(path.suffix.lower() or "no extension" for path in below)
    if not counts:
        return "; name the folder of the recordings"
    listed = ", ".join(f"{count} of {suffix}" for suffix, count in counts.most_common(5))
    return f", but files of other kinds ({listed}); convert recordings to one of these, e.g. with ffmpeg"
