"""Noise that belongs to an item, not to its batch."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from wavediff.errors import SamplingError


class Noise(Protocol):
    """Where a sampler draws from: the noise of its process, white or shaped."""

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, length)"""


class ItemNoise:
    """Standard normal noise for a batch, each item from a generator of its own.

    So a batch of N equals N batches of one, whatever the number of processes that share the work, and the
    global random state is neither read nor changed.

    Args:
        seeds: one integer in [0, 2^63) an item.
        device: where the noise is drawn; the numbers differ between kinds of device.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device).manual_seed(_checked(seed)) for seed in seeds]

    def copy(self) -> "ItemNoise":
        """Another one that will draw the same."""
        twin = ItemNoise([0] * len(self.generators), self.device)
        for generator, original in zip(twin.generators, self.generators, strict=True):
            generator.set_state(original.get_state())
        return twin

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


def _checked(seed: int) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise SamplingError(f"seed: {seed!r} is not a whole number from 0 to 2^63 - 1")
    return seed
