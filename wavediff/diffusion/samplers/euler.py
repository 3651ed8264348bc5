"""Euler's method on the probability-flow ODE: the sampler of flow matching and rectified flow."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.samplers.sampler import Denoise, Sampler, steps_of
from wavediff.diffusion.schedules import Schedule, expand, predict_noise


@dataclass(frozen=True)
class Euler(Sampler):
    """x_s = x_t + (s - t) dx/dt, with dx/dt = alpha' x_0 + sigma' noise (Liu et al. 2023, arXiv 2209.03003, eq. 1).

    The last step, to t = 0, ends on the estimate of x_0, as the rule itself does for straight paths.
    """

    def states(self, denoise: Denoise, x_T: Tensor, schedule: Schedule, grid: Tensor, noise: Noise) -> Iterator[Tensor]:
        """See `Sampler`."""
        x = x_T
        for step in steps_of(schedule, grid, x):
            x_0 = denoise(x, step.t)
            if step.to_data:
                x = x_0
            else:
                eps = predict_noise(x_0, x, step.alpha_t, step.sigma_t)
                alpha_slope, sigma_slope = schedule.slopes(step.t)
                span = step.s - step.t
                x = x + expand(span * alpha_slope, x) * x_0 + expand(span * sigma_slope, x) * eps
            yield x
