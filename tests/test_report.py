"""Spectrogram pictures: what they show, and that they are written once and whole."""

import math
from pathlib import Path

import pytest
import soundfile
import torch
from matplotlib.image import imread

from wavediff.errors import AudioError, OutputError
from wavediff.report import save_spectrogram, spectrogram_decibels


def test_a_spectrogram_shows_a_full_scale_tone_at_its_place_and_level() -> None:
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(16000) / 16000)
    decibels = spectrogram_decibels(tone, 16000)  # (n_fft // 2 + 1, frames)
    assert decibels[:, 30].max().item() == pytest.approx(0, abs=0.1)
    assert decibels[:, 30].argmax().item() * 8000 / (decibels.shape[0] - 1) == pytest.approx(1000, abs=10)


def test_the_picture_of_two_signals_is_written_once_and_whole(tmp_path: Path, ljspeech: Path) -> None:
    samples, rate = soundfile.read(ljspeech / "wavs" / "LJ001-0002.wav", dtype="float32")
    speech = torch.from_numpy(samples)
    path = tmp_path / "pictures" / "pair.png"
    save_spectrogram(path, {"recording": speech, "half": speech[: len(speech) // 2]}, rate)
    pixels = imread(path)  # (height, width, 4)
    assert pixels.shape[1] > pixels.shape[0] > 400
    assert [file.name for file in path.parent.iterdir()] == ["pair.png"]
    with pytest.raises(OutputError, match="already exists"):
        save_spectrogram(path, {"recording": speech}, rate)
    for bad in ({}, {"two": speech[None]}, {"none": speech[:0]}, {"holed": speech * math.nan}):
        with pytest.raises(AudioError):
            save_spectrogram(path, bad, rate, overwrite=True)
