"""What a run has to do, found out before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass

from wavediff.bulk.batches import Batch, Item, measure, remaining
from wavediff.bulk.jobs import Job, sweep
from wavediff.bulk.reading import Fault
from wavediff.errors import WavediffError
from wavediff.mel import MelSpec


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
    items, faults, done = [], [], []
    for job in jobs:
        is_done = resume and job.target.exists()
        if is_done:
            done.append(job)
        try:
            items.append(Item(job, measure(job, spec, lenient=lenient), is_done))
        except WavediffError as error:
            if not is_done:
                faults.append(Fault(job, str(error)))
    return Work(remaining(items, max_seconds, max_items, processes), faults, done)
