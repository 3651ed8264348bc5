"""Killed at any moment, a program that saves leaves the last state or the one before, whole."""

import os
import random
import time
from pathlib import Path

import pytest
from saving import KINDS, on_another_filesystem, save_on
from training_runs import make_corpus, state_of, train
from workers import CONTEXT, closing_line

PATIENCE = 60.0  # [s]


def run_and_kill(kind: str, folder: Path, first: int, after: int, delay: float) -> int | None:
    """Have a process save from step `first`, kill it `delay` s after so many saves; the last step it said was safe."""
    pipe, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=save_on, args=(kind, folder, first, os.environ.get("TMPDIR"), theirs), daemon=True)
    process.start()
    theirs.close()
    said = None
    for _ in range(after):
        assert pipe.poll(PATIENCE), "it does not save"
        said = pipe.recv()
    time.sleep(delay)
    process.kill()
    process.join()
    try:
        while pipe.poll():
            said = pipe.recv()
    except EOFError:
        pass
    pipe.close()
    return said


def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have `$TMPDIR` on another filesystem than `folder`, if there is one."""
    other = on_another_filesystem(folder)
    if other is not None:
        monkeypatch.setenv("TMPDIR", other)
    return "another" if other else "the same"


@pytest.mark.parametrize("kills", [2, pytest.param(67, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["model", "training state", "wav"])
def test_a_kill_while_saving_leaves_the_last_or_the_previous_state(  # fault 49
    kind: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, chance, path = time.monotonic(), random.Random(0), tmp_path / KINDS[kind].name
    where = elsewhere(tmp_path, monkeypatch)
    begun = time.monotonic()
    KINDS[kind].save(path, 0)
    duration = max(time.monotonic() - begun, 0.01)  # of a save, as the machine is now
    safe, between = 0, 0
    for _ in range(kills):
        first = safe + 1
        said = run_and_kill(kind, tmp_path, first, chance.randrange(1, 3), chance.uniform(0, 2 * duration))
        assert said is not None
        loaded = KINDS[kind].load(path)
        assert loaded in (said, said + 1), f"step {loaded} is there, step {said} was said to be safe"
        between += len(list(tmp_path.iterdir())) > 1
        safe = loaded
    assert safe >= kills, "it began anew"
    closing_line(
        f"kills while saving, {kind}: {kills}, {between} of them amid a file; $TMPDIR on {where} filesystem; "
        f"0 unloadable, 0 lost, 0 restarts; step {safe} at the end",
        start,
    )


@pytest.mark.parametrize("kills", [pytest.param(20, marks=pytest.mark.long)])
def test_a_killed_training_run_goes_on_from_what_it_had(  # fault 49
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, chance, root, steps = time.monotonic(), random.Random(0), tmp_path / "run", 100_000
    where, manifests = elsewhere(tmp_path, monkeypatch), make_corpus(tmp_path)
    reached = 0
    for number in range(kills):
        process = train(root, manifests, steps, resume=number > 0, save_every=1)
        seen, end = reached, time.monotonic() + PATIENCE
        while seen < reached + 2:  # it has begun to save
            assert time.monotonic() < end, (root / "said.txt").read_text()
            time.sleep(0.05)
            seen = state_of(root)["global_step"] if (root / "last.ckpt").exists() else 0
            assert seen >= reached, "it began anew"
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.join()
        assert state_of(root)["global_step"] >= seen
        reached = state_of(root)["global_step"]
    closing_line(f"kills of a training run: {kills}, $TMPDIR on {where} filesystem; step {reached} at the end", start)
