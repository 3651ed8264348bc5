"""Training runs of seconds, each in a process of its own, which stop where they are told to."""

import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from torch import Tensor
from workers import CONTEXT, quieten

from wavediff.audio import write_audio
from wavediff.cli.main import main
from wavediff.data.manifest import Utterance, write_manifest
from wavediff.training.guards import load_training_checkpoint

RATE, SECONDS = 22_050, 0.3
CLIPS, BATCH = 24, 3  # so that an epoch has eight steps
PARTS = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")


class StopAt(pl.Callback):
    """Sends its own process SIGTERM after a step, as a batch system does; the run saves and ends."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def make_corpus(folder: Path) -> dict[str, str]:
    """Clips of noise, and the options that name their manifests."""
    manifests = {}
    for split, count in (("train", CLIPS), ("valid", 2)):
        utterances = []
        for number in range(count):
            path = folder / split / f"{number}.wav"
            generator = torch.Generator().manual_seed(number)
            write_audio(path, 0.1 * torch.randn(int(RATE * SECONDS), generator=generator), RATE)
            utterances.append(Utterance(path, int(RATE * SECONDS) / RATE, RATE))
        write_manifest(folder / f"{split}.jsonl", utterances)
        manifests[f"{split}_manifest"] = str(folder / f"{split}.jsonl")
    return manifests


def train(
    root: Path,
    manifests: dict[str, str],
    steps: int,
    *,
    workers: int = 0,
    stop_at: int | None = None,
    resume: bool = False,
    save_every: int = 1000,
) -> Any:
    """Start a run in `root`; its process, which ends with the status of `wavediff train`."""
    root.mkdir(parents=True, exist_ok=True)
    callbacks = [
        {"class_path": "wavediff.training.FullState", "init_args": {"every_n_steps": save_every}},
        {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}},
        {"class_path": "wavediff.training.ModelExport"},
    ]
    if stop_at is not None:
        callbacks.append({"class_path": "training_runs.StopAt", "init_args": {"step": stop_at}})
    backbone = {"channels": 4, "layers": 3, "dilation_cycle": 3}
    network = {"class_path": "wavediff.backbones.DiffWaveConfig", "init_args": backbone}
    model = {"mel": "hifigan", "backbone": network, "learning_rate": 0.001, "warmup_steps": 5}
    recipe = {
        "model": {"class_path": "wavediff.training.VocoderModule", "init_args": model | {"lr_scheduler": "cosine"}},
        "data": manifests | {"segment_length": 2048, "batch_size": BATCH, "num_workers": workers},
        "trainer": {
            "accelerator": "cpu",
            "precision": "32-true",
            "max_steps": steps,
            "default_root_dir": str(root),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": callbacks,
        },
    }
    path = root / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    arguments = ["train", "--config", str(path), *(["--ckpt_path", "last"] if resume else [])]
    # Not a daemon: it may have processes of its own that load data.
    process = CONTEXT.Process(target=_train, args=(arguments, root / "said.txt", os.environ.get("TMPDIR")))
    process.start()
    return process


def _train(arguments: list[str], said: Path, tmpdir: str | None) -> None:
    quieten()
    use_tmpdir(tmpdir)
    with said.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        status = main(arguments)
    sys.exit(status)


def use_tmpdir(tmpdir: str | None) -> None:
    """Processes from the server have its environment, not that of the test."""
    if tmpdir is not None:
        os.environ["TMPDIR"] = tempfile.tempdir = tmpdir


def state_of(root: Path) -> dict[str, Any]:
    """Step, weights, average, optimiser and learning rate that a run left."""
    state = load_training_checkpoint(root / "last.ckpt")
    return {"global_step": state["global_step"]} | {part: state[part] for part in PARTS}


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two states are not bitwise equal."""
    if isinstance(left, Tensor):
        same = isinstance(right, Tensor) and torch.equal(left, right)
        return [] if same else [path]
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return [place for key in left for place in differences(left[key], right[key], f"{path}.{key}")]
    if isinstance(left, list | tuple) and isinstance(right, list | tuple) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return [place for number, (a, b) in pairs for place in differences(a, b, f"{path}[{number}]")]
    return [] if left == right else [path]
