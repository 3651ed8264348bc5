"""What all samplers share: their signature, and the steps of a grid."""

import abc
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.schedules import Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, N), t (B,)) -> estimate of x_0 (B, N)"""


class Sampler(abc.ABC):
    """From noise to data along a grid of times; frozen dataclasses implement it."""

    @abc.abstractmethod
    def states(self, denoise: Denoise, x_T: Tensor, schedule: Schedule, grid: Tensor, noise: Noise) -> Iterator[Tensor]:
        """x (B, N) after each step of the grid, from x_T (B, N) at its first time."""

    def evaluations(self, num_steps: int) -> int:
        """How often a grid of that many steps has the network evaluated, at most."""
        return num_steps

    def steps(self, evaluations: int) -> int:
        """The most steps that evaluate the network at most so often; one, if none do."""
        return evaluations

    def __call__(self, denoise: Denoise, x_T: Tensor, schedule: Schedule, grid: Tensor, noise: Noise) -> Tensor:
        """x_T (B, N) at the first time of the grid -> x_0 (B, N)."""
        *_, x = self.states(denoise, x_T, schedule, grid, noise)
        return x


class Step(NamedTuple):
    """From time t to time s < t.

    Attributes:
        number: from 0.
        from_noise: whether there is no signal at t: alpha_t = 0.
        to_data: whether s = 0.
        t, s, alpha_t, sigma_t, alpha_s, sigma_s: (B,), float64.
    """

    number: int
    from_noise: bool
    to_data: bool
    t: Tensor
    s: Tensor
    alpha_t: Tensor
    sigma_t: Tensor
    alpha_s: Tensor
    sigma_s: Tensor


def steps_of(schedule: Schedule, grid: Tensor, x: Tensor) -> Iterator[Step]:
    """The steps of a grid (S + 1,) for a batch x (B, N)."""
    # Decided before the first step, so that no step waits for a device.
    no_signal, no_time = (schedule.alpha(grid) == 0).tolist(), (grid == 0).tolist()
    times = grid.to(x.device)
    for number in range(len(times) - 1):
        t, s = times[number].expand(len(x)), times[number + 1].expand(len(x))
        levels = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
        yield Step(number, no_signal[number], no_time[number + 1], t, s, *levels)
