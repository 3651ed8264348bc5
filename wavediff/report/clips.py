"""The sounds of a listening page: found below a folder, measured, and encoded for a browser."""

import dataclasses
import os
import tempfile
from pathlib import Path

from torch import Tensor

from wavediff.audio import iter_audio_files, read_audio, write_audio
from wavediff.audio.finish import find_faults
from wavediff.report.pictures import small_spectrogram


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound as a page needs it.

    `peak` and `dc` (the mean) are parts of full scale; `faults` names what is wrong, in a word or two each.
    `audio` is a WAV file of one channel and 16 bits, `picture` a WebP.
    """

    name: str
    seconds: float
    sample_rate: int
    peak: float
    dc: float
    faults: tuple[str, ...]
    audio: bytes
    picture: bytes


def find_sounds(root: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Every audio file below `root`, by its folder's path below it ("" for files in `root` itself).

    Hidden files and folders are left out; groups and files are in order of their names.

    Raises:
        AudioError: `root` is no folder, or one in it cannot be listed.
    """
    groups: dict[str, list[Path]] = {}
    for path in iter_audio_files(root):
        below = path.relative_to(root)
        groups.setdefault("" if len(below.parts) == 1 else below.parent.as_posix(), []).append(path)
    return dict(sorted(groups.items()))


def load_sound(path: Path) -> Sound:
    """Read a sound, several channels downmixed to one, measure it and draw it.

    Raises:
        AudioError: as `read_audio`.
    """
    waveform, sample_rate = read_audio(path)
    return Sound(
        name=path.name,
        seconds=len(waveform) / sample_rate,
        sample_rate=sample_rate,
        peak=waveform.abs().max().item(),
        dc=waveform.double().mean().item(),
        faults=find_faults(waveform),
        audio=encode_sound(waveform, sample_rate),
        picture=small_spectrogram(waveform, sample_rate),
    )


def encode_sound(waveform: Tensor, sample_rate: int) -> bytes:
    """A WAV file of 16 bits, of a waveform (N,), for a browser; what is beyond full scale is clipped.

    WAV, because it is exact, and every browser plays it from any place: Chromium fails to jump in a short FLAC file,
    which would be half the size, and older Safaris play no OGG.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"
        write_audio(path, waveform.clamp(-1, 1), sample_rate)  # whoever read it has been warned
        return path.read_bytes()
