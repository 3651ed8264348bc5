"""Noise schedules: alpha(t) and sigma(t) on the time axis t = 0 (data) ... t = 1 (noise).

A schedule returns numbers and nothing else. Symbols of the DiffWave paper (Kong et al. 2021,
arXiv:2009.09761) beside ours:

    paper           here
    beta_t          betas[n - 1], the variance step n of 1 ... T adds
    alpha_bar_t     alpha(t)^2 at t = n / T

Where samplers step on the axis is in `wavediff.diffusion.grids`.
"""

import functools
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wavediff.errors import ConfigError

MAX_DISCRETE_STEPS = 10_000

# DiffWave's six-step schedules (section 5.1 and appendix B), named by the model that they were found for.
FAST_BETAS = {
    "base": (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5),
    "large": (0.0001, 0.001, 0.01, 0.05, 0.2, 0.7),
}
# (T, beta_min, beta_max) of those models.
_FAST_OF = {(50, 1e-4, 0.05): "base", (200, 1e-4, 0.02): "large"}


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Shape per-item values (B,) so that they broadcast over `like` (B, ...), in its dtype.

    The one place where time and its coefficients meet the batch: a (B,) tensor broadcast by hand over a
    (B, N) one goes wrong without an error whenever B equals N.
    """
    if values.shape != like.shape[:1]:
        raise ValueError(f"per-item values have shape {tuple(values.shape)}, the batch holds {like.shape[0]} items")
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


class Schedule(Protocol):
    """What samplers and objectives need to know of a process, x_t = alpha x_0 + sigma noise.

    A schedule is a value: equal ones have equal hashes, as those of frozen dataclasses have.
    """

    def __hash__(self) -> int: ...

    @property
    def default_sampler(self) -> str:
        """The sampler where none is named, as `make_sampler` takes it."""

    @property
    def default_steps(self) -> int:
        """How many steps a vocoder takes where no number is given."""

    @property
    def fast_betas(self) -> tuple[float, ...] | None:
        """The short inference schedule that was published for this one; None if there is none."""

    def alpha(self, t: Tensor) -> Tensor:
        """Signal share at times t (B,); float64."""

    def sigma(self, t: Tensor) -> Tensor:
        """Noise share at times t (B,); float64."""

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2) at times t (B,); float64, falling with t."""

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`; what lies beyond the axis becomes its end."""

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt at times t (B,) > 0; float64."""


class _Continuous:
    """What schedules share that are defined at every real time."""

    @property
    def default_sampler(self) -> str:
        """No noise on the way: few steps are enough."""
        return "ddim"

    @property
    def default_steps(self) -> int:
        """Of a vocoder."""
        return 2

    @property
    def fast_betas(self) -> None:
        """Published for discrete steps alone."""
        return None

    def alpha(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2) at times t (B,); float64."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())


@dataclass(frozen=True)
class CosineSchedule(_Continuous):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): continuous, and pure noise at t = 1.

    Attributes:
        offset: s >= 0 of the source, which keeps noise levels near t = 0 closer together.

    Source: Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17, whose f is our alpha's square, for every real t.
    """

    offset: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.offset < 1:
            raise ConfigError(f"schedule.offset: {self.offset} is outside [0, 1)")

    @property
    def _alpha_0(self) -> float:
        return math.cos(math.pi / 2 * self.offset / (1 + self.offset))

    def alpha(self, t: Tensor) -> Tensor:
        """Signal share at times t (B,); float64, exactly 0 at t = 1."""
        left = (1 - t.double()) / (1 + self.offset)
        return torch.sin(math.pi / 2 * left) / self._alpha_0

    def sigma(self, t: Tensor) -> Tensor:
        """Noise share at times t (B,); float64."""
        if self.offset == 0:  # where the root below would cancel
            return torch.sin(math.pi / 2 * t.double())
        return (1 - self.alpha(t) ** 2).clamp(min=0).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """The time of a log-SNR (B,), in [0, 1]; float64."""
        if self.offset == 0:  # tan(pi t / 2) = sigma / alpha
            return torch.atan(torch.exp(-log_snr.double() / 2)) * (2 / math.pi)
        left = torch.asin(torch.sigmoid(log_snr.double()).sqrt() * self._alpha_0) * (2 / math.pi)
        return (1 - left * (1 + self.offset)).clamp(0, 1)

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt at times t (B,) > 0; float64."""
        left = (1 - t.double()) / (1 + self.offset)
        slope = -torch.cos(math.pi / 2 * left) * (math.pi / 2 / (1 + self.offset) / self._alpha_0)
        return slope, _sigma_slope(self.alpha(t), self.sigma(t), slope)


@dataclass(frozen=True)
class FlowSchedule(_Continuous):
    """alpha = 1 - t, sigma = t: the straight paths of rectified flow and of flow matching.

    Source: Liu et al. 2023, arXiv 2209.03003, eq. 1, and Lipman et al. 2023, arXiv 2210.02747
    (optimal-transport paths with sigma_min = 0); their time runs from noise to data.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Signal share at times t (B,); float64, exactly 0 at t = 1."""
        return 1 - t.double()

    def sigma(self, t: Tensor) -> Tensor:
        """Noise share at times t (B,); float64."""
        return t.double()

    def time(self, log_snr: Tensor) -> Tensor:
        """The time of a log-SNR (B,), in [0, 1]; float64."""
        return torch.sigmoid(-log_snr.double() / 2)  # sigma / alpha = t / (1 - t)

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt at times t (B,); float64."""
        ones = torch.ones_like(t, dtype=torch.float64, device="cpu")
        return -ones, ones


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
        return torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), alpha_bar.sqrt()])

    @property
    def default_sampler(self) -> str:
        """DiffWave's own."""
        return "ddpm"

    @property
    def default_steps(self) -> int:
        """As many as the published schedules have, or T if that is less."""
        return min(6, self.num_steps)

    @property
    def fast_betas(self) -> tuple[float, ...] | None:
        """The six-step schedule of DiffWave for this T and these betas; None if none was published."""
        name = _FAST_OF.get((self.num_steps, self.beta_min, self.beta_max))
        return None if name is None else FAST_BETAS[name]

    @property
    def betas(self) -> Tensor:
        """(T,) float64: the variance that each training step adds."""
        return torch.linspace(self.beta_min, self.beta_max, self.num_steps, dtype=torch.float64, device="cpu")

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

    def time(self, log_snr: Tensor) -> Tensor:
        """The time of a log-SNR (B,), in [0, 1] and fractional between the training steps; float64."""
        return self.time_of_alpha(torch.sigmoid(log_snr.double()).sqrt())

    def time_of_alpha(self, alpha: Tensor) -> Tensor:
        """The time in [0, 1] with that signal share (B,); float64."""
        table = self._alphas.to(alpha.device)
        alpha = alpha.double().clamp(table[-1], table[0])
        high = torch.searchsorted(-table, -alpha).clamp(1, self.num_steps)  # table[high] <= alpha
        share = (table[high - 1] - alpha) / (table[high - 1] - table[high])
        return (high - 1 + share) / self.num_steps

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt at times t (B,) > 0, at a training step those of the side of the data."""
        step = t.double() * self.num_steps
        high = (step - 1e-9).ceil().clamp(1, self.num_steps).long()  # n / T * T may exceed n
        table = self._alphas.to(t.device)
        slope = (table[high] - table[high - 1]) * self.num_steps
        return slope, _sigma_slope(self.alpha(t), self.sigma(t), slope)


def _sigma_slope(alpha: Tensor, sigma: Tensor, alpha_slope: Tensor) -> Tensor:
    """d sigma / dt where alpha^2 + sigma^2 = 1."""
    return -alpha * alpha_slope / sigma
