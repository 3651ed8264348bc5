"""What a run has to do, found out before it begins: batches of files of like length, which are decoded together."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from wavediff.audio import read_info
from wavediff.bulk.jobs import Fault, Job, sweep
from wavediff.errors import WavediffError
from wavediff.mel import MelSpec, read_mel_info
from wavediff.places import there

LONG_SECONDS = 600.0
"""From here on a file goes alone, and through in pieces."""


@dataclass(frozen=True)
class Item:
    """A job as part of a batch.

    Attributes:
        job: what becomes what.
        seconds: of audio, from the header.
        done: its output is there already; it is decoded once more only for the sake of the others in its batch.
    """

    job: Job
    seconds: float
    done: bool = False

    @property
    def is_long(self) -> bool:
        """Whether it is too long to be held in memory whole."""
        return self.seconds >= LONG_SECONDS


Batch = tuple[Item, ...]


def measure(job: Job, spec: MelSpec, *, lenient: bool = False) -> float:
    """Seconds of audio a job makes, from the header of its source.

    Args:
        job: what becomes what.
        spec: dialect of the model.
        lenient: cut recordings will do.

    Raises:
        AudioError, MelError: the source is missing, or its header shows that it cannot be used.
    """
    if job.is_mel:
        return read_mel_info(job.source).frames * spec.hop_length / spec.sample_rate
    return read_info(job.source, lenient=lenient).seconds


def make_batches(items: Sequence[Item], max_seconds: float, max_items: int) -> list[Batch]:
    """Batches of like length, longest first, so that what memory is needed shows at once.

    Args:
        items: in any order, which does not matter.
        max_seconds: of a batch, padding included; an item beyond it is alone.
        max_items: of a batch.
    """
    rest = sorted(items, key=lambda item: (-item.seconds, str(item.job.source)))
    batches = []
    while rest:
        longest = rest[0]
        fitting = max_items if longest.seconds * max_items <= max_seconds else int(max_seconds / longest.seconds)
        count = 1 if longest.is_long else max(fitting, 1)
        batches.append(tuple(rest[:count]))
        rest = rest[count:]
    return batches


def remaining(items: Sequence[Item], max_seconds: float, max_items: int, processes: int = 1) -> list[Batch]:
    """The batches of which not all is done.

    What is in a batch shows in the last bits of its samples. So the batches are those of all items, whatever is done:
    a run that was killed comes to the same samples as one that was not. But where that would repeat more work
    than is left (new files came to many done ones), they are made of what is missing.

    Args:
        items, max_seconds, max_items: see `make_batches`.
        processes: how many share the work: each may have been killed in the middle of a batch.
    """
    unfinished = [batch for batch in make_batches(items, max_seconds, max_items) if not all(i.done for i in batch)]
    missing = [item for batch in unfinished for item in batch if not item.done]
    again = sum(item.seconds for batch in unfinished for item in batch if item.done)
    if again > sum(item.seconds for item in missing) + processes * max_seconds:
        return make_batches(missing, max_seconds, max_items)
    return unfinished


def share(batches: Sequence[Batch], processes: int) -> list[list[Batch]]:
    """The batches of each process, about equally long in all: the longest first, to whoever has least."""
    shares: list[list[Batch]] = [[] for _ in range(processes)]
    loads = [0.0] * processes
    for batch in sorted(batches, key=_cost, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(batch)
        loads[least] += _cost(batch)
    return shares


def _cost(batch: Batch) -> float:
    return batch[0].seconds * len(batch)


HEADERS = 16
"""Files whose headers are read at the same time."""


@dataclass(frozen=True)
class Work:
    """What a run has to do.

    Attributes:
        batches: of files to be made.
        faults: files whose header shows already that they cannot be used.
        done: jobs whose output is there.
    """

    batches: list[Batch]
    faults: list[Fault]
    done: list[Job]


def find_work(
    jobs: Sequence[Job],
    spec: MelSpec,
    *,
    max_seconds: float,
    max_items: int,
    resume: bool = False,
    lenient: bool = False,
    processes: int = 1,
) -> Work:
    """Look into the headers, and with `resume` at what is there: outputs are written atomically, so one there is whole.

    Args:
        jobs: of `plan_jobs`.
        spec: dialect of the model.
        max_seconds, max_items: of a batch; see `make_batches`.
        resume: leave out what is done, and remove the halves that a killed run has left.
        lenient: cut recordings will do.
        processes: how many share the work.
    """
    if resume:
        sweep(jobs)
    present = there(job.target for job in jobs) if resume else set()
    items, faults = [], []

    def measured(job: Job) -> float | str:
        try:
            return measure(job, spec, lenient=lenient)
        except WavediffError as error:
            return str(error)

    # At the same time, because storage answers each but after a while.
    with warnings.catch_warnings(), ThreadPoolExecutor(HEADERS) as threads:
        warnings.simplefilter("ignore")  # they come again when the file is read
        for job, found in zip(jobs, threads.map(measured, jobs), strict=True):
            if isinstance(found, float):
                items.append(Item(job, found, job.target in present))
            elif job.target not in present:
                faults.append(Fault(job, found))
    done = [job for job in jobs if job.target in present]
    return Work(remaining(items, max_seconds, max_items, processes), faults, done)
