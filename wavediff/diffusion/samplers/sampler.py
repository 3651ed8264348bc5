"""What all samplers share, their signature and the steps of a grid; and the samplers of first order.

DDPM (Ho et al. 2020), DDIM (Song et al. 2021, arXiv:2010.02502), and Euler's method on the probability-flow ODE, which
is the sampler of flow matching and rectified flow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.schedules import Schedule, expand, predict_noise
from wavediff.errors import SamplingError

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, N), t (B,)) -> estimate of x_0 (B, N)"""


class Sampler:
    """From noise to data along a grid of times.

    Frozen dataclasses implement `step`, or `states` where a step depends on those before it.
    """

    def step(self, denoise: Denoise, x: Tensor, step: "Step", schedule: Schedule, noise: Noise) -> Tensor:
        """x_s (B, N) from x_t (B, N)."""
        raise NotImplementedError

    def states(self, denoise: Denoise, x_T: Tensor, schedule: Schedule, grid: Tensor, noise: Noise) -> Iterator[Tensor]:
        """x (B, N) after each step of the grid, from x_T (B, N) at its first time."""
        x = x_T
        for step in steps_of(schedule, grid, x):
            x = self.step(denoise, x, step, schedule, noise)
            yield x

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


@dataclass(frozen=True)
class DDIM(Sampler):
    """Deterministic for eta = 0; eta = 1 is ancestral sampling.

    Attributes:
        eta: share of fresh noise, in [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise SamplingError(f"sampler: ddim's eta {self.eta} is outside [0, 1]")

    def step(self, denoise: Denoise, x: Tensor, step: Step, schedule: Schedule, noise: Noise) -> Tensor:
        """See `Sampler`."""
        x_0 = denoise(x, step.t)
        eps = predict_noise(x_0, x, step.alpha_t, step.sigma_t)
        # sigma_tau, eq. 16, for any alpha and sigma; zero at s = 0, where sigma_s is.
        added = (step.sigma_t**2 - (step.alpha_t / step.alpha_s * step.sigma_s) ** 2).clamp(min=0)
        fresh = self.eta * step.sigma_s / step.sigma_t * added.sqrt()
        kept = (step.sigma_s**2 - fresh**2).clamp(min=0).sqrt()
        x = expand(step.alpha_s, x) * x_0 + expand(kept, x) * eps  # eq. 12
        if self.eta > 0 and not step.to_data:
            x = torch.addcmul(x, expand(fresh, x), noise.normal(x.shape[1], x.dtype))
        return x


@dataclass(frozen=True)
class DDPM(DDIM):
    """Ancestral sampling, Algorithm 2 of DDPM and of DiffWave: DDIM with all of its noise (DDIM's paper, section 4.1).

    Draws x_s from q(x_s | x_t, x_0 estimate), the Gaussian posterior of the forward process; for any alpha and sigma as
    in VDM (Kingma et al. 2021, arXiv 2107.00630, eq. 25 to 29).
    """

    eta: float = field(default=1.0, init=False)


@dataclass(frozen=True)
class Euler(Sampler):
    """x_s = x_t + (s - t) dx/dt, with dx/dt = alpha' x_0 + sigma' noise (Liu et al. 2023, arXiv 2209.03003, eq. 1).

    The last step, to t = 0, ends on the estimate of x_0, as the rule itself does for straight paths.
    """

    def step(self, denoise: Denoise, x: Tensor, step: Step, schedule: Schedule, noise: Noise) -> Tensor:
        """See `Sampler`."""
        x_0 = denoise(x, step.t)
        if step.to_data:
            return x_0
        eps = predict_noise(x_0, x, step.alpha_t, step.sigma_t)
        alpha_slope, sigma_slope = schedule.slopes(step.t)
        span = step.s - step.t
        return x + expand(span * alpha_slope, x) * x_0 + expand(span * sigma_slope, x) * eps
