"""DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), second order, multistep: one evaluation a step."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.samplers.sampler import Denoise, Sampler, Step, steps_of
from wavediff.diffusion.schedules import Schedule, expand
from wavediff.errors import SamplingError


@dataclass(frozen=True)
class DPMpp2M(Sampler):
    """An exponential integrator in half the log-SNR, lambda, that extrapolates the last two estimates of x_0.

    Attributes:
        eta: 0 solves the probability-flow ODE ("2M", Algorithm 2), 1 the diffusion's SDE ("SDE-DPM-Solver++(2M)",
            eq. 18); between, the SDE with the noise scaled down: tau^2 of SA-Solver (Xue et al. 2023, arXiv
            2309.05019, eq. 14).
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise SamplingError(f"sampler: dpmpp-2m's eta {self.eta} is outside [0, 1]")

    def states(self, denoise: Denoise, x_T: Tensor, schedule: Schedule, grid: Tensor, noise: Noise) -> Iterator[Tensor]:
        """See `Sampler`."""
        x, previous, h_before = x_T, None, None
        for step in steps_of(schedule, grid, x):
            h = _half_log_snr(step.alpha_s, step.sigma_s) - _half_log_snr(step.alpha_t, step.sigma_t)
            x_0 = denoise(x, step.t)
            estimate = x_0
            # The step to t = 0 is infinite in lambda: it ends on the estimate, which is first order.
            if previous is not None and h_before is not None and not step.to_data:
                # D of Algorithm 2, 1 / (2 r) = h / (2 h_before); zero after a first step from pure noise.
                estimate = torch.addcmul(x_0, expand(h / (2 * h_before), x), x_0 - previous)
            x = self._advance(x, estimate, step, h, noise)
            previous, h_before = x_0, h
            yield x

    def _advance(self, x: Tensor, estimate: Tensor, step: Step, h: Tensor, noise: Noise) -> Tensor:
        """x_s from x_t, as if x_0 were `estimate` all the way."""
        shrink = torch.exp(-self.eta * h) if self.eta > 0 else torch.ones_like(h)  # h may be infinite
        kept = step.sigma_s / step.sigma_t * shrink
        moved = -step.alpha_s * torch.expm1(-(1 + self.eta) * h)
        x = expand(moved, x) * estimate + expand(kept, x) * x
        if self.eta > 0 and not step.to_data:
            fresh = step.sigma_s * (-torch.expm1(-2 * self.eta * h)).sqrt()
            x = torch.addcmul(x, expand(fresh, x), noise.normal(x.shape[1], x.dtype))
        return x


def _half_log_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    return alpha.log() - sigma.log()
