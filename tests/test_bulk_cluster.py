"""Machines share a run by Ray; here each is a node of a simulated cluster, with a core of its own."""

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_bulk import contents, make_mel, make_vocoder
from test_bulk_processes import finish, rows_of, start

from wavediff.bulk import cluster
from wavediff.bulk.decoding import Blueprint, Settings
from wavediff.bulk.jobs import Fault, Item, Job
from wavediff.errors import ConfigError, MissingExtraError, OutputError

pytestmark = pytest.mark.slow

COUNT = 8
COMMAND = ["-m", "wavediff.cli.main", "vocode", "in", "--device", "cpu", "--num-steps", "40", "--quiet", "--json"]
COMMAND += ["--checkpoint", "model.safetensors", "--batch-size", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model, mels that take about a second each, one that is broken, and in `whole` what one process makes."""
    folder = tmp_path_factory.mktemp("cluster")
    make_vocoder().save(folder / "model.safetensors")
    (folder / "in").mkdir()
    for number in range(COUNT):
        np.save(folder / "in" / f"{number}.npy", make_mel(160 + number).numpy())
    np.save(folder / "in" / "nan.npy", np.full((80, 200), np.nan, np.float32))
    assert finish(start(folder, *COMMAND, "-o", "whole"))[0] == 2
    assert len(contents(folder / "whole")) == COUNT
    return folder


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[tuple[str, Any, list[Any]]]:
    """The address of a cluster, the cluster, and its three nodes that compute; its head does not."""
    pytest.importorskip("ray", reason="needs the extra ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made.address, made, [made.add_node(num_cpus=1) for _ in range(3)]
    finally:
        made.shutdown()


def decodes(node: Any) -> bool:
    """Whether a worker of a node is at a batch, which Ray writes into the title of its process."""
    raylet = next(iter(node.all_processes["raylet"])).process.pid
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            title = (stat.parent / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if parent == raylet and title.startswith(b"ray::Worker.vocode"):
            return True
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_node_killed_in_the_middle_costs_nothing_but_time(folder: Path, nodes: Any) -> None:
    address, made, computing = nodes
    (folder / "out").mkdir()
    shutil.copy(folder / "whole" / "3.wav", folder / "out")
    run = start(folder, *COMMAND, "--engine", "ray", "--address", address, "--resume", "-o", "out")
    deadline = time.monotonic() + 100
    while (victim := next(filter(decodes, computing), None)) is None:  # the first that is at a batch
        assert run.poll() is None, finish(run)
        assert time.monotonic() < deadline
        time.sleep(0.02)
    made.remove_node(victim, allow_graceful=False)
    status, out, err = finish(run)
    assert status == 2, err
    assert Counter(row["output"] for row in rows_of(out)) == {
        f"out/{name}.wav": 1 for name in [*map(str, range(COUNT)), "nan"]
    }
    assert [row["output"] for row in rows_of(out) if "error" in row] == ["out/nan.wav"]
    assert [row["output"] for row in rows_of(out) if "skipped" in row] == ["out/3.wav"]
    # Where Ray puts the new worker on the node that is going, that one is lost too.
    assert re.search(r"wavediff: warning: (1 worker was lost with its node or process|\d workers were lost)", err), err
    assert contents(folder / "out") == contents(folder / "whole")


def test_what_a_cluster_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.raises(ConfigError, match=r"--device: cuda:1 is a device of one machine"):
        cluster.connect(None, "cuda:1", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"--engine ray needs ray: pip install 'wavediff\[ray\]'"):
        cluster.connect(None, "cpu", None)


def test_a_worker_whose_node_lacks_the_folder_says_so(tmp_path: Path) -> None:
    worker = cluster.Worker(Blueprint(None, Settings()), "cpu", str(tmp_path / "none"))
    with pytest.raises(OutputError, match=r"none: is not on the node .*; start wavediff in a folder that all nodes"):
        worker.ready()


def test_a_batch_made_again_replaces_what_the_lost_worker_wrote(folder: Path, tmp_path: Path) -> None:
    item = Item(Job(folder / "in" / "1.npy", tmp_path / "1.wav"), 1.9)
    worker = cluster.Worker(Blueprint(folder / "model.safetensors", Settings()), "cpu", os.getcwd())  # noqa: PTH109
    faults = [[isinstance(one, Fault) for one in worker.vocode((item,), again)].count(True) for again in (0, 0, 1)]
    assert faults == [0, 1, 0]
