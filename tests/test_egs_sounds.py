"""The examples that make sounds, run as their users run them, on a small untrained model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from sounds import LABELS, RATE, small_generator

from wavediff.audio import centred, ended, read_audio, read_info, trim, with_peak, write_audio


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "sounds.safetensors"
    small_generator("latent").save(path)
    return str(path)


def run(example: str, model: str, folder: Path, *options: str) -> str:
    command = [sys.executable, str(REPOSITORY / "egs" / example), "--checkpoint", model, "--output", "out", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sound_pack_has_a_page_and_an_index_that_tells_how_to_make_each_again(model: str, tmp_path: Path) -> None:
    run("sound_pack.py", model, tmp_path, "--count", "2", "--seed", "3")
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert [row["label"] for row in index] == [label for label in LABELS for _ in range(2)]
    last = index[-1]
    written = read_audio(tmp_path / "out" / last["file"])[0]
    again = small_generator("latent").generate(label=last["label"], seed=last["seed"])[0]
    again = with_peak(trim(ended(centred(again, RATE), RATE), RATE))
    assert (written - again[: len(written)]).abs().max() < 1e-3
    assert (tmp_path / "out" / "index.html").read_text().count("<audio") == 6


def test_weak_variations_resemble_the_recording(model: str, tmp_path: Path) -> None:
    sound = 0.1 * torch.randn(3000, generator=torch.Generator().manual_seed(0))
    write_audio(tmp_path / "clip.wav", sound, RATE)
    out = run("variations.py", model, tmp_path, "--clip", "clip.wav", "--count", "2")
    assert out.count("correlation") == 4
    assert len(list((tmp_path / "out").glob("strength*.wav"))) == 8
    assert (tmp_path / "out" / "variations.png").is_file()
    run("variations.py", model, tmp_path, "--label", "glass", "--count", "1")


def test_the_loop_is_written_once_and_repeated(model: str, tmp_path: Path) -> None:
    assert "at the seam" in run("loop.py", model, tmp_path, "--label", "wood", "--seconds", "0.5", "--repeats", "3")
    once, repeated = (read_info(tmp_path / "out" / name).frames for name in ("loop.wav", "repeated.wav"))
    assert (once, repeated) == (RATE // 2, 3 * RATE // 2)
