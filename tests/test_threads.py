"""How long OpenMP's threads spin is said before torch is loaded, unless the user has said it."""

import os
import subprocess
import sys

import pytest

from wavediff.environment import SPINS

LOOK = """
import builtins, os, sys
class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()
sys.meta_path.insert(0, Look())
import wavediff
wavediff.Vocoder
"""


@pytest.mark.parametrize(
    ("chosen", "found"),
    [({}, str(SPINS)), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["nothing", "turns", "policy"],
)
def test_torch_finds_the_turns_of_waiting_threads(chosen: dict[str, str], found: str) -> None:
    free = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=free | chosen, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == found
