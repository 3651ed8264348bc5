"""Noise schedules: alpha(t) and sigma(t) on the time axis t = 0 (data) ... t = 1 (noise).

A schedule returns numbers and nothing else. Symbols of the DiffWave paper (Kong et al. 2021,
arXiv:2009.09761) beside ours:

    paper           here
    beta_t          betas[n - 1], the variance step n of 1 ... T adds
    alpha_bar_t     alpha(t)^2 at t = n / T
    gamma_s, eta_s  the betas of a short inference schedule (appendix B)
    t_s^align       T * t for the times `align` returns (steps count from 1)
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wavediff.errors import ConfigError, SamplingError

MAX_DISCRETE_STEPS = 10_000

# The published six-step schedules (section 5.1 and appendix B), named by the model that they were found for.
FAST_BETAS = {
    "base": (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5),
    "large": (0.0001, 0.001, 0.01, 0.05, 0.2, 0.7),
}


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Shape per-item values (B,) so that they broadcast over `like` (B, ...), in its dtype.

    The one place where time and its coefficients meet the batch: a (B,) tensor broadcast by hand over a
    (B, N) one goes wrong without an error whenever B equals N.
    """
    if values.shape != like.shape[:1]:
        raise ValueError(f"per-item values have shape {tuple(values.shape)}, the batch holds {like.shape[0]} items")
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


class Schedule(Protocol):
    """What samplers and objectives need to know of a process, x_t = alpha x_0 + sigma noise."""

    def alpha(self, t: Tensor) -> Tensor:
        """Signal share at times t (B,); float64."""

    def sigma(self, t: Tensor) -> Tensor:
        """Noise share at times t (B,); float64."""

    def spaced_grid(self, num_steps: int, start: float = 1.0) -> Tensor:
        """(num_steps + 1,) descending times from `start` to 0."""


@dataclass(frozen=True)
class CosineSchedule:
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): continuous, and pure noise at t = 1.

    Attributes:
        offset: s >= 0 of the source, which keeps noise levels near t = 0 closer together.

    Source: Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17, whose f is our alpha's square, for every real t.
    """

    offset: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.offset < 1:
            raise ConfigError(f"schedule.offset: {self.offset} is outside [0, 1)")

    def alpha(self, t: Tensor) -> Tensor:
        """Signal share at times t (B,); float64, exactly 0 at t = 1."""
        left = (1 - t.double()) / (1 + self.offset)
        return torch.sin(math.pi / 2 * left) / math.cos(math.pi / 2 * self.offset / (1 + self.offset))

    def sigma(self, t: Tensor) -> Tensor:
        """Noise share at times t (B,); float64."""
        if self.offset == 0:  # where the root below would cancel
            return torch.sin(math.pi / 2 * t.double())
        return (1 - self.alpha(t) ** 2).clamp(min=0).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2) at times t (B,); float64."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def spaced_grid(self, num_steps: int, start: float = 1.0) -> Tensor:
        """(num_steps + 1,) times, evenly spaced from `start` to 0.

        Raises:
            SamplingError: `num_steps` outside 1 ... 10,000.
        """
        _check_num_steps(num_steps, MAX_DISCRETE_STEPS)
        return torch.linspace(start, 0, num_steps + 1, dtype=torch.float64)


@dataclass(frozen=True)
class DiscreteSchedule:
    """DiffWave's T discrete steps as the points t = n / T, n = 1 ... T, of the continuous time axis.

    Between the points alpha(t) is linear in t. That is the published fractional alignment: a short
    schedule's noise levels then lie exactly on the curve, at the fractional steps that the network is
    given. alpha(0) = 1: clean data; levels between t = 0 and the first step were never trained.

    Attributes:
        num_steps: T.
        beta_min, beta_max: ends of the linear beta table, each in (0, 1).

    Source: DiffWave, sections 2 and 5.1: T = 50, 1e-4 to 0.05 (BASE); T = 200, 1e-4 to 0.02 (LARGE and
    unconditional).
    """

    num_steps: int = 50
    beta_min: float = 1e-4
    beta_max: float = 0.05

    def __post_init__(self) -> None:
        if not 2 <= self.num_steps <= MAX_DISCRETE_STEPS:
            raise ConfigError(f"schedule.num_steps: {self.num_steps} is outside 2 to {MAX_DISCRETE_STEPS}")
        if not 0 < self.beta_min <= self.beta_max < 1:
            raise ConfigError(
                f"schedule: need 0 < beta_min <= beta_max < 1, got beta_min={self.beta_min}, beta_max={self.beta_max}"
            )

    @functools.cached_property
    def _alphas(self) -> Tensor:
        """(T + 1,) float64, alpha at steps 0 ... T."""
        alpha_bar = torch.cumprod(1 - self.betas, dim=0)
        return torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar.sqrt()])

    @property
    def betas(self) -> Tensor:
        """(T,) float64: the variance that each training step adds."""
        return torch.linspace(self.beta_min, self.beta_max, self.num_steps, dtype=torch.float64)

    @property
    def fast_betas(self) -> tuple[float, ...]:
        """The published six steps for this training schedule.

        Raises:
            SamplingError: none was published for it.
        """
        for name, num_steps, beta_max in (("base", 50, 0.05), ("large", 200, 0.02)):
            if (self.num_steps, self.beta_min, self.beta_max) == (num_steps, 1e-4, beta_max):
                return FAST_BETAS[name]
        raise SamplingError(
            f"schedule: no fast schedule was published for T = {self.num_steps}, beta {self.beta_min:g} to "
            f"{self.beta_max:g}; give num_steps, 'full' or betas"
        )

    @property
    def t_min(self) -> float:
        """The lowest trained time, 1 / T."""
        return 1 / self.num_steps

    def alpha(self, t: Tensor) -> Tensor:
        """Signal share sqrt(alpha_bar) at times t (B,) in [0, 1]; float64, since 1 - alpha^2 cancels."""
        step = t.double() * self.num_steps
        low = step.floor().clamp(0, self.num_steps - 1).long()
        table = self._alphas.to(t.device)
        return torch.lerp(table[low], table[low + 1], step - low)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise share sqrt(1 - alpha_bar) at times t (B,); float64."""
        return (1 - self.alpha(t) ** 2).clamp(min=0).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2) at times t (B,); float64."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def full_grid(self) -> Tensor:
        """(T + 1,) descending times of all training steps, ending in 0."""
        return torch.arange(self.num_steps, -1, -1, dtype=torch.float64) / self.num_steps

    def spaced_grid(self, num_steps: int, start: float = 1.0) -> Tensor:
        """(num_steps + 1,) descending times, quadratically denser towards the data, ending in 0.

        `num_steps` = T gives the training steps themselves. Otherwise the fractional steps run from T `start` to 1.

        Raises:
            SamplingError: `num_steps` outside 1 ... T.
        """
        _check_num_steps(num_steps, self.num_steps)
        if num_steps == self.num_steps and start == 1:
            return self.full_grid()
        root = torch.linspace(math.sqrt(start), math.sqrt(self.t_min), num_steps, dtype=torch.float64)
        return torch.cat([root**2, torch.zeros(1, dtype=torch.float64)])

    def align(self, betas: Sequence[float]) -> Tensor:
        """Descending times (S + 1,), ending in 0, at which training had the noise of a short schedule.

        Every step of `betas` (S,) is kept. The paper's fractional alignment, appendix B: t_s lies where
        sqrt(alpha_bar) of training, taken as linear between steps, equals that of the short schedule.

        Args:
            betas: ascending variances, each in (0, 1), first the last step before the data.

        Raises:
            SamplingError: empty, not finite, outside (0, 1), descending, longer than T, or with a noise level
                that was not trained.
        """
        _check_betas(betas)
        _check_num_steps(len(betas), self.num_steps)
        alphas = torch.cumprod(1 - torch.tensor(list(betas), dtype=torch.float64), dim=0).sqrt()
        table = self._alphas[1:]
        # Noise levels are compared by their distance to 1: alpha itself hides a missing 1e-4 in its last digits.
        tolerance = 1e-6
        for index, alpha in enumerate(alphas.tolist()):
            noise, least, most = 1 - alpha, 1 - table[0].item(), 1 - table[-1].item()
            if noise < least * (1 - tolerance) or noise > most * (1 + tolerance):
                raise SamplingError(
                    f"schedule: step {index + 1} of {len(betas)} (beta {betas[index]:g}) has noise level alpha_bar "
                    f"{alpha**2:.6g}, the model was trained on {table[0].item() ** 2:.6g} down to "
                    f"{table[-1].item() ** 2:.6g}; choose betas inside that range"
                )
        alphas = alphas.clamp(table[-1], table[0])
        high = torch.searchsorted(-table, -alphas).clamp(1, self.num_steps - 1)  # table[high] <= alpha
        share = (table[high - 1] - alphas) / (table[high - 1] - table[high])
        steps = high + share  # table[high - 1] belongs to step `high`
        return torch.cat([steps.flip(0) / self.num_steps, torch.zeros(1, dtype=torch.float64)])


def _check_num_steps(num_steps: int, most: int) -> None:
    if not isinstance(num_steps, int) or isinstance(num_steps, bool) or not 1 <= num_steps <= most:
        raise SamplingError(f"num_steps: {num_steps!r} is not a whole number from 1 to {most}")


def _check_betas(betas: Sequence[float]) -> None:
    if len(betas) == 0:
        raise SamplingError("schedule: is empty; give ascending betas such as 0.0001,0.001,0.01,0.05,0.2,0.5")
    if not all(isinstance(beta, int | float) and math.isfinite(beta) and 0 < beta < 1 for beta in betas):
        raise SamplingError(f"schedule: {list(betas)} holds a beta that is not a number inside (0, 1)")
    if any(later < earlier for earlier, later in itertools.pairwise(betas)):
        raise SamplingError(f"schedule: {list(betas)} is not ascending; sort the betas")
