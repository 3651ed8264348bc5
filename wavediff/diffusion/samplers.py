"""Samplers: from noise to data along a grid of times. One signature for all.

A sampler is a frozen dataclass, called with

    denoise(x_t (B, N), t (B,)) -> x_0 estimate (B, N)
    x_T (B, N), the state at the first time of the grid
    schedule, which gives alpha(t) and sigma(t)
    grid (S + 1,), descending times from 1 or below to 0
    noise, from which fresh noise is drawn item by item

and returns x_0 (B, N). It knows nothing of networks or guidance and never clamps the noisy state. Each class has
`step`, or the generator `states`, which yields x after each step; and `evaluations(S)`, how often it calls `denoise`,
with its inverse `steps`, if not S times. It must be linear in x_T, in the noise and in the estimates: then numbers
stand for it.

Of first order: DDPM (Ho et al. 2020), DDIM (Song et al. 2021, arXiv:2010.02502), and Euler's method on the
probability-flow ODE, which is the sampler of flow matching and rectified flow. Of second order: Heun's method and the
churn of EDM (Karras et al. 2022, arXiv:2206.00364, Algorithms 1 and 2); and DPM-Solver++ (Lu et al. 2022,
arXiv:2211.01095), multistep: one evaluation a step.
"""

import math
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
