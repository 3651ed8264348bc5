"""Which items make which batch: a pure function of the seed, the epoch and the place in it.

Nothing is remembered between batches, so a run resumed in the middle of an epoch, on any number of workers,
sees the batches that an uninterrupted one would have seen.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

from wavediff.errors import DataError


def derive_seed(*parts: int) -> int:
    """A 63-bit seed from several numbers; other numbers, or another order, give an unrelated one."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(eq=False, repr=False)
class ResumableBatchSampler(Sampler[list[tuple[int, int]]]):
    """Yields batches of (index, item_seed), shuffled anew in every epoch, shared out among ranks.

    An epoch runs through `repeats` permutations of the items and drops what does not fill a last global batch
    (`batch_size * world_size` items); the next epoch is shuffled otherwise, so nothing is left out for good.

    Args:
        items: indices of the data set to visit, some perhaps several times; or how many it holds, to visit each once.
        batch_size: items in a batch of one rank.
        seed: decides every order and every item's seed.
        rank: of this process; it takes items rank, rank + world_size, ... of each global batch.
        world_size: number of processes.
        epoch: the epoch to begin with.
        start_batch: batches of that epoch already done; iterations of that epoch leave them out.
        repeats: how often an epoch visits each item; lets an epoch of a small corpus last.

    Raises:
        DataError: there are fewer items than a global batch holds.
    """

    items: int | Sequence[int]
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    start_batch: int = 0
    repeats: int = 1

    def __post_init__(self) -> None:
        self.places = range(self.items) if isinstance(self.items, int) else self.items
        self.num_items = len(self.places)
        if len(self) == 0:
            raise DataError(
                f"{self.num_items} clips do not fill one batch of {self.batch_size} on {self.world_size} device(s); "
                f"lower batch_size, or raise repeats (now {self.repeats}) so that an epoch visits each clip more often"
            )

    def __len__(self) -> int:
        """Batches in a whole epoch, wherever the next iteration starts."""
        return self.num_items * self.repeats // (self.batch_size * self.world_size)

    @property
    def sampler(self) -> "ResumableBatchSampler":
        """Itself: Lightning calls `set_epoch` on a loader's `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; another one than before starts at its first batch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.start_batch = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # Not itself a generator: epoch and start are taken now, whatever is set before the first batch is asked for.
        # They are kept, because a DataLoader with workers calls this twice when it starts.
        return self._batches(self.epoch, self.start_batch)

    def _batches(self, epoch: int, start: int) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        permutations = [torch.randperm(self.num_items, generator=generator) for _ in range(self.repeats)]
        order = torch.cat(permutations).tolist()
        global_batch = self.batch_size * self.world_size
        for first in range(start * global_batch, len(self) * global_batch, global_batch):
            yield [
                (self.places[order[position]], derive_seed(self.seed, epoch, position))
                for position in range(first + self.rank, first + global_batch, self.world_size)
            ]
