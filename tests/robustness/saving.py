"""What is saved again and again while the saver is killed or the disk is full."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import originals
import torch
from training_runs import use_tmpdir

from wavediff.audio import read_audio, write_audio
from wavediff.data.manifest import Utterance, read_manifest, write_manifest
from wavediff.mel import read_mel, write_mel
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import build_denoiser
from wavediff.training.guards import AtomicCheckpointIO, load_training_checkpoint

RATE = 16_000
AUDIO_SAMPLES = 400_000


@dataclass(frozen=True)
class Kind:
    """A kind of file: `save` writes the state of a step over an older one, `load` tells the step of what is there."""

    name: str
    save: Callable[[Path, int], None]
    load: Callable[[Path], int]


def _save_model(path: Path, step: int) -> None:
    weights = build_denoiser(originals.CONFIG).state_dict()
    save_checkpoint(path, originals.CONFIG, weights, {"steps": step}, overwrite=True)


def _load_model(path: Path) -> int:
    checkpoint = load_checkpoint(path)
    checkpoint.build()
    return int(checkpoint.facts["steps"])


def _save_state(path: Path, step: int) -> None:
    AtomicCheckpointIO().save_checkpoint({"global_step": step, "weights": torch.full((400_000,), float(step))}, path)


def _load_state(path: Path) -> int:
    state = load_training_checkpoint(path)
    assert state["weights"].eq(state["global_step"]).all(), "weights of another step"
    return int(state["global_step"])


def _save_audio(path: Path, step: int) -> None:
    write_audio(path, torch.full((AUDIO_SAMPLES,), step / 4096), RATE, overwrite=True)


def _load_audio(path: Path) -> int:
    waveform, _ = read_audio(path)
    assert len(waveform) == AUDIO_SAMPLES, "cut"
    assert waveform.eq(waveform[0]).all(), "two sounds in one file"
    return round(waveform[0].item() * 4096)


def _save_mel(path: Path, step: int) -> None:
    write_mel(path, torch.full((originals.HIFIGAN.n_mels, 500), -float(step)), originals.HIFIGAN, overwrite=True)


def _load_mel(path: Path) -> int:
    return -int(read_mel(path)[0][0, 0])


def _save_manifest(path: Path, step: int) -> None:
    clip = Utterance(path.parent / "a.wav", float(step), RATE, text="x" * 1000)
    write_manifest(path, [clip] * 50, overwrite=True)


def _load_manifest(path: Path) -> int:
    return int(read_manifest(path)[0].seconds)


KINDS = {
    "model": Kind("model.safetensors", _save_model, _load_model),
    "training state": Kind("last.ckpt", _save_state, _load_state),
    "wav": Kind("a.wav", _save_audio, _load_audio),
    "flac": Kind("a.flac", _save_audio, _load_audio),
    "npy": Kind("mel.npy", _save_mel, _load_mel),
    "mel": Kind("mel.safetensors", _save_mel, _load_mel),
    "manifest": Kind("m.jsonl", _save_manifest, _load_manifest),
}


def save_on(kind: str, folder: Path, first: int, tmpdir: str | None, pipe: Any) -> None:
    """Save step after step, and say each step that is safely there; runs until it is killed."""
    torch.set_num_threads(1)
    use_tmpdir(tmpdir)
    chosen, step = KINDS[kind], first
    while True:
        chosen.save(folder / chosen.name, step)
        pipe.send(step)
        step += 1


def save_once(kind: str, folder: Path, prepare: Callable[[Path, int], None], room: int, pipe: Any) -> None:
    """Save step 2 after `prepare(folder, room)`; say the type and the message of the error, or two empty words."""
    chosen = KINDS[kind]
    prepare(folder, room)
    try:
        chosen.save(folder / chosen.name, 2)
        answer = ("", "")
    except BaseException as error:
        answer = (type(error).__name__, str(error))
    pipe.send(answer)


def size_of(kind: str, folder: Path) -> int:
    """Bytes that a save of this kind takes."""
    chosen = KINDS[kind]
    chosen.save(folder / chosen.name, 2)
    return (folder / chosen.name).stat().st_size


def on_another_filesystem(folder: Path) -> str | None:
    """A `$TMPDIR` that is on another filesystem than `folder`, where there is one."""
    other = Path("/dev/shm")  # noqa: S108
    is_other = other.is_dir() and os.access(other, os.W_OK) and other.stat().st_dev != folder.stat().st_dev
    return str(other) if is_other else None
