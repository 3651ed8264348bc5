"""Processes that read ahead for a loader of torch."""

from collections.abc import Iterator
from typing import TypeVar

from wavediff.errors import DataError

Batch = TypeVar("Batch")

LOOK = 5
"""Seconds without a batch after which the processes of a loader are looked at: its `timeout`."""


def attended(batches: Iterator[Batch], look: float, patience: float, cure: str) -> Iterator[Batch]:
    """What a loader gives, with a look at its processes again and again.

    A loader learns of a death by a signal, which other libraries of the same process may have taken for themselves,
    or else when its timeout is over.

    Args:
        batches: iterator of a `DataLoader` whose `timeout` is `look`.
        look: seconds; 0 for a loader without processes.
        patience: seconds without a batch after which they are taken to hang.
        cure: what to do where one died or hangs, for the message.

    Raises:
        DataError: a process died, or they hang.
    """
    waited = 0.0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            if reason.startswith("DataLoader timed out after"):
                waited += look
                if waited < patience:
                    continue
                reason = f"no batch for {patience} seconds"
            elif not reason.startswith("DataLoader worker (pid"):  # what a process raised speaks of workers, too
                raise
            raise DataError(f"a process that reads files died or hangs ({reason}); {cure}") from error
        else:
            waited = 0.0
            yield batch
