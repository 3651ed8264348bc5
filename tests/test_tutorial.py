"""The tutorial notebook: its cells run from first to last, and what they claim is so."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.slow

NOTEBOOK = REPOSITORY / "egs" / "tutorial.ipynb"
# A notebook brings IPython, the tests do not: what it would play is counted instead.
RUN = """
import json, os, sys, types
played = []
ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
ipython.get_ipython, ipython.version_info = lambda: None, (9, 0)  # matplotlib asks
display.Audio = lambda samples, rate: played.append((len(samples), rate))
sys.modules.update({"IPython": ipython, "IPython.display": display})
space = {"__name__": "__main__"}
for number, source in enumerate(json.loads(sys.stdin.read())):
    exec(compile(source, f"code cell {number}", "exec"), space)
torch = space["torch"]
found = {
    "mel": list(space["mel"].shape),
    "speech": list(space["speech"].shape),
    "repeats": torch.equal(space["speech"], space["again"]),
    "other": torch.equal(space["speech"], space["other"]),
    "states": [(state - space["speech"]).abs().max().item() for state in space["states"]],
    "streamed": (space["streamed"] - space["whole"]).abs().max().item(),
    "distances": list(space["distances"].values()),
    "sounds": list(space["sounds"].shape),
    "steps": space["tuned"].facts["steps"],
    "run": sorted(path.name for path in (space["folder"] / "run").iterdir()),
    "folder": str(space["folder"]),
    "played": played,
}
print("\\n" + json.dumps(found))
"""


def cells() -> list[dict[str, Any]]:
    return list(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the cells left, run in one process as a notebook does it, in the folder that it lies in."""
    sources = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        check=False,
        cwd=NOTEBOOK.parent,
        env={**os.environ, "MPLBACKEND": "Agg", "TMPDIR": str(tmp_path_factory.mktemp("tutorial"))},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_speech_is_as_long_as_its_mel_and_decided_by_its_seed(found: dict[str, Any]) -> None:
    batch, bands, frames = found["mel"]
    assert (batch, bands) == (1, 80)
    assert found["speech"] == [1, 256 * frames]
    assert found["repeats"]
    assert not found["other"]


def test_states_end_in_the_speech_of_decode_and_a_stream_is_that_of_low_latency(found: dict[str, Any]) -> None:
    *before, last = found["states"]
    assert len(before) == 3
    assert last < 1e-4 < min(before)
    assert found["streamed"] < 1e-4


def test_more_steps_come_nearer_to_the_mel(found: dict[str, Any]) -> None:
    one, *_, three = found["distances"]
    assert 0 < three < one < 0.3


def test_the_run_leaves_what_resumes_and_what_loads(found: dict[str, Any]) -> None:
    assert found["steps"] == 20
    assert {"last.ckpt", "last.safetensors"} <= set(found["run"])
    assert found["sounds"] == [2, round(0.8 * 22_050)]
    assert len(found["played"]) == 4


def test_nothing_is_written_beside_the_notebook(found: dict[str, Any]) -> None:
    assert Path(found["folder"]).is_dir()
    assert not (NOTEBOOK.parent / "lightning_logs").exists()


def test_the_examples_of_the_folder_are_all_listed() -> None:
    listed = (NOTEBOOK.parent / "README.md").read_text(encoding="utf-8")
    examples = [path.name for path in NOTEBOOK.parent.iterdir() if path.suffix in (".py", ".ipynb")]
    assert [name for name in examples if f"[{name}]({name})" not in listed] == []


def test_the_notebook_shows_what_came_of_it() -> None:
    """Pictures and players are in the file, so that who only reads it sees and hears them."""
    kinds = [kind for cell in cells() for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 4
    assert kinds.count("text/html") >= 4
    assert NOTEBOOK.stat().st_size < 2_000_000
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
