"""Several processes of one machine share a run."""

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_bulk import OPTIONS, contents, ended, make_inputs, make_vocoder

from wavediff.bulk.decoding import find_devices
from wavediff.cli.main import main
from wavediff.errors import ConfigError

pytestmark = pytest.mark.slow

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
    """A process that computes on one thread."""
    quiet = "ignore:in/"  # warnings that begin so, of clipping: an untrained network is loud
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": quiet} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def rows_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_two_processes_make_each_file_once_and_warn_of_it_in_one_line(folder: Path) -> None:
    np.save(folder / "nan.npy", np.full((80, 30), np.nan, np.float32))  # the longest: the first process's
    np.save(folder / "nan2.npy", np.full((80, 2), np.nan, np.float32))
    (folder / "cut.npy").write_bytes(b"")
    bad = ["nan.npy", "nan2.npy", "cut.npy"]
    command = ["-m", *COMMAND[:2], *bad, *COMMAND[2:], "--devices", "2", "--json"]
    status, out, err = finish(start(folder, *command, "-o", "two", PYTHONWARNINGS="default"))
    assert status == 2
    counts = Counter(row["output"] for row in rows_of(out))
    assert counts == {f"two/{name}": 1 for name in (*FILES, "nan.wav", "nan2.wav", "cut.wav")}
    warned = [line for line in err.splitlines() if line.startswith("wavediff: warning: in/")]
    assert len(warned) == len({line.split(": ")[2] for line in warned}) == len(FILES)
    *faults, last = [line for line in err.splitlines() if line not in warned]
    assert sorted(line.split(": ")[1] for line in faults) == sorted(bad)
    assert last == "wavediff vocode: 3 of 10 inputs could not be vocoded, for the reasons above"
    assert contents(folder / "two").keys() == FILES


KILLER = """
import multiprocessing, os, signal, sys
def fsync(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)
if multiprocessing.current_process().name.endswith("-2"):
    os.fsync = fsync
from wavediff.cli.main import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def test_where_one_dies_all_end_and_the_run_goes_on_later_to_the_bytes_of_one(folder: Path) -> None:
    (folder / "killer.py").write_text(KILLER)
    status, out, err = finish(start(folder, "killer.py", *COMMAND[1:], "--devices", "2", "-o", "killed"))
    assert (status, out) == (2, "")
    assert err == (
        "wavediff vocode: a process that shares the run died (signal 9); what is done stays: go on with --resume\n"
    )
    halves = [name for name in contents(folder / "killed") if name not in FILES]
    assert len(halves) >= 1
    status, out, _ = finish(start(folder, "-m", *COMMAND, "--devices", "2", "--resume", "--json", "-o", "killed"))
    assert status == 0
    assert Counter(row["output"] for row in rows_of(out)) == {f"killed/{name}": 1 for name in FILES}
    assert contents(folder / "killed") == contents(folder / "whole")


SUICIDE = """
import multiprocessing, os, signal, sys, time
from wavediff.bulk import processes
def wait(receivers):
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
processes.listen = lambda *_: time.sleep(1000)  # of the others: as if at a long file
if __name__ == "__main__":
    processes.wait = wait
    from wavediff.cli.main import main
    sys.exit(main(sys.argv[1:]))
"""


def test_no_process_outlives_a_killed_run(folder: Path) -> None:
    (folder / "suicide.py").write_text(SUICIDE)
    status, out, _ = finish(start(folder, "suicide.py", *COMMAND[1:], "--devices", "2", "-o", "orphans"))
    assert status == -9
    processes = [int(number) for number in out.split()]
    assert len(processes) == 2
    assert all(ended(process) for process in processes)


@pytest.mark.parametrize(
    ("device", "count", "cause"),
    [
        ("cuda:1", 2, "--device: cuda:1 is one device, 2 processes share the run"),
        ("cuda", 99, "--devices: 99 asked for, this machine has . GPUs; lower it, or use --device cpu"),
    ],
)
def test_devices_that_are_not_there_are_refused(device: str, count: int, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        find_devices(device, count)
