"""Noise that belongs to an item, not to its batch."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from wavediff.arguments import whole
from wavediff.errors import SamplingError

MAX_SEED = 2**63 - 1
BLOCK = 16_384  # values a generator is asked for at once


class Noise(Protocol):
    """Where a sampler draws from: the noise of its process, white or shaped."""

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, length)"""


class ItemNoise:
    """Standard normal noise for a batch, each item from generators of its own.

    So a batch of N equals N batches of one, whatever the number of processes that share the work, and the
    global random state is neither read nor changed.

    >>> both, second = ItemNoise([3, 4]).normal(5), ItemNoise([4]).normal(5)
    >>> torch.equal(both[1:], second)
    True

    Args:
        seeds: one integer in [0, 2^63) an item.
        device: where the noise is drawn; the numbers differ between kinds of device.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device, self.seeds = torch.device(device), [_checked(seed) for seed in seeds]
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in self.seeds]
        self._draws = 0

    def copy(self) -> "ItemNoise":
        """Another one that will draw the same."""
        twin = ItemNoise(self.seeds, self.device)
        twin._draws = self._draws
        for generator, original in zip(twin.generators, self.generators, strict=True):
            generator.set_state(original.get_state())
        return twin

    def draw(self) -> "Draw":
        """Noise to be taken piece by piece: a short one is the beginning of a longer one, whatever was drawn before.

        So a signal whose length is not known yet begins as it will be. The numbers are not those of `normal`.
        """
        self._draws += 1
        return Draw([_mixed(seed, self._draws) for seed in self.seeds], self.device)

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, length) standard normal."""
        noise = torch.empty(len(self.generators), length, dtype=dtype, device=self.device)
        for row, generator in zip(noise, self.generators, strict=True):
            row.normal_(generator=generator)
        return noise

    def uniform(self) -> Tensor:
        """(B,) float64, uniform in [0, 1)."""
        draws = [torch.rand(1, generator=g, device=self.device, dtype=torch.float64) for g in self.generators]
        return torch.cat(draws)

    def integers(self, low: int, high: int) -> Tensor:
        """(B,) int64, uniform in [low, high)."""
        draws = [torch.randint(low, high, (1,), generator=g, device=self.device) for g in self.generators]
        return torch.cat(draws)


class Draw:
    """Standard normal noise (B, N) of any length N, from its beginning on.

    Args:
        seeds: one an item.
        device: where it is drawn.
    """

    STATE_OF_EACH = ("generators", "_rests")

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.device = device
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        # Of each item, what is drawn and not taken.
        self._rests = [torch.empty(0, dtype=torch.float32, device=device)] * len(self.generators)

    def take(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The next (B, count) values, in pieces of one type."""
        items = len(self.generators)
        alike = len({len(rest) for rest in self._rests}) == 1  # not of streams that began at different times
        groups = [slice(items)] if alike else [slice(item, item + 1) for item in range(items)]
        return torch.cat([self._taken(group, count, dtype) for group in groups])

    def _taken(self, group: slice, count: int, dtype: torch.dtype) -> Tensor:
        """The next values of items that hold equally many."""
        generators, held = self.generators[group], torch.stack(self._rests[group]).to(dtype)
        # Drawn in blocks of one size, because what a generator gives depends on how much is asked for at once.
        blocks = -(-max(count - held.shape[1], 0) // BLOCK)
        fresh = torch.empty(len(generators), blocks, BLOCK, dtype=dtype, device=self.device)
        for row, generator in zip(fresh, generators, strict=True):
            for block in row:
                block.normal_(generator=generator)
        values = torch.cat([held, fresh.flatten(1)], 1)
        self._rests[group] = values[:, count:].clone().unbind()
        return values[:, :count]


def _mixed(seed: int, draw: int) -> int:
    """A seed for the n-th draw: splitmix64 (Steele et al. 2014), whose outputs for different inputs are unrelated."""
    mask = (1 << 64) - 1
    z = (seed + draw * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


def _checked(seed: int) -> int:
    return whole(seed, "seed", 0, MAX_SEED, SamplingError)
