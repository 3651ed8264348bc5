"""The diary of a search: every measured plan, so that nothing is measured twice and a search can go on."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from wavediff.diffusion import Plan
from wavediff.errors import DataError, OutputError

Figures = dict[str, float | None]


class Journal:
    """JSON lines: what is searched, then one line a measured plan. A line that a kill has cut is left out.

    Args:
        path: the file; it goes on where it ends.
        subject: what is searched, with what; JSON literals.
        overwrite: begin anew.

    Raises:
        DataError: the file is the diary of something else.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], subject: dict[str, Any], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._figures: dict[tuple[str, Plan], Figures] = {}
        lines = [] if overwrite or not self.path.exists() else self._read()
        if lines and lines[0] != subject:
            changed = sorted(key for key in subject | lines[0] if subject.get(key) != lines[0].get(key))
            raise DataError(
                f"{self.path}: is of another search (other {', '.join(changed)}); name another folder, or pass "
                "--overwrite to begin anew"
            )
        for line in lines[1:]:
            self._figures[line["part"], Plan(line["sampler"], tuple(line["times"]))] = line["figures"]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "w" if not lines else "a", encoding="utf-8")  # noqa: SIM115  closed by `close`
        except OSError as error:
            raise OutputError(f"{self.path}: could not be written ({error.strerror}); check the folder") from error
        if not lines:
            self._write(subject)

    def _read(self) -> list[dict[str, Any]]:
        lines = []
        text = self.path.read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        if not lines or not all(isinstance(line, dict) for line in lines) or "checkpoint" not in lines[0]:
            raise DataError(f"{self.path}: is not the diary of a search; name another folder, or pass --overwrite")
        if not text.endswith("\n"):  # cut in the middle of a line
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("\n")
        return lines

    def figures(self, part: str, plan: Plan) -> Figures | None:
        """What was measured of a plan on a part of the clips."""
        return self._figures.get((part, plan))

    def add(self, part: str, plan: Plan, figures: Figures) -> None:
        """Note what was measured."""
        self._figures[part, plan] = figures
        self._write({"part": part, "sampler": plan.sampler, "times": list(plan.times), "figures": figures})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: could not be written ({error.strerror}); check free space") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._figures)
