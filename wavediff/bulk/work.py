"""What a run has to do, found out before it begins."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from wavediff.bulk.batches import Batch, Item, measure, remaining
from wavediff.bulk.jobs import Job, sweep
from wavediff.bulk.reading import Fault
from wavediff.errors import WavediffError
from wavediff.mel import MelSpec
from wavediff.places import there

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
