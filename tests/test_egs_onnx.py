"""The example that vocodes without torch, run as its users run it, on a small untrained vocoder."""

import ast
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from vocoders import untrained

from wavediff.backbones import DiffWaveConfig
from wavediff.exporting import export_onnx
from wavediff.exporting.real_stft import MatrixSTFT
from wavediff.exporting.tracing import module_of
from wavediff.mel import MelSpec
from wavediff.models.config import ModelConfig
from wavediff.pipelines.vocoder import Vocoder

pytest.importorskip("onnxscript", reason="the exporter is absent: pip install 'wavediff[onnx]'")
pytest.importorskip("onnxruntime", reason="what runs ONNX files is absent: pip install onnxruntime")

EXAMPLE = REPOSITORY / "egs" / "onnx_vocoder.py"
FRAMES, RATE = 20, 16_000
SPEC = MelSpec.preset("speecht5")


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    config = ModelConfig(DiffWaveConfig(channels=4, layers=1, dilation_cycle=1), mel=SPEC, sample_rate=RATE)
    return untrained(config)


@pytest.fixture(scope="module")
def folder(vocoder: Vocoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds vocoder.onnx and mel.npy."""
    folder = tmp_path_factory.mktemp("onnx")
    export_onnx(vocoder, folder / "vocoder.onnx", "sampler", vocoder.plan(2))
    mel = -1 - np.random.default_rng(1).random((SPEC.n_mels, FRAMES), np.float32)
    np.save(folder / "mel.npy", mel)
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_the_example_makes_of_its_noise_what_the_package_makes_of_it(vocoder: Vocoder, folder: Path) -> None:
    done = run(folder, "vocoder.onnx", "mel.npy", "-o", "speech.wav", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"speech.wav: {FRAMES * 256 / RATE:.2f} s, by ddpm\n"
    with wave.open(str(folder / "speech.wav")) as sound:
        assert sound.getparams()[:4] == (1, 2, RATE, FRAMES * 256)
        written = np.frombuffer(sound.readframes(FRAMES * 256), "<i2") / 32767
    noise = np.random.default_rng(3).standard_normal((1, 2, FRAMES * 256), np.float32)
    module, _ = module_of(vocoder, "sampler", vocoder.plan(2), MatrixSTFT)
    with torch.no_grad():
        expected = module(torch.from_numpy(np.load(folder / "mel.npy"))[None], torch.from_numpy(noise))[0].numpy()
    assert (np.abs(expected) < 1).mean() > 0.2
    np.testing.assert_allclose(written, expected, rtol=0, atol=1e-4)


def test_the_example_refuses_a_mel_of_other_bands(folder: Path) -> None:
    np.save(folder / "transposed.npy", np.load(folder / "mel.npy").T)
    done = run(folder, "vocoder.onnx", "transposed.npy", "-o", "never.wav")
    assert done.returncode != 0
    assert done.stderr == f"transposed.npy: shape (1, {FRAMES}, 80) is not a finite mel (1, 80, frames) of speecht5\n"
    assert not (folder / "never.wav").exists()


def test_the_example_keeps_a_file_that_is_already_there(folder: Path) -> None:
    (folder / "kept.wav").write_bytes(b"mine")
    done = run(folder, "vocoder.onnx", "mel.npy", "-o", "kept.wav")
    assert done.returncode != 0
    assert done.stderr.startswith("kept.wav: already exists")
    assert (folder / "kept.wav").read_bytes() == b"mine"


def test_the_example_needs_neither_torch_nor_wavediff() -> None:
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names - sys.stdlib_module_names == {"numpy", "onnxruntime"}
