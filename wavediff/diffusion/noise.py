"""Noise that belongs to an item, not to its batch."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from wavediff.arguments import as_list, is_whole, shown, whole
from wavediff.errors import SamplingError

MAX_SEED = 2**63 - 1
BLOCK = 16_384  # values a generator is asked for at once


class Noise(Protocol):
    """Where a sampler draws from: the noise of its process, white or shaped."""

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, length)"""


class MixedNoise:
    """Noise on the way from one to another, along the sphere where nearly all of a normal distribution lies.

    Args:
        first, other: two that are independent.
        share: (B, 1) or a number in [0, 1]; 0 is the first, 1 the other.
    """

    def __init__(self, first: Noise, other: Noise, share: Tensor | float) -> None:
        angle = share * (math.pi / 2)
        self._first, self._other = first, other
        self._weights: tuple[Tensor | float, Tensor | float] = (
            (angle.cos(), angle.sin()) if isinstance(angle, Tensor) else (math.cos(angle), math.sin(angle))
        )

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, length)"""
        own, other = self._weights
        return own * self._first.normal(length, dtype) + other * self._other.normal(length, dtype)


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
        # Of the CPU, also for a GPU: numbers of which there is one an item are wanted here.
        self.generators = [torch.Generator("cpu").manual_seed(seed) for seed in self.seeds]
        self._counted: CountedDraw | None = None  # on a GPU, from the first use on
        self._draws = 0

    def copy(self) -> "ItemNoise":
        """Another one that will draw the same."""
        twin = ItemNoise(self.seeds, self.device)
        twin._draws = self._draws
        for generator, original in zip(twin.generators, self.generators, strict=True):
            generator.set_state(original.get_state())
        if self._counted is not None:
            twin._counted = CountedDraw.at(self._counted.next)
        return twin

    def draw(self) -> "Draw | CountedDraw":
        """Noise to be taken piece by piece: a short one is the beginning of a longer one, whatever was drawn before.

        So a signal whose length is not known yet begins as it will be. The numbers are not those of `normal`.
        """
        kind = CountedDraw if counts_on(self.device) else Draw
        return kind(self.draw_seeds(), self.device)

    def draw_seeds(self) -> list[int]:
        """Of the next draw's items."""
        self._draws += 1
        return [_mixed(seed, self._draws) for seed in self.seeds]

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, length) standard normal."""
        if counts_on(self.device):
            self._counted = self._counted or CountedDraw(self.seeds, self.device)
            return self._counted.take(length, dtype)
        noise = torch.empty(len(self.generators), length, dtype=dtype, device=self.device)
        for row, generator in zip(noise, self.generators, strict=True):
            row.normal_(generator=generator)
        return noise

    def uniform(self) -> Tensor:
        """(B,) float64, uniform in [0, 1); on the CPU."""
        draws = [torch.rand(1, generator=g, device="cpu", dtype=torch.float64) for g in self.generators]
        return torch.cat(draws)

    def integers(self, low: int, high: int) -> Tensor:
        """(B,) int64, uniform in [low, high); on the CPU."""
        draws = [torch.randint(low, high, (1,), generator=g, device="cpu") for g in self.generators]
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


class CountedDraw:
    """The same on a GPU, for all items at once: a value is a function of its item's seed and of its number alone.

    So the work does not grow with the items, and a CUDA graph can hold it. The numbers are those of splitmix64
    (Steele et al. 2014), made normal by the method of Box and Muller (1958).

    Args:
        seeds: one an item.
        device: where it is drawn.
    """

    STATE = ("next",)

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.next = torch.tensor([[_mixed(seed, 1)] for seed in seeds], device="cpu").to(device, non_blocking=True)
        """(B, 1) int64, the generators' states."""

    @classmethod
    def at(cls, state: Tensor) -> "CountedDraw":
        """One that goes on from these states (B, 1)."""
        draw = cls.__new__(cls)
        draw.next = state
        return draw

    def take(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The next (B, count) values."""
        z = self.next + torch.arange(count, device=self.next.device) * _GOLDEN
        self.next = self.next + _wrapped(count * _GOLDEN)
        z = (z ^ _shifted(z, 30)) * _wrapped(0xBF58476D1CE4E5B9)
        z = (z ^ _shifted(z, 27)) * _wrapped(0x94D049BB133111EB)
        z = z ^ _shifted(z, 31)
        share, angle = _shifted(z, 32).float().add_(0.5), (z & 0xFFFFFFFF).float()
        radius = share.mul_(2.0**-32).log_().mul_(-2).sqrt_()
        return angle.mul_(2 * math.pi * 2.0**-32).cos_().mul_(radius).to(dtype)


def counts_on(device: torch.device) -> bool:
    """Whether noise of that device is a function of its number; that of a CPU comes from torch's generators."""
    return device.type != "cpu"


def _wrapped(value: int) -> int:
    """The signed number of 64 bits that has the last 64 of these."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _wrapped(0x9E3779B97F4A7C15)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shifted to the right, with zeros."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(seed: int, draw: int) -> int:
    """A seed for the n-th draw: splitmix64 (Steele et al. 2014), whose outputs for different inputs are unrelated."""
    mask = (1 << 64) - 1
    z = (seed + draw * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


def check_seed(seed: int | Sequence[int]) -> int | list[int]:
    """The part of `check_seeds` that needs no count: the seed, or the seeds, as int.

    Raises:
        SamplingError: it is neither a whole number from 0 to 2^63 - 1 nor a list of them.
    """
    if is_whole(seed):
        return _checked(seed)
    items = as_list(seed)
    if not items:
        raise SamplingError(f"seed: {shown(seed)} is neither a whole number from 0 to 2^63 - 1 nor a list of them")
    return [_checked(item) for item in items]


def check_seeds(seed: int | Sequence[int], count: int, what: str) -> list[int]:
    """A seed for each of `count` items.

    Raises:
        SamplingError: as `check_seed`; also more or fewer seeds than items.
    """
    seeds = check_seed(seed)
    seeds = [seeds] * count if isinstance(seeds, int) else seeds
    if len(seeds) != count:
        raise SamplingError(f"seed: {len(seeds)} seeds for {count} {what}; give one number, or one an item")
    return seeds


def _checked(seed: object) -> int:
    return whole(seed, "seed", 0, MAX_SEED, SamplingError)
