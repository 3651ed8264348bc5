"""Memory does not grow with the work: ten times the sound adds that sound at most, 10,000 files next to nothing."""

import os
import sys
import time
from pathlib import Path

import originals
import pytest
import torch
from memory import LONG_SECONDS, peak_of
from workers import closing_line

from wavediff.audio import write_audio
from wavediff.data.manifest import read_manifest
from wavediff.mel import write_mel
from wavediff.models.checkpoint import save_checkpoint
from wavediff.models.config import build_denoiser

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak memory like this")
RATE, SPEC = originals.CONFIG.sample_rate, originals.CONFIG.mel
NOISE = 2 << 20  # [bytes] that a peak differs by from run to run
SCAN = 50 << 20  # [bytes] that a scan may add


def write_input(path: Path, seconds: float) -> None:
    """A recording, or a mel, of noise."""
    generator = torch.Generator().manual_seed(0)
    if path.suffix == ".wav":
        write_audio(path, 0.1 * torch.randn(int(RATE * seconds), generator=generator), RATE)
    else:
        assert SPEC is not None
        frames = int(RATE * seconds) // SPEC.hop_length
        write_mel(path, torch.rand(SPEC.n_mels, frames, generator=generator) * 8 - 9, SPEC)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("safetensors", 40),
        *(pytest.param(kind, 300, marks=pytest.mark.long) for kind in ("npy", "safetensors", "wav")),
    ],
)
def test_ten_times_the_sound_takes_that_sound_more_at_most(kind: str, seconds: int, tmp_path: Path) -> None:
    start, model, peaks = time.monotonic(), tmp_path / "model.safetensors", []
    torch.manual_seed(0)
    save_checkpoint(model, originals.CONFIG, build_denoiser(originals.CONFIG).state_dict())
    assert seconds > LONG_SECONDS
    for length in (seconds, 10 * seconds):
        source, target = tmp_path / f"{length}.{kind}", tmp_path / f"{kind}-{length}.wav"
        write_input(source, length)
        options = ["--checkpoint", str(model), "--device", "cpu", "--num-steps", "1", "--quiet"]
        peaks.append(peak_of("vocode", str(source), "-o", str(target), *options))
    grown, output = peaks[1] - peaks[0], 10 * seconds * RATE * 4  # float32
    text = f"{seconds} to {10 * seconds} s, .{kind}: {grown / 1e6:.1f} MB more, the output has {output / 1e6:.1f} MB"
    closing_line(f"memory of vocoding, {text}", start)
    # A recording is read whole; a mel is not, nor is what becomes of either kept.
    assert grown <= (1.1 if kind == "wav" else 0.1) * output + NOISE


@pytest.mark.parametrize("files", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_the_scan_of_a_large_corpus_takes_little_memory(files: int, tmp_path: Path) -> None:
    start, peaks = time.monotonic(), []
    for count in (20, files):
        root = tmp_path / str(count)
        write_audio(root / "0.wav", torch.rand(RATE) - 0.5, RATE)
        for number in range(1, count):
            os.link(root / "0.wav", root / f"{number}.wav")
        peaks.append(peak_of("prepare", "folder", str(root), "-o", str(tmp_path / f"{count}-out"), "--quiet"))
    grown = peaks[1] - peaks[0]
    listed = [tmp_path / f"{files}-out" / f"{split}.jsonl" for split in ("train", "valid", "test")]
    assert sum(len(read_manifest(path)) for path in listed if path.stat().st_size) == files
    closing_line(f"memory of scanning {files} files: {grown / 1e6:.1f} MB more than of 20", start)
    assert grown <= SCAN * files / 10_000 + NOISE
