"""Noise schedules, alpha(t) and sigma(t) on the time axis t = 0 (data) ... t = 1 (noise); and what networks predict.

A schedule returns numbers and nothing else. Here is what all have in common, and those of continuous time;
`wavediff.diffusion.discrete` has DiffWave's. Where samplers step on the axis is in `wavediff.diffusion.grids`.

    x_t      = alpha x_0 + sigma noise        (the forward process)
    v        = alpha noise - sigma x_0        (Salimans and Ho 2022, arXiv:2202.00512, appendix D)
    velocity = noise - x_0                    (Liu et al. 2023, arXiv:2209.03003, eq. 1, in our direction of time)

Where predictions are converted, `alpha` and `sigma` come per item, shape (B,); signals have shape (B, N).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from wavediff.diffusion.noise import ItemNoise
from wavediff.errors import ConfigError

MAX_DISCRETE_STEPS = 10_000
CONTINUOUS_END = 0.01  # the last time before the data, of a continuous schedule if the spacing is not linear


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Shape per-item values (B,) so that they broadcast over `like` (B, ...), in its dtype.

    The one place where time and its coefficients meet the batch: a (B,) tensor broadcast by hand over a
    (B, N) one goes wrong without an error whenever B equals N.
    """
    if values.shape != like.shape[:1]:
        raise ValueError(f"per-item values have shape {tuple(values.shape)}, the batch holds {like.shape[0]} items")
    return values.to(like.dtype).to(like.device).reshape(-1, *[1] * (like.ndim - 1))


class Schedule(ABC):
    """What samplers and objectives need to know of a process, x_t = alpha x_0 + sigma noise.

    A schedule is a value: equal ones have equal hashes, as those of frozen dataclasses have.
    """

    @property
    @abstractmethod
    def trained_steps(self) -> int | None:
        """T of a process of discrete steps; None of a continuous one."""

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """The longest grid."""

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The lowest trained time."""

    @property
    @abstractmethod
    def beta_min(self) -> float:
        """The variance that the first trained step adds, 0 where there are no steps."""

    @property
    @abstractmethod
    def default_sampler(self) -> str:
        """The sampler where none is named, as `make_sampler` takes it."""

    @property
    @abstractmethod
    def default_spacing(self) -> str:
        """The spacing of a grid where none is named."""

    @property
    @abstractmethod
    def default_steps(self) -> int:
        """How many steps a vocoder takes where no number is given."""

    @property
    @abstractmethod
    def fast_betas(self) -> tuple[float, ...] | None:
        """The short inference schedule that was published for this one; None if there is none."""

    @abstractmethod
    def last_time(self, step: float, spacing: str) -> float:
        """The last time of a grid before the data, where none is named; `step` is one of an even grid."""

    @abstractmethod
    def training_times(self, noise: ItemNoise) -> Tensor:
        """Times (B,) in (0, 1] to train at, each with the same chance."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal share at times t (B,); float64."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise share at times t (B,); float64."""

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2) at times t (B,); float64, falling with t."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`; what lies beyond the axis becomes its end."""

    @abstractmethod
    def time_of_alpha_bar(self, alpha_bar: Tensor) -> Tensor:
        """The trained time with that alpha^2 (B,); float64."""

    @abstractmethod
    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt at times t (B,) > 0; float64."""


class _Continuous(Schedule):
    """What schedules share that are defined at every real time."""

    trained_steps = None
    most_steps = MAX_DISCRETE_STEPS
    t_min = beta_min = 0.0
    default_spacing = "linear"
    default_sampler, default_steps = "ddim", 2  # no noise on the way: few steps are enough
    fast_betas = None  # published for discrete steps alone

    def last_time(self, step: float, spacing: str) -> float:
        """One step of a linear spacing."""
        return step if spacing == "linear" else min(CONTINUOUS_END, step)

    def training_times(self, noise: ItemNoise) -> Tensor:
        """Times (B,), uniform in (0, 1]."""
        return 1 - noise.uniform()

    def time_of_alpha_bar(self, alpha_bar: Tensor) -> Tensor:
        """The time with that alpha^2 (B,); float64."""
        return self.time(torch.logit(alpha_bar))


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
        return slope, sigma_slope(self.alpha(t), self.sigma(t), slope)


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
        ones = torch.ones_like(t, dtype=torch.float64)
        return -ones, ones


def sigma_slope(alpha: Tensor, sigma: Tensor, alpha_slope: Tensor) -> Tensor:
    """d sigma / dt where alpha^2 + sigma^2 = 1."""
    return -alpha * alpha_slope / sigma


Prediction = Literal["eps", "x0", "v", "velocity"]
PREDICTIONS: tuple[str, ...] = get_args(Prediction)


def training_target(kind: Prediction, x_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a perfect network of this kind would return, (B, N)."""
    if kind == "eps":
        return noise
    if kind == "x0":
        return x_0
    if kind == "velocity":
        return noise - x_0
    return expand(alpha, x_0) * noise - expand(sigma, x_0) * x_0


def predict_x0(kind: Prediction, output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The clean signal (B, N) that a network output of this kind implies; for "eps", alpha > 0."""
    if kind == "eps":
        return (x_t - expand(sigma, x_t) * output) / expand(alpha, x_t)
    if kind == "x0":
        return output
    if kind == "velocity":
        # x_t = alpha x_0 + sigma (velocity + x_0)
        return (x_t - expand(sigma, x_t) * output) / expand(alpha + sigma, x_t)
    power = alpha**2 + sigma**2  # 1 where the process preserves variance
    return expand(alpha / power, x_t) * x_t - expand(sigma / power, x_t) * output


def predict_noise(x_0: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The noise (B, N) that a clean estimate implies; sigma > 0."""
    return (x_t - expand(alpha, x_t) * x_0) / expand(sigma, x_t)
