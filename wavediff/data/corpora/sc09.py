"""SC09, the digits of Speech Commands: 38,908 recordings of at most a second, 16 kHz, CC BY 4.0 (Warden, 2018)."""

import dataclasses
import re
from pathlib import Path

from wavediff.data.corpora.sharing import download, option, read_text
from wavediff.data.manifest import Clip
from wavediff.errors import DataError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_FOLDER, _NAME = "SpeechCommands", "speech_commands_v0.02"  # as torchaudio unpacks the archive
_LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
_PATTERN = re.compile(rf"({'|'.join(DIGITS)})/([^/]+)_nohash_([0-9]+)\.wav")


@dataclasses.dataclass(frozen=True)
class SC09:
    """The words zero to nine of Speech Commands 0.02 in its own layout; the word is the label.

    Splits are the corpus's own, which no speaker crosses: validation_list.txt, testing_list.txt, and the rest to
    train on. The speaker is the hash that the name of a file begins with.
    """

    root: Path
    download: bool = option(False, "fetch the corpus (2.4 GB) if it is not there; nothing is fetched otherwise")

    def clips(self) -> list[Clip]:
        """Every recording of a digit, and every one that a list names; hidden files are left out.

        Raises:
            DataError: the folder is not in the corpus's layout, its lists disagree with each other, or the
                download failed.
        """
        # The root may be the corpus, or the folder that torchaudio downloads to.
        own = self.root.name == _NAME or (self.root / _LISTS["test"]).exists()
        folder = self.root if own else self.root / _FOLDER / _NAME
        if self.download:
            if (folder.parent.name, folder.name) != (_FOLDER, _NAME):
                raise DataError(f"{folder}: is not {_FOLDER}/{_NAME}; pass an empty folder to download into")
            download("SPEECHCOMMANDS", folder.parent.parent)
        split_of = _listed(folder)
        for digit in DIGITS:
            found = [path for path in sorted((folder / digit).glob("*.wav")) if not path.name.startswith(".")]
            if not found:
                raise DataError(f"{folder / digit}: holds no recording (.wav); fetch the corpus again, whole")
            for path in found:
                split_of.setdefault(f"{digit}/{path.name}", "train")
        return [_clip(folder, name, split_of[name]) for name in sorted(split_of, key=_order)]


def _order(name: str) -> tuple[int, str]:
    return DIGITS.index(name.partition("/")[0]), name


def _clip(folder: Path, name: str, split: str) -> Clip:
    if not (named := _PATTERN.fullmatch(name)):
        raise DataError(f"{folder / name}: is not named SPEAKER_nohash_NUMBER.wav as the corpus's are; move it away")
    return Clip(folder / name, split, speaker=named[2], label=named[1])


def _listed(folder: Path) -> dict[str, str]:
    """The split of each recording of a digit that a list names, by its path below the folder."""
    split_of: dict[str, str] = {}
    cure = f"pass the folder {_NAME} or the one that holds {_FOLDER}/{_NAME}, or `--download` to fetch it"
    for split, list_name in _LISTS.items():
        for name in read_text(folder / list_name, cure).split():
            if name.partition("/")[0] in DIGITS and split_of.setdefault(name, split) != split:
                raise DataError(f"{folder}: {name} is in both {' and '.join(_LISTS.values())}; take it out of one")
    return split_of
