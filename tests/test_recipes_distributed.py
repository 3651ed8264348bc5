"""Training in two processes, started in each of the ways that recipes/README.md names; on one machine's CPU."""

import importlib.util
import json
import multiprocessing.connection
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import forking
from lightning.pytorch import Callback, LightningModule, Trainer
from test_paired_mels import SEGMENT, manifests, prepare, write_corpus
from test_training import QUIET, REPOSITORY, SMALL, TINY

from wavediff import Vocoder
from wavediff.cli.main import main
from wavediff.data.manifest import read_manifest
from wavediff.data.packed import write_packed
from wavediff.data.shards import write_shards
from wavediff.models.checkpoint import load_checkpoint
from wavediff.training.guards import load_training_checkpoint

COMMAND = [sys.executable, "-m", "wavediff.cli.main"]
CPU = ["--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]
STEPS = 5


class Dies(Callback):
    """The second process is killed in its fourth batch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == 1 and batch_idx == 3:
            os.kill(os.getpid(), signal.SIGKILL)


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


def options(root: Path, corpus: Path, source: list[str] | None = None, more: str = "", **others: Any) -> list[str]:
    """A short run of a tiny network, from manifests unless a source is given, with more callbacks if any."""
    values = {
        "trainer.default_root_dir": root,
        "trainer.max_steps": STEPS,
        "trainer.num_sanity_val_steps": 0,
        "trainer.precision": "32-true",
        "data.segment_length": SEGMENT,
        "data.batch_size": 2,
        "data.repeats": 1,
        "trainer.callbacks": "[{class_path: wavediff.training.FullState, init_args: {every_n_steps: 2}}, "
        f"wavediff.training.ModelExport, test_recipes_distributed.ClipsSeen{more}]",
    }
    train = ["train", "--config", str(SMALL), *(source or manifests(corpus, "")), *TINY, *QUIET]
    return train + [f"--{key}={value}" for key, value in (values | others).items()]


def finish(commands: list[tuple[list[str], dict[str, str]]]) -> list[tuple[int, str]]:
    """Exit status and standard error of commands that run at the same time."""
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
        for command, environment in commands
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


@pytest.mark.parametrize("way", ["torchrun", *(pytest.param(way, marks=pytest.mark.long) for way in ("ddp", "slurm"))])
def test_two_processes_share_out_the_clips_and_make_one_model(way: str, corpus: Path, tmp_path: Path) -> None:
    for status, errors in finish(launch(way, options(tmp_path, corpus))):
        assert status == 0, errors

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


def losses(folder: Path) -> dict[tuple[int, ...], list[float]]:
    """Of each batch that was trained on: as often as it was."""
    seen: dict[tuple[int, ...], list[float]] = {}
    for rank in "01":
        for line in (folder / f"seen-{rank}.jsonl").read_text().splitlines():
            row = json.loads(line)
            seen.setdefault(tuple(row["clips"]), []).append(row["loss"])
    return seen


def as_node(rank: int, port: int, train: list[str], errors: Path) -> None:
    """What torchrun starts on a node, in a process that has imported everything already."""
    names = ("RANK", "GROUP_RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = (rank, rank, 0, 2, 1, "127.0.0.1", port)
    os.environ.update(zip(names, map(str, values), strict=True), TORCHELASTIC_RUN_ID="none", OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    with errors.open("w") as sys.stderr:
        sys.exit(main([*train, *CPU, "--trainer.devices=1", "--trainer.num_nodes=2"]))


def train_on_two_nodes(context: Any, train: list[str], folder: Path) -> list[int | None]:
    """Exit statuses; where one node dies, torchrun ends the other."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    nodes = [context.Process(target=as_node, args=(rank, port, train, folder / f"errors-{rank}")) for rank in range(2)]
    for node in nodes:
        node.start()
    while all(node.is_alive() for node in nodes):
        multiprocessing.connection.wait([node.sentinel for node in nodes])
    for node in nodes:
        node.join(None if all(other.exitcode in (None, 0) for other in nodes) else 10)
        node.kill()
        node.join()
    return [node.exitcode for node in nodes]


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs processes that fork")
@pytest.mark.skipif(importlib.util.find_spec("litdata") is None, reason="needs the extra shards")
def test_a_node_killed_while_training_from_shards_costs_nothing_but_time(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = forking(monkeypatch)
    write_shards(str(tmp_path / "train"), read_manifest(corpus / "train.jsonl"), 22050, shard_bytes="100KB")
    write_packed(tmp_path / "valid.safetensors", read_manifest(corpus / "valid.jsonl"), 22050)
    source = [f"--data.train_manifest={tmp_path / 'train'}", f"--data.valid_manifest={tmp_path / 'valid.safetensors'}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train_on_two_nodes(context, options(whole, corpus, source), whole) == [0, 0], (
        whole / "errors-0"
    ).read_text()
    died = train_on_two_nodes(context, options(killed, corpus, source, ", test_recipes_distributed.Dies"), killed)
    assert died[0] != 0
    assert died[1] == -signal.SIGKILL
    assert load_training_checkpoint(killed / "last.ckpt")["global_step"] == 2
    resumed = train_on_two_nodes(context, [*options(killed, corpus, source), "--ckpt_path", "last"], killed)
    assert resumed == [0, 0], (killed / "errors-0").read_text()
    check_that_nothing_was_lost(whole, killed)


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("litdata") is None, reason="needs the extra shards")
def test_a_machine_killed_while_training_from_shards_costs_nothing_but_time(corpus: Path, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_shards(str(tmp_path / split), read_manifest(corpus / f"{split}.jsonl"), 22050, shard_bytes="100KB")
    source = [f"--data.{split}_manifest={tmp_path / split}" for split in ("train", "valid")]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert [status for status, _ in finish(launch("torchrun", options(whole, corpus, source)))] == [0, 0]
    died = finish(launch("torchrun", options(killed, corpus, source, ", test_recipes_distributed.Dies")))
    assert all(status != 0 for status, _ in died)
    assert load_training_checkpoint(killed / "last.ckpt")["global_step"] == 2
    resumed = finish(launch("torchrun", [*options(killed, corpus, source), "--ckpt_path", "last"]))
    assert [status for status, _ in resumed] == [0, 0], resumed
    check_that_nothing_was_lost(whole, killed)


def check_that_nothing_was_lost(whole: Path, killed: Path) -> None:
    """A run that was killed and resumed came to the clips, losses and weights of one that was not."""
    expected, found = losses(whole), losses(killed)
    clips = [clip for batch in expected for clip in batch]
    assert len(set(clips)) == len(clips) == 2 * 2 * STEPS
    assert found.keys() == expected.keys()  # no clip is lost
    assert all(len(set(found[batch])) == 1 and found[batch][0] == expected[batch][0] for batch in expected)
    weights = [load_checkpoint(folder / "last.safetensors").weights for folder in (whole, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
