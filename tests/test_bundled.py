"""The bundled vocoder on real speech that it was not trained on: gates on what it must not lose."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavediff import Vocoder
from wavediff.audio import read_audio
from wavediff.mel.griffin_lim import griffin_lim
from wavediff.metrics import evaluate_pair

METRICS = ("mr_stft", "log_mel_l1", "stoi", "noise_floor", "dc_offset")


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return Vocoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def clip(ljspeech: Path) -> Tensor:
    return read_audio(ljspeech / "wavs" / "LJ001-0002.wav")[0]


def quality(vocoder: Vocoder, clip: Tensor, **options: object) -> tuple[Tensor, dict]:
    speech = vocoder(clip, 22050, **options)
    return speech, evaluate_pair(clip, speech, 22050, METRICS)


@pytest.mark.parametrize(("num_steps", "sampler"), [(1, "ddim"), (2, "ddim"), (4, "ddim"), (4, "ddpm")])
def test_it_beats_griffin_lim_in_every_number_of_steps(
    vocoder: Vocoder, clip: Tensor, num_steps: int, sampler: str
) -> None:
    _, ours = quality(vocoder, clip, num_steps=num_steps, sampler=sampler)
    classical = griffin_lim(vocoder.mel(clip, 22050), vocoder.mel_spec)[0]
    theirs = evaluate_pair(clip, classical, 22050, METRICS)
    assert ours["mr_stft"] < 0.75 * theirs["mr_stft"]
    assert ours["stoi"] > 0.97
    assert ours["log_mel_l1"] < 0.15


def test_the_seed_changes_the_waveform_and_not_the_quality(vocoder: Vocoder, clip: Tensor) -> None:
    (first, good), (second, as_good) = (quality(vocoder, clip, seed=seed) for seed in (0, 1))
    assert (first - second).abs().max() > 0.1 * first.abs().max()
    assert good["mr_stft"] == pytest.approx(as_good["mr_stft"], rel=0.03)
    assert good["stoi"] == pytest.approx(as_good["stoi"], abs=0.01)


def test_silence_stays_silent_and_nothing_drifts(vocoder: Vocoder, clip: Tensor) -> None:
    silence = vocoder(torch.zeros(22050), 22050)
    assert silence.abs().max() < 10 ** (-60 / 20)
    padded = torch.cat([clip, torch.zeros(11025), clip])
    speech = vocoder(padded, 22050)
    gap = speech[len(clip) + 2048 : len(clip) + 11025 - 2048]
    assert gap.square().mean().sqrt() < 10 ** (-60 / 20)
    assert abs(quality(vocoder, clip)[1]["dc_offset"]) < 1e-4


def test_what_lies_above_the_mel_is_neither_empty_nor_loud(vocoder: Vocoder, clip: Tensor) -> None:
    """The mel ends at 8 kHz, the audio at 11 kHz. The model card says how much is missing there."""

    def treble(waveform: Tensor) -> float:
        spectrum = torch.stft(waveform, 1024, 256, window=torch.hann_window(1024), return_complex=True).abs()
        return spectrum[380:500].square().mean().log10().item() * 10

    speech = vocoder(clip, 22050)
    assert treble(speech) == pytest.approx(treble(clip[: len(speech)]), abs=10)  # dB


def test_gain_goes_through(vocoder: Vocoder, clip: Tensor) -> None:
    """A recording 20 dB lower comes back 20 dB lower, as good."""
    speech, loud = quality(vocoder, clip)
    quiet = vocoder(0.1 * clip, 22050)
    assert (speech.norm() / quiet.norm()).item() == pytest.approx(10, rel=0.1)
    lowered = evaluate_pair(0.1 * clip, quiet, 22050, METRICS)
    assert lowered["stoi"] == pytest.approx(loud["stoi"], abs=0.02)
