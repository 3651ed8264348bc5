"""Training runs of seconds, on synthetic clips."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from clips import RATE, write_manifests
from torch import Tensor

from wavediff.training import TrainingModule

MEL = {"sample_rate": RATE, "n_fft": 256, "win_length": 256, "hop_length": 64, "n_mels": 20, "f_max": 4000.0}


def trainer(folder: Path, steps: int, *callbacks: dict[str, Any]) -> dict[str, Any]:
    """A quiet trainer of a recipe, on the CPU."""
    return {
        "accelerator": "cpu",
        "max_steps": steps,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "default_root_dir": str(folder),
        "callbacks": list(callbacks),
    }


def recipe(folder: Path, **data: Any) -> Path:
    """A YAML (JSON is YAML too) that trains a tiny vocoder on 21 clips of .11 s, 10 steps an epoch."""
    train, valid = write_manifests(folder / "clips")
    shape = {"channels": 4, "layers": 3, "dilation_cycle": 3}
    backbone = {"class_path": "wavediff.backbones.DiffWaveConfig", "init_args": shape}
    callbacks = [
        {"class_path": "wavediff.training.FullState", "init_args": {"every_n_steps": 2}},
        {"class_path": "wavediff.training.ModelExport"},
    ]
    config = {
        "model": {
            "class_path": "wavediff.training.VocoderModule",
            "init_args": {
                "mel": MEL,
                "backbone": backbone,
                "learning_rate": 0.01,
            },
        },
        "data": {"train_manifest": train, "valid_manifest": valid, "segment_length": 512, "batch_size": 2} | data,
        "trainer": trainer(folder / "run", 4, *callbacks) | {"gradient_clip_val": 1.0},
    }
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(config))
    return path


def arguments(config: Path, *options: str) -> list[str]:
    """Of `wavediff`, to train by that recipe."""
    return ["train", "--config", str(config), *options]


def command(config: Path, *options: str) -> list[str]:
    """The same as a process."""
    return [sys.executable, "-m", "wavediff.cli.main", *arguments(config, *options)]


def losses_of_steps(
    module: TrainingModule, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer, steps: int
) -> list[float]:
    """The losses of a batch, each before the step that lowers it."""
    losses = []
    for _ in range(steps):
        loss = module.loss(batch).mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
