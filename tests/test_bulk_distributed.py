"""Several processes share a run: started by wavediff itself, by torchrun, and as SLURM's srun does."""

import json
import os
import socket
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_bulk import OPTIONS, contents, make_inputs, make_vocoder

from wavediff.bulk import Processes
from wavediff.bulk.distributed import make_trainer
from wavediff.cli.main import main
from wavediff.errors import ConfigError

COMMAND = ["wavediff.cli.main", "vocode", "in", *OPTIONS, "--batch-size", "2", "--checkpoint", "model.safetensors"]
FILES = {f"{number}.wav" for number in range(7)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model, inputs, and in `whole` what one process makes of them."""
    folder = tmp_path_factory.mktemp("bulk")
    make_vocoder().save(folder / "model.safetensors")
    make_inputs(folder / "in")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        torch.set_num_threads(1)
        assert main([*COMMAND[1:], "-o", "whole"]) == 0
    assert contents(folder / "whole").keys() == FILES
    return folder


def start(folder: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    """A process with no more than `variables` to tell who started it."""
    known = ("SLURM", "TORCHELASTIC", "MASTER_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(known)}
    quiet = "ignore:in/"  # warnings that begin so, of clipping: an untrained network is loud
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": quiet} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, standard output, standard error but for what PyTorch says where this machine has no name."""
    out, err = process.communicate(timeout=120)
    lines = err.splitlines(keepends=True)
    return process.returncode, out, "".join(line for line in lines if "[c10d] The hostname of the client" not in line)


def rows_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def srun(folder: Path, *arguments: str) -> list[tuple[int, str, str]]:
    """What each of two tasks on one node came to."""
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "vocode", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    step = {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    main_task = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    tasks = [
        start(folder, "-m", *COMMAND, *arguments, **job, **step, **main_task, SLURM_PROCID=rank, SLURM_LOCALID=rank)
        for rank in ("0", "1")
    ]
    return [finish(task) for task in tasks]


def test_two_processes_make_each_file_once_and_as_one_does(folder: Path) -> None:
    np.save(folder / "nan.npy", np.full((80, 30), np.nan, np.float32))  # the longest: the first process's
    np.save(folder / "nan2.npy", np.full((80, 2), np.nan, np.float32))
    (folder / "cut.npy").write_bytes(b"")
    bad = ["nan.npy", "nan2.npy", "cut.npy"]
    status, out, err = finish(
        start(folder, "-m", *COMMAND[:2], *bad, *COMMAND[2:], "--devices", "2", "--json", "-o", "two")
    )
    assert status == 2
    counts = Counter(row["output"] for row in rows_of(out))
    assert counts == {f"two/{name}": 1 for name in (*FILES, "nan.wav", "nan2.wav", "cut.wav")}
    *faults, last = err.splitlines()
    assert sorted(line.split(": ")[1] for line in faults) == sorted(bad)
    assert last == "wavediff vocode: 3 of 10 inputs could not be vocoded, for the reasons above"
    assert contents(folder / "two").keys() == FILES


def test_torchrun_starts_them_too(folder: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    status, out, err = finish(start(folder, *torchrun, *COMMAND, "--json", "-o", "torchrun"))
    assert (status, err) == (0, "")
    assert Counter(row["output"] for row in rows_of(out)) == {f"torchrun/{name}": 1 for name in FILES}
    assert contents(folder / "torchrun") == contents(folder / "whole")


def test_tasks_of_srun_share_too_and_one_may_have_nothing_to_do(folder: Path) -> None:
    first, second = srun(folder, "--batch-size", "9", "-o", "srun")
    assert first == (0, "", "")
    assert second == (0, "", "")
    assert contents(folder / "srun").keys() == FILES
    first, second = srun(folder, "-o", "srun")
    assert (first[0], second) == (2, (2, "", ""))
    assert first[2].startswith("wavediff vocode: srun/0.wav: already exists, and 6 more outputs; pass --resume")
    assert first[2].count("\n") == 1


KILLER = """
import os, signal, sys
def fsync(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ.get("LOCAL_RANK") == "1":
    os.fsync = fsync
from wavediff.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_where_one_dies_all_end_and_the_run_goes_on_later(folder: Path) -> None:
    (folder / "killer.py").write_text(KILLER)
    status, out, err = finish(start(folder, "killer.py", *COMMAND[1:], "--devices", "2", "-o", "killed"))
    assert (status, out) == (2, "")
    assert err == (
        "wavediff vocode: a process that shares the run died (signal 9); what is done stays: go on with --resume\n"
    )
    halves = [name for name in contents(folder / "killed") if name not in FILES]
    assert len(halves) == 1
    status, out, _ = finish(start(folder, "-m", *COMMAND, "--devices", "2", "--resume", "--json", "-o", "killed"))
    assert status == 0
    assert Counter(row["output"] for row in rows_of(out)) == {f"killed/{name}": 1 for name in FILES}
    assert any("skipped" in row for row in rows_of(out))
    assert contents(folder / "killed") == contents(folder / "whole")


@pytest.mark.parametrize(
    ("device", "strategy", "cause"),
    [
        ("cuda:1", "ddp", "--device: cuda:1 is one device, 2 share the run"),
        ("cpu", "ddp_spawn", "--strategy: ddp_spawn does not give each process the whole model; use ddp"),
        ("cpu", "dpd", "--devices, --nodes, --strategy: .*dpd"),
    ],
)
def test_what_lightning_cannot_do_is_refused(device: str, strategy: str, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        make_trainer(Processes(2, 1), device, strategy)
