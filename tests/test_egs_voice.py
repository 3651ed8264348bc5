"""The example that goes on training, run as its users run it, for a few seconds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

import wavediff
from wavediff.audio import read_audio, write_audio
from wavediff.metrics import mr_stft
from wavediff.models import WEIGHTS


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "egs" / "voice.py"), "clips", "--seconds", "4", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_a_voice_is_learnt_further_and_the_model_is_what_made_the_second_sound(tmp_path: Path) -> None:
    waveform, rate = read_audio(WEIGHTS / "clip.flac")
    for number, part in enumerate(waveform.chunk(3)):
        write_audio(tmp_path / "clips" / f"{number}.wav", part, rate)
    done = run(tmp_path, "--batch-size", "1")
    assert done.returncode == 0, done.stderr
    told = dict(re.findall(r"^(before|after): MR-STFT ([0-9.]+)", done.stdout, re.MULTILINE))
    held_out, rate = read_audio(sorted((tmp_path / "clips").glob("*.wav"))[-1], 22050)
    model = wavediff.Vocoder.from_pretrained(tmp_path / "voice" / "model.safetensors", "cpu")
    made = {"before": wavediff.Vocoder.from_pretrained(None, "cpu"), "after": model}
    for name, vocoder in made.items():
        speech = vocoder(held_out, rate)
        torch.testing.assert_close(read_audio(tmp_path / "voice" / f"{name}.wav")[0], speech, atol=1e-4, rtol=0)
        assert mr_stft(held_out[: len(speech)], speech, rate) == pytest.approx(float(told[name]), abs=0.002)
    weights = (made[name].denoiser.state_dict() for name in ("before", "after"))
    assert any(not torch.equal(one, other) for one, other in zip(*(state.values() for state in weights), strict=True))


def test_recordings_that_are_too_short_are_said(tmp_path: Path) -> None:
    for number in range(2):
        write_audio(tmp_path / "clips" / f"{number}.wav", torch.rand(4000) - 0.5, 22050)
    done = run(tmp_path)
    assert done.returncode == 1
    assert "holds 0 recordings over 0.7 s, 2 are needed" in done.stderr
