"""The sounds that `wavediff generate` is to make."""

from pathlib import Path
from typing import NamedTuple


class Job(NamedTuple):
    """One sound: its file, its label, and its seed."""

    target: Path
    label: str | None
    seed: int
