"""Stopped at a random step and resumed, a run comes to the bits that an uninterrupted one comes to."""

import random
import time
from pathlib import Path

import pytest
from training_runs import differences, make_corpus, state_of, train
from workers import closing_line

STEPS = 20


def ended(process: object, status: int, root: Path) -> None:
    """Wait for the end of a run."""
    process.join()  # type: ignore[attr-defined]
    assert process.exitcode == status, (root / "said.txt").read_text()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("stops", "workers"),
    [(1, 0), pytest.param(10, 0, marks=pytest.mark.long), pytest.param(10, 2, marks=pytest.mark.long)],
)
def test_a_run_stopped_anywhere_and_resumed_is_bitwise_the_same(  # fault 53
    stops: int, workers: int, tmp_path: Path
) -> None:
    start, chance = time.monotonic(), random.Random(workers)
    manifests, whole = make_corpus(tmp_path), tmp_path / "whole"
    runs = {tmp_path / f"{step}": step for step in chance.sample(range(1, STEPS), stops)}
    first = [(train(whole, manifests, STEPS, workers=workers), 0, whole)]
    first += [
        (train(root, manifests, STEPS, workers=workers, stop_at=runs[root]), 143, root) for root in list(runs)[:1]
    ]
    for run in first:
        ended(*run)
    for number, (root, step) in enumerate(runs.items()):
        if number:
            ended(train(root, manifests, STEPS, workers=workers, stop_at=step), 143, root)
        assert state_of(root)["global_step"] == step
        ended(train(root, manifests, STEPS, workers=workers, resume=True), 0, root)
        assert state_of(root)["global_step"] == STEPS
        assert differences(state_of(whole), state_of(root)) == [], f"stopped at step {step}"
    closing_line(
        f"resumes: {stops} with {workers} loading processes, bitwise equal in weights, average, optimiser", start
    )
