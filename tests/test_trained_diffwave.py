"""The DiffWave that is committed with its recipe, on the bundled clip of speech."""

import functools

import pytest
import torch
from conftest import REPOSITORY
from torch import Tensor

import wavediff
from wavediff.audio import read_audio
from wavediff.cli.demo import CLIP
from wavediff.metrics import evaluate_pair
from wavediff.models.checkpoint import load_checkpoint

FILE = REPOSITORY / "recipes" / "ljspeech" / "diffwave.safetensors"
pytestmark = pytest.mark.slow


@functools.cache
def vocoder() -> wavediff.Vocoder:
    return wavediff.Vocoder.from_pretrained(FILE, "cpu")


def test_it_makes_more_of_its_guess() -> None:
    """The guess has nothing above the mel, and holes between its harmonics."""
    recorded, rate = read_audio(CLIP, 22_050)
    mel = vocoder().mel(recorded, rate)
    states = list(vocoder().states(mel, 1, mel_spec=vocoder().mel_spec))
    guess, speech = states[1][0].clamp(-1, 1), states[-1][0].clamp(-1, 1)
    names = ["stoi", "mr_stft", "high_band_voiced"]

    def scores(signal: Tensor) -> dict[str, float]:
        return evaluate_pair(recorded, signal, rate, names)

    found, before = scores(speech), scores(guess)
    assert found["stoi"] > 0.95
    assert found["mr_stft"] < 1.1
    assert found["mr_stft"] < before["mr_stft"] - 0.15
    assert abs(found["high_band_voiced"]) < 8


def test_silence_stays_silent() -> None:
    mel = vocoder().mel(torch.zeros(22_050), 22_050)
    speech = vocoder().decode(mel, 1, mel_spec=vocoder().mel_spec)
    assert speech.square().mean().sqrt() < 1e-4  # -80 dBFS


def test_the_file_is_small_and_says_how_it_came_about() -> None:
    facts = load_checkpoint(FILE).facts
    assert FILE.stat().st_size < 7e6
    assert facts["steps"] == 4000
    assert "800 adversarial steps" in facts["fine_tuning"]
