"""What all samplers share: their signature, and the steps of a grid."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.schedules import Schedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, N), t (B,)) -> estimate of x_0 (B, N)"""
OnStep = Callable[[int, Tensor], None]
"""(index of the step from 0, x after it), called after each."""


class Sampler(Protocol):
    """From noise to data along a grid of times; frozen dataclasses implement it."""

    def __call__(
        self,
        denoise: Denoise,
        x_T: Tensor,
        schedule: Schedule,
        grid: Tensor,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """x_T (B, N) at the first time of the grid -> x_0 (B, N)."""

    def evaluations(self, num_steps: int) -> int:
        """How often a grid of that many steps has the network evaluated, at most."""


class Step(NamedTuple):
    """From time t to time s < t. All are (B,), float64 but `number`, which counts from 0."""

    number: int
    t: Tensor
    s: Tensor
    alpha_t: Tensor
    sigma_t: Tensor
    alpha_s: Tensor
    sigma_s: Tensor

    @property
    def to_data(self) -> bool:
        """Whether s = 0."""
        return not self.s.any()


def steps_of(schedule: Schedule, grid: Tensor, x: Tensor) -> Iterator[Step]:
    """The steps of a grid (S + 1,) for a batch x (B, N)."""
    times = grid.to(x.device)
    for index in range(len(times) - 1):
        t, s = times[index].expand(len(x)), times[index + 1].expand(len(x))
        yield Step(index, t, s, schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s))
