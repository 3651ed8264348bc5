"""Processes that read ahead for a loader of torch."""

from collections.abc import Iterator
from typing import TypeVar

Batch = TypeVar("Batch")

LOOK = 5
"""Seconds without a batch after which the processes of a loader are looked at: its `timeout`."""


def attended(batches: Iterator[Batch], look: float, patience: float) -> Iterator[Batch]:
    """What a loader gives, with a look at its processes again and again.

    A loader learns of a death by a signal, which other libraries of the same process may have taken for themselves,
    or else when its timeout is over.

    Args:
        batches: iterator of a `DataLoader` whose `timeout` is `look`.
        look: seconds; 0 for a loader without processes.
        patience: seconds without a batch after which they are taken to hang.

    Raises:
        RuntimeError: of the loader, which says "DataLoader": a process died, or they hang.
    """
    waited = 0.0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader timed out after"):  # what a process raised may be a timeout, too
                raise
            waited += look
            if waited >= patience:
                raise RuntimeError(f"DataLoader timed out: no batch for {patience} seconds") from error
        else:
            waited = 0.0
            yield batch
