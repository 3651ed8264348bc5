"""The campaigns' own means: what they must notice, they notice."""

import functools
import hashlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import cases
import originals
import pytest
from workers import campaign


def troubled(seed: int, folder: Path) -> str:
    """Some seeds go wrong, each in its own way."""
    match seed:
        case 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 6:
            time.sleep(1000)
        case 9:
            raise ZeroDivisionError("by zero")
        case 12:
            bytearray(1 << 40)
        case 15:
            raise SystemExit(0)
    return "fine"


def test_crashes_hangs_and_exceptions_are_told_with_their_seed_and_the_rest_is_tried(tmp_path: Path) -> None:
    tally = campaign(troubled, 20, tmp_path, patience=3)
    found = {offence.seed: (offence.kind, offence.detail.partition(":")[0]) for offence in tally.offences}
    assert found == {
        3: ("crash", "exit status -11"),
        6: ("hang", "more than 3 s"),
        9: ("exception", "ZeroDivisionError"),
        12: ("exception", "MemoryError"),
        15: ("exception", "SystemExit"),
    }
    assert tally.outcomes == Counter(fine=15)


def describe(seed: int, folder: Path) -> str:
    """A digest of the originals, as this process made them."""
    parts = [*(content for _, content in originals.audio()), *originals.npy(), *originals.checkpoints()]
    return hashlib.sha256(b"".join([*parts, originals.model(), originals.mel_file()])).hexdigest()


def test_a_seed_makes_the_same_input_in_every_process(tmp_path: Path) -> None:
    assert campaign(describe, 2, tmp_path).outcomes == Counter({describe(0, tmp_path): 2})


def undamaged(name: str, seed: int, folder: Path) -> str:
    """A case that damages nothing."""
    for damage in ("mutant", "text_mutant", "tree_mutant", "zip_mutant"):
        setattr(cases, damage, lambda content, chance: content)
    return cases.CASES[name](seed, folder)


@pytest.mark.parametrize("name", cases.CASES)
def test_an_undamaged_input_is_read(name: str, tmp_path: Path) -> None:
    """Else a campaign would see refusals alone."""
    tally = campaign(functools.partial(undamaged, name), 12, tmp_path)
    assert tally.offences == []
    assert tally.outcomes["read"] >= (3 if name in ("npy", "pt") else 12)  # the rest would run something
