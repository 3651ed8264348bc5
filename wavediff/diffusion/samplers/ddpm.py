"""Ancestral sampling: Algorithm 2 of DDPM (Ho et al. 2020) and of DiffWave."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.schedules import Schedule, expand


@dataclass(frozen=True)
class DDPM:
    """Draws x_s from q(x_s | x_t, x_0 estimate), the Gaussian posterior of the forward process."""

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
            alpha_bar_t, alpha_bar_s = schedule.alpha(t) ** 2, schedule.alpha(s) ** 2
            alpha_ts = alpha_bar_t / alpha_bar_s  # the paper's alpha_t = 1 - beta_t, over this step
            beta_ts = 1 - alpha_ts
            # Posterior mean, DDPM eq. 7; with x_0 from eps it is DiffWave's Algorithm 2, line 5.
            from_x_0 = alpha_bar_s.sqrt() * beta_ts / (1 - alpha_bar_t)
            from_x_t = alpha_ts.sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
            x_t = expand(from_x_0, x_t) * denoise(x_t, t) + expand(from_x_t, x_t) * x_t
            if index < len(times) - 2:
                # beta~, DDPM eq. 7 and DiffWave eq. 5; no noise on the last step (Algorithm 2, line 4).
                variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) * beta_ts
                x_t = torch.addcmul(x_t, expand(variance.sqrt(), x_t), noise.normal(x_t.shape[1], x_t.dtype))
            if on_step is not None:
                on_step(index, x_t)
        return x_t
