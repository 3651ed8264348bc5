"""Ancestral sampling: Algorithm 2 of DDPM (Ho et al. 2020) and of DiffWave."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.samplers.sampler import Denoise, Sampler, steps_of
from wavediff.diffusion.schedules import Schedule, expand


@dataclass(frozen=True)
class DDPM(Sampler):
    """Draws x_s from q(x_s | x_t, x_0 estimate), the Gaussian posterior of the forward process.

    Written for any alpha and sigma as in VDM (Kingma et al. 2021, arXiv 2107.00630, eq. 25 to 29); where
    alpha^2 + sigma^2 = 1 this is DDPM eq. 7, and with x_0 from eps DiffWave's Algorithm 2.
    """

    def states(self, denoise: Denoise, x_T: Tensor, schedule: Schedule, grid: Tensor, noise: Noise) -> Iterator[Tensor]:
        """See `Sampler`."""
        x = x_T
        for step in steps_of(schedule, grid, x):
            kept = step.alpha_t / step.alpha_s
            added = (step.sigma_t**2 - (kept * step.sigma_s) ** 2).clamp(min=0)  # variance between s and t
            from_x_0 = step.alpha_s * added / step.sigma_t**2
            from_x_t = kept * (step.sigma_s / step.sigma_t) ** 2
            x = expand(from_x_0, x) * denoise(x, step.t) + expand(from_x_t, x) * x
            if not step.to_data:  # Algorithm 2, line 4: no noise on the last step
                deviation = step.sigma_s / step.sigma_t * added.sqrt()  # DDPM: the root of beta~
                x = torch.addcmul(x, expand(deviation, x), noise.normal(x.shape[1], x.dtype))
            yield x
