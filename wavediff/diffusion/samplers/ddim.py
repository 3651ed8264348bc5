"""Denoising diffusion implicit models (Song et al. 2021, arXiv:2010.02502)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.predictions import predict_noise
from wavediff.diffusion.schedules import Schedule, expand
from wavediff.errors import ConfigError


@dataclass(frozen=True)
class DDIM:
    """Deterministic for eta = 0; eta = 1 has the noise of ancestral sampling.

    Attributes:
        eta: share of fresh noise, in [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"sampler.eta: {self.eta} is outside [0, 1]")

    def __call__(
        self,
        denoise: Callable[[Tensor, Tensor], Tensor],
        x_T: Tensor,
        schedule: Schedule,
        grid: Tensor,
        noise: Noise,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        x_t = x_T
        times = grid.to(x_T.device)
        for index in range(len(times) - 1):
            t, s = times[index].expand(len(x_t)), times[index + 1].expand(len(x_t))
            alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
            sigma_t, sigma_s = schedule.sigma(t), schedule.sigma(s)
            x_0 = denoise(x_t, t)
            eps = predict_noise(x_0, x_t, alpha_t, sigma_t)
            # sigma_tau, eq. 16; zero at s = 0, where sigma_s is.
            fresh = self.eta * (sigma_s / sigma_t) * (1 - (alpha_t / alpha_s) ** 2).sqrt()
            kept = (sigma_s**2 - fresh**2).clamp(min=0).sqrt()
            x_t = expand(alpha_s, x_t) * x_0 + expand(kept, x_t) * eps  # eq. 12
            if self.eta > 0 and index < len(times) - 2:
                x_t = torch.addcmul(x_t, expand(fresh, x_t), noise.normal(x_t.shape[1], x_t.dtype))
            if on_step is not None:
                on_step(index, x_t)
        return x_t
