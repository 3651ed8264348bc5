"""Training in two processes, started in each of the ways that recipes/README.md names; on one machine's CPU."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from test_paired_mels import SEGMENT, manifests, prepare, write_corpus
from test_training import QUIET, REPOSITORY, SMALL, TINY

from wavediff import Vocoder
from wavediff.models.checkpoint import load_checkpoint
from wavediff.training.checkpoint_io import load_training_checkpoint

COMMAND = [sys.executable, "-m", "wavediff.cli.main"]
CPU = ["--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]
STEPS = 5


class ClipsSeen(Callback):
    """Writes down what each process is trained on: a line of clips and loss for each batch."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        row = {"clips": batch["index"].tolist(), "loss": outputs["loss"].item(), "of": trainer.world_size}
        with (Path(trainer.default_root_dir) / f"seen-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 clips to train on: five batches of two for each of two processes; one to validate, which both share."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, 26, SEGMENT)
    assert prepare(folder, "--valid-fraction", "0.1", "--test-fraction", "0.1") == 0
    valid = folder / "data" / "valid.jsonl"
    valid.write_text(valid.read_text().splitlines(keepends=True)[0])
    return folder / "data"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def launch(way: str, train: list[str]) -> list[tuple[list[str], dict[str, str]]]:
    """Commands to run at the same time, each with its environment."""
    if way == "ddp":
        return [([*COMMAND, *train, *CPU, "--trainer.devices", "2"], {})]
    port = str(free_port())
    if way == "torchrun":  # two machines of one process each
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--master-addr", "127.0.0.1", "--master-port", port, "--node-rank"]
        trainer = [*CPU, "--trainer.devices", "1", "--trainer.num_nodes", "2"]
        return [([*torchrun, node, "-m", "wavediff.cli.main", *train, *trainer], {}) for node in "01"]
    trainer = [*CPU, "--trainer.devices", "1", "--trainer.num_nodes", "2"]
    environment = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}
    environment |= {"SLURM_JOB_ID": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [([*COMMAND, *train, *trainer], environment | {"SLURM_PROCID": node, "SLURM_NODEID": node}) for node in "01"]


@pytest.mark.parametrize("way", ["ddp", "torchrun", "slurm"])
def test_two_processes_share_out_the_clips_and_make_one_model(way: str, corpus: Path, tmp_path: Path) -> None:
    values = {
        "trainer.default_root_dir": tmp_path,
        "trainer.max_steps": STEPS,
        "trainer.num_sanity_val_steps": 0,
        "trainer.precision": "32-true",
        "data.segment_length": SEGMENT,
        "data.batch_size": 2,
        "data.repeats": 1,
        "trainer.callbacks": "[wavediff.training.FullState, wavediff.training.ModelExport, "
        "test_recipes_distributed.ClipsSeen]",
    }
    train = ["train", "--config", str(SMALL), *manifests(corpus, ""), *TINY, *QUIET]
    train += [f"--{key}={value}" for key, value in values.items()]
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    common = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            command,
            env=common | environment,
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in launch(way, train)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors

    rows = [[json.loads(line) for line in (tmp_path / f"seen-{rank}.jsonl").read_text().splitlines()] for rank in "01"]
    assert [len(of_rank) for of_rank in rows] == [STEPS, STEPS]
    assert {row["of"] for of_rank in rows for row in of_rank} == {2}
    seen = [clip for of_rank in rows for row in of_rank for clip in row["clips"]]
    assert len(set(seen)) == len(seen) == 2 * 2 * STEPS  # one epoch: no clip twice, in no process
    assert all(0 < row["loss"] < 10 for of_rank in rows for row in of_rank)

    assert load_training_checkpoint(tmp_path / "last.ckpt")["global_step"] == STEPS
    facts = load_checkpoint(tmp_path / "last.safetensors").facts
    assert facts["batch"]["world_size"] == 2
    vocoder = Vocoder.from_pretrained(tmp_path / "best.safetensors", "cpu")
    assert vocoder.mel_spec.sample_rate == 22050
