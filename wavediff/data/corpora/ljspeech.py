"""LJ Speech: 13,100 clips of one speaker reading, 24 hours at 22,050 Hz, public domain (Ito and Johnson, 2017)."""

import dataclasses
import hashlib
import warnings
from pathlib import Path

from wavediff.data.corpora.sharing import download, option, read_text
from wavediff.data.manifest import Clip
from wavediff.errors import DataError

_NAME = "LJSpeech-1.1"
_HEADERS = {"id", "ids", "file", "files", "filename", "file_name", "file_id", "path", "audio", "audio_file", "wav"}


@dataclasses.dataclass(frozen=True)
class LJSpeech:
    """LJ Speech 1.1 in its own layout: metadata.csv and wavs/.

    Splits: where the folder holds `train.txt` and `test.txt` (one id a line), those; otherwise chapter LJ001 (186
    clips of the full corpus) is the test set, whole, because clips of one chapter continue each other. In both
    cases validation takes a few clips away from training, those whose id has the lowest hash: 3 %, at least 4
    and at most 100.
    """

    root: Path
    download: bool = option(False, "fetch the corpus (2.6 GB) if it is not there; nothing is fetched otherwise")

    def clips(self) -> list[Clip]:
        """Every clip of metadata.csv that a split names, with its normalised transcript.

        Raises:
            DataError: the folder is not in the corpus's layout, its lists disagree with each other, or the
                download failed.
        """
        # The root may be the corpus, or the folder that holds it: where the archive was unpacked.
        folder = self.root if self.root.name == _NAME or (self.root / "metadata.csv").exists() else self.root / _NAME
        if self.download:
            if folder.name != _NAME:
                raise DataError(f"{folder}: already holds another corpus; pass an empty folder to download into")
            download("LJSPEECH", folder.parent)
        texts = _read_metadata(folder)
        split_of = _splits(folder, list(texts))
        return [
            Clip(folder / "wavs" / f"{clip_id}.wav", split_of[clip_id], text)
            for clip_id, text in texts.items()
            if clip_id in split_of
        ]


def _read_metadata(folder: Path) -> dict[str, str]:
    """Transcripts by id: `id|transcript|normalised transcript` on each line, quotes meaning nothing.

    A first line that names columns is left out with a warning; an id may end in `.wav`.
    """
    path = folder / "metadata.csv"
    texts: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        clip_id, *columns = line.split("|")
        if number == 1 and clip_id.strip().lower() in _HEADERS and not (folder / "wavs" / f"{clip_id}.wav").exists():
            warnings.warn(f"{path}: its first line is taken for a header and left out", stacklevel=3)
            continue
        clip_id = clip_id.removesuffix(".wav")
        if not columns:
            raise DataError(f"{path}, line {number}: no transcript; expected `id|transcript|normalised transcript`")
        texts[clip_id] = columns[-1]
    return texts


def _splits(folder: Path, ids: list[str]) -> dict[str, str]:
    if (folder / "train.txt").exists() and (folder / "test.txt").exists():
        train, test = (_read_ids(folder / name, ids) for name in ("train.txt", "test.txt"))
    else:
        test = [clip_id for clip_id in ids if clip_id.startswith("LJ001-")]
        train = [clip_id for clip_id in ids if not clip_id.startswith("LJ001-")]
    if both := sorted(set(train) & set(test)):
        raise DataError(f"{folder}: {both[0]} is in train.txt and in test.txt; take it out of one")
    num_valid = min(100, max(4, round(0.03 * len(train))))
    if len(train) <= num_valid:
        raise DataError(f"{folder}: {len(train)} clips to train on are too few; the corpus has 13,100")
    valid = sorted(train, key=lambda clip_id: hashlib.sha256(clip_id.encode()).digest())[:num_valid]
    return dict.fromkeys(train, "train") | dict.fromkeys(valid, "valid") | dict.fromkeys(test, "test")


def _read_ids(path: Path, known: list[str]) -> list[str]:
    ids = [line.removesuffix(".wav") for line in _lines(path)]
    if unknown := sorted(set(ids) - set(known)):
        raise DataError(f"{path}: {unknown[0]} is not in metadata.csv; correct the list")
    return ids


def _lines(path: Path) -> list[str]:
    cure = f"pass the folder {_NAME}, `--download` to fetch it, or prepare your own recordings as `folder`"
    return [line for line in read_text(path, cure).split("\n") if line.strip()]
