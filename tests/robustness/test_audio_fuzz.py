"""Damaged at random, a file is refused or gives finite samples; nothing else happens."""

import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from handmade import RATE, SAMPLES
from mutations import mutant

from wavediff.audio import read_audio
from wavediff.errors import AudioError


@pytest.mark.filterwarnings("ignore::UserWarning", "error::RuntimeWarning")
@pytest.mark.parametrize(
    ("extension", "subtype"),
    [
        ("wav", "PCM_16"),
        ("wav", "FLOAT"),
        ("flac", "PCM_16"),
        ("ogg", "VORBIS"),
        ("aiff", "PCM_16"),
        ("au", "FLOAT"),
        ("caf", "PCM_16"),
        ("w64", "PCM_16"),
        ("mp3", "MPEG_LAYER_III"),
    ],
)
def test_a_mutant_is_refused_or_gives_finite_samples(tmp_path: Path, extension: str, subtype: str) -> None:
    chance, path = random.Random(0), tmp_path / f"a.{extension}"
    soundfile.write(path, np.stack([SAMPLES, SAMPLES[::-1]], axis=1) / 32768, RATE, subtype=subtype)
    content, survivors = path.read_bytes(), 0
    refusals: list[str] = []
    for _ in range(200):
        path.write_bytes(mutant(content, chance))
        try:
            waveform, _ = read_audio(path, lenient=chance.random() < 0.5)
        except AudioError as error:
            refusals.append(str(error))
        else:
            assert waveform.isfinite().all()
            survivors += 1
    assert all(path.name in message and "\n" not in message for message in refusals)
    assert len(refusals) > 50
    assert survivors > 0
