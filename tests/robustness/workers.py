"""Inputs tried in processes of their own, so that a crash or a hang costs one input, and the seed of it is told."""

import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import resource
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Takes a seed and an empty folder of its own; returns what became of the input in a word, or raises.
Case = Callable[[int, Path], str]

PATIENCE = 60.0  # [s] that one input may take; it takes milliseconds, but the machine may be busy
MORE_MEMORY = 4 << 30  # address space [bytes] that inputs may claim beyond what a process begins with
# Processes come from a server that has imported the slow libraries once and runs no threads that a fork would break.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "soundfile", "lightning.pytorch", "wavediff", "wavediff.cli.train"])


@dataclass(frozen=True)
class Offence:
    """An input that did what none may: the seed makes it again."""

    seed: int
    kind: str  # "crash", "hang" or "exception"
    detail: str


@dataclass
class Tally:
    """What a campaign came to."""

    outcomes: Counter[str] = field(default_factory=Counter)
    offences: list[Offence] = field(default_factory=list)
    seconds: float = 0.0

    def line(self, name: str) -> str:
        """One line of counts and duration."""
        kinds = Counter(offence.kind for offence in self.offences)
        inputs = sum(self.outcomes.values()) + len(self.offences)
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return (
            f"{name}: {inputs} inputs, {outcomes}; {kinds['crash']} crashes, {kinds['hang']} hangs, "
            f"{kinds['exception']} exceptions; {self.seconds:.0f} s"
        )


def closing_line(text: str, start: float) -> None:
    """What a campaign prints at its end; `start` on the monotonic clock."""
    print(f"\n{text}; {time.monotonic() - start:.0f} s")


def campaign(
    case: Case, count: int, folder: Path, *, processes: int = 2, patience: float = PATIENCE, offences: int = 20
) -> Tally:
    """Try the seeds 0 to `count` - 1, and stop early after so many `offences`.

    Args:
        case: found in a module by its name.
        count: of inputs.
        folder: where the processes make theirs.
        processes: at once.
        patience: that one input may take [s].
        offences: to collect.
    """
    start, tally = time.monotonic(), Tally()
    workers = [_Worker(case, range(i, count, processes), folder / str(i)) for i in range(min(processes, count))]
    try:
        while running := {worker.pipe: worker for worker in workers if worker.process is not None}:
            for pipe in multiprocessing.connection.wait(list(running), timeout=0.5):
                running[pipe].hear(tally)  # type: ignore[index]
            for worker in running.values():
                worker.watch(tally, patience)
            if len(tally.offences) >= offences:
                break
    finally:
        for worker in workers:
            worker.end()
    tally.seconds = time.monotonic() - start
    return tally


class _Worker:
    """A process on its way through some seeds, replaced by another where it dies."""

    def __init__(self, case: Case, seeds: Sequence[int], folder: Path) -> None:
        self.case, self.seeds, self.folder = case, seeds, folder
        self.process: Any = None
        self.pipe: Any = None
        self._start()

    def _start(self) -> None:
        self.end()
        self.at: int | None = None
        if not self.seeds:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pipe, theirs = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_work, args=(self.case, self.seeds, self.folder, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.since = time.monotonic()

    def hear(self, tally: Tally) -> None:
        """Take in all that the process has said."""
        try:
            while self.process is not None and self.pipe.poll():
                self._note(tally, *self.pipe.recv())
        except EOFError:
            self.process.join()
            self._lost(tally, "crash", f"exit status {self.process.exitcode}")

    def _note(self, tally: Tally, seed: int | None, outcome: str | None, detail: str | None) -> None:
        self.since = time.monotonic()
        if detail is not None:
            assert self.at is not None
            tally.offences.append(Offence(self.at, "exception", detail))
        elif outcome is not None:
            tally.outcomes[outcome] += 1
        self.at = seed
        if seed is None:
            self.end()

    def watch(self, tally: Tally, patience: float) -> None:
        """Replace a process that is at one input for too long."""
        if self.process is not None and time.monotonic() - self.since > patience:
            self._lost(tally, "hang", f"more than {patience:g} s")

    def _lost(self, tally: Tally, kind: str, detail: str) -> None:
        seed = self.seeds[0] if self.at is None else self.at
        tally.offences.append(Offence(seed, kind, detail))
        self.seeds = self.seeds[self.seeds.index(seed) + 1 :]
        self._start()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _work(case: Case, seeds: Sequence[int], folder: Path, pipe: Any) -> None:
    """Say each seed before it is tried, and then what became of it."""
    quieten()
    for number, seed in enumerate(seeds):
        if not number:
            pipe.send((seed, None, None))
        outcome, detail = None, None
        try:
            outcome = case(seed, folder)
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            detail = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"[:500]
        pipe.send((seeds[number + 1] if number + 1 < len(seeds) else None, outcome, detail))


def quieten() -> None:
    """One thread, bounded memory, no core dumps, no warnings but numpy's, which tell of broken arithmetic."""
    import torch

    torch.set_num_threads(1)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
