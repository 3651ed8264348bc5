"""Damaged at random, an input is refused in one line or is what it says; nothing crashes, hangs or is run."""

from pathlib import Path

import pytest
from cases import CASES
from workers import campaign

SHORT = {"audio": 1500, "npy": 400, "pt": 150, "safetensors": 300, "json": 1500, "yaml": 12}
LONG = {name: 100_000 if name == "audio" else 20_000 for name in SHORT}


@pytest.mark.parametrize(
    ("name", "count"),
    [*SHORT.items(), *(pytest.param(*item, marks=pytest.mark.long) for item in LONG.items())],
)
def test_mutants_are_refused_or_read_and_nothing_else_happens(name: str, count: int, tmp_path: Path) -> None:
    tally = campaign(CASES[name], count, tmp_path)
    print("\n" + tally.line(f"mutants of {name}"))
    assert not tally.offences, "\n".join(map(str, tally.offences))
    assert sum(tally.outcomes.values()) == count
    assert tally.outcomes["refused"] > count / 10
    assert tally.outcomes["read"] > 0
