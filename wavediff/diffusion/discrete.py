"""DiffWave's schedule of discrete steps.

Symbols of the paper (Kong et al. 2021, arXiv:2009.09761) beside ours:

    paper           here
    beta_t          betas[n - 1], the variance step n of 1 ... T adds
    alpha_bar_t     alpha(t)^2 at t = n / T
"""

import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wavediff.arguments import check_bounds
from wavediff.diffusion.noise import ItemNoise
from wavediff.diffusion.schedules import MAX_DISCRETE_STEPS, Schedule, sigma_slope
from wavediff.errors import ConfigError

# DiffWave's six-step schedules (section 5.1 and appendix B), named by the model that they were found for.
FAST_BETAS = {
    "base": (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5),
    "large": (0.0001, 0.001, 0.01, 0.05, 0.2, 0.7),
}
# (T, beta_min, beta_max) of those models.
_FAST_OF = {(50, 1e-4, 0.05): "base", (200, 1e-4, 0.02): "large"}


@dataclass(frozen=True)
class DiscreteSchedule(Schedule):
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

    default_sampler: ClassVar[str] = "ddpm"  # DiffWave's own
    default_spacing: ClassVar[str] = "quadratic"  # DDIM's

    num_steps: int = 50
    beta_min: float = 1e-4
    beta_max: float = 0.05

    def __post_init__(self) -> None:
        check_bounds(self, "schedule", num_steps=(2, MAX_DISCRETE_STEPS))
        if not 0 < self.beta_min <= self.beta_max < 1:
            raise ConfigError(
                f"schedule: need 0 < beta_min <= beta_max < 1, got beta_min={self.beta_min}, beta_max={self.beta_max}"
            )

    @property
    def trained_steps(self) -> int:
        """T."""
        return self.num_steps

    most_steps = trained_steps

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

    def last_time(self, step: float, spacing: str) -> float:
        """The lowest trained time, whatever the spacing."""
        return self.t_min

    def training_times(self, noise: ItemNoise) -> Tensor:
        """Times (B,) of the training steps."""
        return noise.integers(1, self.num_steps + 1).double() / self.num_steps

    def alpha(self, t: Tensor) -> Tensor:
        """Signal share sqrt(alpha_bar) at times t (B,) in [0, 1]; float64, since 1 - alpha^2 cancels."""
        step = t.double() * self.num_steps
        low = step.floor().clamp(0, self.num_steps - 1).long()
        table = _alphas(self, t.device)
        return torch.lerp(table[low], table[low + 1], step - low)

    def sigma(self, t: Tensor) -> Tensor:
        """Noise share sqrt(1 - alpha_bar) at times t (B,); float64."""
        return (1 - self.alpha(t) ** 2).clamp(min=0).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """The time of a log-SNR (B,), in [0, 1] and fractional between the training steps; float64."""
        return self.time_of_alpha(torch.sigmoid(log_snr.double()).sqrt())

    def time_of_alpha(self, alpha: Tensor) -> Tensor:
        """The time in [0, 1] with that signal share (B,); float64."""
        table = _alphas(self, alpha.device)
        alpha = alpha.double().clamp(table[-1], table[0])
        high = torch.searchsorted(-table, -alpha).clamp(1, self.num_steps)  # table[high] <= alpha
        share = (table[high - 1] - alpha) / (table[high - 1] - table[high])
        return (high - 1 + share) / self.num_steps

    def time_of_alpha_bar(self, alpha_bar: Tensor) -> Tensor:
        """The trained time with that alpha^2 (B,), fractional between the training steps; float64."""
        return self.time_of_alpha(alpha_bar.sqrt()).clamp(min=self.t_min)

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt at times t (B,) > 0, at a training step those of the side of the data."""
        step = t.double() * self.num_steps
        high = (step - 1e-9).ceil().clamp(1, self.num_steps).long()  # n / T * T may exceed n
        table = _alphas(self, t.device)
        slope = (table[high] - table[high - 1]) * self.num_steps
        return slope, sigma_slope(self.alpha(t), self.sigma(t), slope)


@functools.cache  # a copy to a GPU would wait for it in every evaluation; kept for good, because CUDA graphs read it
def _alphas(schedule: DiscreteSchedule, device: torch.device) -> Tensor:
    """(T + 1,) float64, alpha at steps 0 ... T."""
    with torch.inference_mode(False):
        alpha_bar = torch.cumprod(1 - schedule.betas, dim=0)
        return torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), alpha_bar.sqrt()]).to(device)
