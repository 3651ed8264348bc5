"""Samplers of second order.

Heun's method and the churn of EDM (Karras et al. 2022, arXiv:2206.00364, Algorithms 1 and 2); and DPM-Solver++ (Lu et
al. 2022, arXiv:2211.01095), multistep: one evaluation a step.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.samplers.sampler import Denoise, Sampler, Step, steps_of
from wavediff.diffusion.schedules import Schedule, expand, predict_noise
from wavediff.errors import SamplingError

MAX_CHURN = math.sqrt(2) - 1  # Algorithm 2: more noise than the signal has is never added


@dataclass(frozen=True)
class Heun(Sampler):
    """Second order with two evaluations a step, the last step with one.

    Steps are taken in y = x / alpha and rho = sigma / alpha, which are EDM's x and sigma. From pure noise, where
    alpha = 0 and rho is infinite, the first step is Euler's.

    Attributes:
        churn: gamma of Algorithm 2, in [0, sqrt(2) - 1]: before each step rho is raised to (1 + gamma) rho by fresh
            noise, though never above the noise that sampling started with. 0 is Algorithm 1, deterministic.
        noise_scale: S_noise, deviation of the fresh noise, in [0.5, 1.5].
    """

    churn: float = 0.0
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= MAX_CHURN + 1e-9:
            raise SamplingError(f"sampler: heun's churn {self.churn} is outside [0, sqrt(2) - 1]")
        if not 0.5 <= self.noise_scale <= 1.5:
            raise SamplingError(f"sampler: heun's noise_scale {self.noise_scale} is outside [0.5, 1.5]")

    def evaluations(self, num_steps: int) -> int:
        """Two a step, but one for the last."""
        return 2 * num_steps - 1

    def steps(self, evaluations: int) -> int:
        """The inverse."""
        return (evaluations + 1) // 2

    def states(self, denoise: Denoise, x_T: Tensor, schedule: Schedule, grid: Tensor, noise: Noise) -> Iterator[Tensor]:
        """See `Sampler`."""
        x, most = x_T, None
        for step in steps_of(schedule, grid, x):
            most = step if most is None else most
            if self.churn > 0 and step.number > 0:
                x, step = self._churned(x, step, most, schedule, noise)
            x_0 = denoise(x, step.t)
            slope = predict_noise(x_0, x, step.alpha_t, step.sigma_t)  # d_i = dy / d rho = (y - x_0) / rho
            euler = expand(step.alpha_s, x) * x_0 + expand(step.sigma_s, x) * slope  # line 5 of Algorithm 1
            if step.to_data or step.from_noise:
                x = euler
            else:
                other = predict_noise(denoise(euler, step.s), euler, step.alpha_s, step.sigma_s)  # d_i'
                # y_s = y_t + (rho_s - rho_t) (d_i + d_i') / 2, line 8
                change = step.alpha_s * (step.sigma_s / step.alpha_s - step.sigma_t / step.alpha_t)
                x = expand(step.alpha_s / step.alpha_t, x) * x + expand(change / 2, x) * (slope + other)
            yield x

    def _churned(self, x: Tensor, step: Step, most: Step, schedule: Schedule, noise: Noise) -> tuple[Tensor, Step]:
        """Noise added to x_t, and the step from where it then is: lines 4 to 6 of Algorithm 2."""
        rho = step.sigma_t / step.alpha_t
        raised = torch.minimum(rho * (1 + self.churn), most.sigma_t / most.alpha_t)
        t = torch.minimum(schedule.time(-2 * raised.log()), most.t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        added = self.noise_scale * ((sigma / alpha) ** 2 - rho**2).clamp(min=0).sqrt()
        y = x / expand(step.alpha_t, x)
        y = torch.addcmul(y, expand(added, x), noise.normal(x.shape[1], x.dtype))
        return expand(alpha, x) * y, step._replace(t=t, alpha_t=alpha, sigma_t=sigma)


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
