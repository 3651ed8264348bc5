"""Free Spoken Digit Dataset: 3,000 recordings of six speakers at 8 kHz, CC BY-SA 4.0 (Jackson et al., 2018)."""

import dataclasses
import re
from pathlib import Path

from wavediff.data.corpora.sc09 import DIGITS
from wavediff.data.manifest import Clip
from wavediff.errors import DataError

_PATTERN = re.compile(r"([0-9])_([^_]+)_([0-9]+)\.wav")
_NUM_TEST, _NUM_VALID = 5, 5  # of each digit by each speaker; the test set is the corpus's own


@dataclasses.dataclass(frozen=True)
class FSDD:
    """Free Spoken Digit Dataset: recordings/DIGIT_SPEAKER_INDEX.wav, or the folder of recordings itself.

    The label is the digit as a word, zero to nine, as SC09 has it. Splits: indices 0 to 4 are the official test set;
    of the rest, which is to train on, 5 to 9 validate. So every speaker is in every split.
    """

    root: Path

    def clips(self) -> list[Clip]:
        """Every recording, by digit, speaker and index; hidden files are left out.

        Raises:
            DataError: there is no recording, one is not named as the corpus's files are, or none is left to train on.
        """
        folder = self.root / "recordings" if (self.root / "recordings").is_dir() else self.root
        clips = []
        for path in folder.glob("*.wav"):
            if path.name.startswith("."):
                continue
            if not (named := _PATTERN.fullmatch(path.name)):
                raise DataError(f"{path}: is not named DIGIT_SPEAKER_INDEX.wav as the corpus's files are; move it away")
            digit, speaker, index = int(named[1]), named[2], int(named[3])
            clips.append((digit, speaker, index, Clip(path, _split(index), speaker=speaker, label=DIGITS[digit])))
        if not any(clip.split == "train" for *_, clip in clips):
            raise DataError(
                f"{self.root}: {len(clips)} recordings leave none to train on; pass the folder that holds recordings/"
            )
        return [clip for *_, clip in sorted(clips, key=lambda item: item[:3])]


def _split(index: int) -> str:
    return "test" if index < _NUM_TEST else "valid" if index < _NUM_TEST + _NUM_VALID else "train"
