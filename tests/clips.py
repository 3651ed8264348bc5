"""Small synthetic corpora for the tests of the data room."""

from pathlib import Path

import numpy as np
import soundfile

from wavediff.audio import read_info
from wavediff.data.manifest import Utterance, write_manifest

RATE = 8000


def utterance_of(path: Path) -> Utterance:
    info = read_info(path)
    return Utterance(path, info.seconds, info.sample_rate)


def write_clip(path: Path, frames: int = 800, sample_rate: int = 8000) -> Path:
    """A clip of noise; all of one length are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(frames).uniform(-0.5, 0.5, frames)
    soundfile.write(path, noise, sample_rate, subtype="PCM_16", format="WAV")
    return path


def write_clips(folder: Path, count: int, frames: int = 900) -> list[Utterance]:
    """16-bit clips, each sample of which is found in one clip alone and there only once."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        ramp = np.arange(frames, dtype=np.int16) + np.int16(number * frames - 2**15)
        soundfile.write(folder / f"{number:02}.wav", ramp, RATE)
    return [utterance_of(folder / f"{number:02}.wav") for number in range(count)]


def write_manifests(folder: Path) -> tuple[str, str]:
    """Manifests of 21 clips to train on (of 10 batches of 2, one is left over) and 5 to validate on."""
    for split, count in (("train", 21), ("valid", 5)):
        write_manifest(folder / f"{split}.jsonl", write_clips(folder / split, count))
    return str(folder / "train.jsonl"), str(folder / "valid.jsonl")
