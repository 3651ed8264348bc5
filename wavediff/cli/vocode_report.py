"""What `wavediff vocode` prints: a row for each file, the bar, the end."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from wavediff.bulk import Batch, Fault, Outcome, Work
from wavediff.cli.progress import Progress, say
from wavediff.cli.tables import counted
from wavediff.errors import WavediffError


class Report:
    """What became of the files.

    Args:
        args: quiet, json.
        alone: whether there is one file, so that its fault is the command's.
    """

    def __init__(self, args: argparse.Namespace, *, alone: bool = False) -> None:
        self.quiet, self.json, self.alone = args.quiet, args.json, alone
        self.out = sys.stdout  # of now
        self.files, self.seconds = 0, 0.0
        self.faults: list[str] = []

    def begin(self, work: Work) -> None:
        """Account for the files that will not be decoded."""
        for job in work.done:
            self._print_json({"input": str(job.source), "output": str(job.target), "skipped": True})
        for fault in work.faults:
            self.tell(fault)

    def tell(self, outcome: Outcome) -> None:
        """Account for a file; of a fault more is said at the end."""
        if isinstance(outcome, Fault):
            self.faults.append(outcome.reason)
            if not self.alone:
                paths = {"input": str(outcome.job.source), "output": str(outcome.job.target)}
                self._print_json(paths | {"error": outcome.reason})
            return
        self.files, self.seconds = self.files + 1, self.seconds + outcome["seconds"]
        self._print_json(outcome)
        if not self.json and not self.quiet:
            line = f"{outcome['output']}: {outcome['seconds']:.2f} s of speech, real-time factor {outcome['rtf']:.2f}"
            say(line, self.out)

    def _print_json(self, row: dict[str, Any]) -> None:
        if self.json:
            print(json.dumps(row), file=self.out, flush=True)


def complain(faults: Sequence[str]) -> None:
    """A line on standard error for each."""
    for fault in faults:
        say(f"wavediff vocode: {' '.join(fault.split())}")


def conclude(args: argparse.Namespace, report: Report, jobs: int, skipped: int, elapsed: float) -> None:
    """The end of a run.

    Args:
        args: quiet, json.
        report: of all its files.
        jobs: how many files there were.
        skipped: of which so many were there already.
        elapsed: seconds.

    Raises:
        WavediffError: a file could not be vocoded.
    """
    files, seconds, faults = report.files, report.seconds, report.faults
    if faults and jobs == 1:
        raise WavediffError(faults[0])
    if jobs > 1 and not args.quiet and not args.json:
        speed = f" ({seconds / elapsed:.1f} times as fast as it plays)" if files else ""
        there = f", {skipped} were there already" if skipped else ""
        print(f"{counted(files, 'file')}, {seconds:.1f} s of speech in {elapsed:.1f} s{speed}{there}", flush=True)
    complain(faults)
    if faults:
        raise WavediffError(f"{len(faults)} of {jobs} inputs could not be vocoded, for the reasons above")


def seconds_done(batches: Sequence[Batch], *, quiet: bool) -> Progress:
    """The progress in seconds of audio."""
    total = sum(item.seconds for batch in batches for item in batch if not item.done)
    return Progress("vocode", total, "s of speech", quiet=quiet, digits=1)
