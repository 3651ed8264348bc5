"""LibriTTS: 2,456 English speakers reading, 585 hours at 24 kHz, CC BY 4.0 (Zen et al. 2019, arXiv 1904.02882); and
LibriTTS-R, the same restored (Koizumi et al. 2023, arXiv 2305.18802).
"""

import dataclasses
from pathlib import Path

from wavediff.data.corpora.sharing import option, split_speakers, transcript
from wavediff.data.manifest import Clip
from wavediff.errors import DataError
from wavediff.files import is_leftover

_NAMES = ("LibriTTS", "LibriTTS_R")
_SPLITS = {"train": "train", "dev": "valid", "test": "test"}  # first word of a subset's name -> split
_HELD_OUT = 0.04  # of the speakers, for each split that the folder lacks


@dataclasses.dataclass(frozen=True)
class LibriTTS:
    """LibriTTS or LibriTTS-R in its own layout: train-clean-100/SPEAKER/CHAPTER/*.wav with *.normalized.txt.

    Splits by speaker: the corpus's own, train-*, dev-* and test-*, of whatever subsets are there. Where there is no
    dev or no test subset, 4 % of the training speakers (at least one) stand in, those whose name has the lowest hash.
    """

    root: Path
    clean: bool = option(False, "leave out the noisier subsets, *-other-*")

    def clips(self) -> list[Clip]:
        """Every recording of the subsets, with its normalised transcript where the corpus has it.

        Raises:
            DataError: the folder is not in the corpus's layout, or no speaker is left to train on.
        """
        # The root may be the corpus, or the folder that holds it.
        folder = next((self.root / name for name in _NAMES if (self.root / name).is_dir()), self.root)
        found: dict[str, list[Path]] = {split: [] for split in _SPLITS.values()}
        for name, split in _SPLITS.items():
            for subset in sorted(folder.glob(f"{name}-*")):
                if not (self.clean and "other" in subset.name):
                    paths = sorted(subset.glob("*/*/*.wav"))
                    found[split] += [path for path in paths if not is_leftover(path.relative_to(folder))]
        if not found["train"]:
            raise DataError(
                f"{folder}: holds no train-*/SPEAKER/CHAPTER/*.wav; pass the folder LibriTTS, or prepare your own "
                "recordings as `folder`"
            )
        speakers = {_speaker(path) for path in found["train"]}
        stand_in = max(1, round(_HELD_OUT * len(speakers)))
        num_valid, num_test = (0 if found[split] else stand_in for split in ("valid", "test"))
        split_of = split_speakers(speakers, num_valid, num_test, folder)
        for path in found.pop("train"):
            found.setdefault(split_of[_speaker(path)], []).append(path)
        return [
            Clip(path, split, transcript(path.with_suffix(".normalized.txt")), _speaker(path))
            for split, paths in found.items()
            for path in paths
        ]


def _speaker(path: Path) -> str:
    return path.parent.parent.name
