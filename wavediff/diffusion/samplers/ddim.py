"""Denoising diffusion implicit models (Song et al. 2021, arXiv:2010.02502)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.samplers.sampler import Denoise, Sampler, steps_of
from wavediff.diffusion.schedules import Schedule, expand, predict_noise
from wavediff.errors import SamplingError


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

    def states(self, denoise: Denoise, x_T: Tensor, schedule: Schedule, grid: Tensor, noise: Noise) -> Iterator[Tensor]:
        """See `Sampler`."""
        x = x_T
        for step in steps_of(schedule, grid, x):
            x_0 = denoise(x, step.t)
            eps = predict_noise(x_0, x, step.alpha_t, step.sigma_t)
            # sigma_tau, eq. 16, for any alpha and sigma; zero at s = 0, where sigma_s is.
            added = (step.sigma_t**2 - (step.alpha_t / step.alpha_s * step.sigma_s) ** 2).clamp(min=0)
            fresh = self.eta * step.sigma_s / step.sigma_t * added.sqrt()
            kept = (step.sigma_s**2 - fresh**2).clamp(min=0).sqrt()
            x = expand(step.alpha_s, x) * x_0 + expand(kept, x) * eps  # eq. 12
            if self.eta > 0 and not step.to_data:
                x = torch.addcmul(x, expand(fresh, x), noise.normal(x.shape[1], x.dtype))
            yield x
