"""VCTK 0.92: 110 English speakers of many accents, 44,000 sentences, 41 hours a microphone at 48 kHz, CC BY 4.0
(Yamagishi, Veaux and MacDonald, 2019).
"""

import dataclasses
from pathlib import Path

from wavediff.data.corpora.sharing import option, split_speakers, transcript
from wavediff.data.manifest import Clip
from wavediff.errors import DataError
from wavediff.files import is_leftover

_NAME, _AUDIO = "VCTK-Corpus-0.92", "wav48_silence_trimmed"


@dataclasses.dataclass(frozen=True)
class VCTK:
    """VCTK 0.92 in its own layout: wav48_silence_trimmed/pXXX/pXXX_NNN_mic1.flac and txt/pXXX/pXXX_NNN.txt.

    Splits by speaker. Of the two microphones one is taken; the second lacks two speakers.
    """

    root: Path
    mic: str = option("mic1", "microphone, mic1 or mic2 (default: mic1)")
    valid_speakers: int = option(4, "speakers to validate on, the next by the hash of their name (default: 4)")
    test_speakers: int = option(8, "speakers to test on, those with the lowest hash (default: 8)")

    def clips(self) -> list[Clip]:
        """Every recording of the microphone, with its sentence where the corpus has it.

        Raises:
            DataError: the folder is not in the corpus's layout, or no speaker is left to train on.
        """
        # The root may be the corpus, or the folder that holds it.
        folder = self.root if (self.root / _AUDIO).is_dir() else self.root / _NAME
        found = sorted((folder / _AUDIO).glob(f"*/*_{self.mic}.flac"))
        paths = [path for path in found if not is_leftover(path.relative_to(folder))]
        if not paths:
            raise DataError(
                f"{folder / _AUDIO}: holds no SPEAKER/*_{self.mic}.flac; pass the folder {_NAME} (mic1 or mic2), or "
                "prepare your own recordings as `folder`"
            )
        speaker_of = {path: path.parent.name for path in paths}
        split_of = split_speakers(speaker_of.values(), self.valid_speakers, self.test_speakers, folder)
        return [
            Clip(path, split_of[speaker], transcript(self._text(folder, path)), speaker)
            for path, speaker in speaker_of.items()
        ]

    def _text(self, folder: Path, path: Path) -> Path:
        return folder / "txt" / path.parent.name / f"{path.stem.removesuffix(f'_{self.mic}')}.txt"
