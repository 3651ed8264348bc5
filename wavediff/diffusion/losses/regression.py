"""Two regressions: of noise, or of another target, at one random time for each item; and of the clean signal.

The second trains for few steps: the signal is estimated from any noise level, and judged by its spectrum.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from wavediff.arguments import check_bounds
from wavediff.diffusion.noise import ItemNoise
from wavediff.diffusion.priors import MAX_PHASE_ITERATIONS
from wavediff.diffusion.schedules import Prediction, Schedule, expand, predict_noise, training_target
from wavediff.errors import ConfigError


class Loss(NamedTuple):
    """`mean` (scalar) is what the optimiser sees; `per_item` (B,) and `t` (B,) are for reports."""

    mean: Tensor
    per_item: Tensor
    t: Tensor


class Process(Protocol):
    """A denoiser bound to the batch's condition; signals are (B, N), times (B,)."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def prediction(self) -> Prediction: ...

    def predict(self, x_t: Tensor, t: Tensor) -> Tensor: ...

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor: ...

    def noise(self, white: Tensor) -> Tensor: ...

    def guess(self, white: Tensor, iterations: int | None = None, low_latency: bool = False) -> Tensor: ...

    def whitened(self, signal: Tensor) -> Tensor: ...


class Distance(Protocol):
    """Compares estimates (B, N) with waveforms (B, N): (B,), at all resolutions or at one of them."""

    resolutions: int  # how many there are

    def __call__(self, estimate: Tensor, reference: Tensor, resolution: int | None = None) -> Tensor: ...


class Objective(ABC):
    """What training minimises."""

    @abstractmethod
    def __call__(
        self, process: Process, x_0: Tensor, lengths: Tensor, noise: ItemNoise, distance: Distance | None = None
    ) -> Loss:
        """The loss of one batch.

        Args:
            process: the denoiser under training.
            x_0: waveform (B, N).
            lengths: valid samples of each item (B,), 1 to N; what lies behind is padding and does not count.
            noise: of the batch's items: an item's loss does not depend on its neighbours.
            distance: of estimates from x_0, at one of its resolutions; not every objective needs one.
        """


@dataclass(frozen=True)
class NoiseRegression(Objective):
    """DiffWave, Algorithm 1: draw a step and noise for each item, regress the network onto the target.

    Where a prior shapes the noise, the error is measured where that noise is white (PriorGrad, Lee et al. 2022,
    arXiv 2106.06406, eq. 5).

    Attributes:
        norm: "l2" is the paper's loss, eq. 7; "l1" is what several implementations train instead.
    """

    norm: Literal["l2", "l1"] = "l2"

    def __call__(
        self,
        process: Process,
        x_0: Tensor,
        lengths: Tensor,
        noise: ItemNoise,
        distance: Distance | None = None,
        t: Tensor | None = None,
    ) -> Loss:
        """The loss of one batch.

        Args:
            process, x_0, lengths, noise: see `Objective`.
            distance: not needed here.
            t: times (B,) in (0, 1]; drawn uniformly from the training steps, or from all of a continuous schedule.
        """
        if t is None:
            t = process.schedule.training_times(noise)
        t = t.to(x_0.device, non_blocking=True)
        eps = process.noise(noise.normal(x_0.shape[1]).to(x_0.device))
        alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
        x_t = expand(alpha, x_0) * x_0 + expand(sigma, x_0) * eps
        target = training_target(process.prediction, x_0, eps, alpha, sigma)
        error = process.whitened(process.predict(x_t, t).float() - target).abs()
        # The mean over items of each one's mean: the same whether one process or several share a batch.
        per_item = item_means(error if self.norm == "l1" else error.square(), lengths, x_0.shape[1])
        return Loss(per_item.mean(), per_item.detach(), t)


def item_means(values: Tensor, lengths: Tensor, length: int) -> Tensor:
    """The mean of each item's values that hold no padding.

    Args:
        values: (B, N) of samples, or (B, frames, bins).
        lengths: valid samples of each item (B,).
        length: N; there are as many samples to a frame in each item.

    Returns:
        (B,)
    """
    if values.ndim == 3:
        hop = length // values.shape[1]
        lengths, values = (lengths + hop - 1) // hop, values.mean(2)
    valid = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
    return torch.where(valid, values, 0.0).sum(1) / valid.sum(1)


LEAST_SIGMA = 0.02  # in the division that recovers the noise of a step


@dataclass(frozen=True)
class SignalRegression(Objective):
    """Two kinds of items, in one batch.

    Diffusion items start from x_0: x_t = alpha x_0 + sigma n. The error of the estimate is measured where the noise
    is white, over sigma: with the v parametrisation that is the regression onto v, which is EDM's preconditioning
    (Karras et al. 2022, arXiv 2206.00364, table 1) for data of unit variance. Its divisor, the envelope, is the local
    energy by which Flow2GAN and RFWave scale their losses. The spectral loss of the estimate is added (WaveFM).

    Guess items start as sampling does: from the guess that the prior makes from the mel, noised to a low time. The
    phase of a guess is not that of x_0, so only the spectral loss applies. In a part of the batches their estimate is
    noised again to a lower time, as the second step of sampling would see it.

    Attributes:
        spectral_weight: of the spectral loss over the regression.
        guess_share: of the batch that starts from guesses.
        guess_time, least_guess_time: the highest and the lowest time of guess items.
        phase_iterations, least_phase_iterations: the most and the fewest Griffin-Lim iterations of a training guess.
        second_step_share: of batches whose guess items are at their second step.
        low_latency_share: of batches whose guesses are those of streams with low latency.
    """

    spectral_weight: float = 1.0
    guess_share: float = 0.5
    guess_time: float = 0.7
    phase_iterations: int = 16
    second_step_share: float = 0.3
    least_guess_time: float = 0.0
    least_phase_iterations: int = 0
    low_latency_share: float = 0.0

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("guess_share", "guess_time", "second_step_share", "low_latency_share"), (0.0, 1.0))
        check_bounds(self, "objective", **shares, spectral_weight=(0.0, math.inf))
        check_bounds(self, "objective", phase_iterations=(0, MAX_PHASE_ITERATIONS))
        least = {"least_guess_time": (0.0, self.guess_time), "least_phase_iterations": (0, self.phase_iterations)}
        check_bounds(self, "objective", **least)

    def __call__(
        self, process: Process, x_0: Tensor, lengths: Tensor, noise: ItemNoise, distance: Distance | None = None
    ) -> Loss:
        """The loss of one batch.

        Args: see `Objective`.

        Raises:
            ConfigError: there is no distance.
        """
        if distance is None:
            raise ConfigError("objective: a signal regression needs a distance; give SpectralLoss or MelLoss")
        resolution = int(noise.uniform()[0] * distance.resolutions)
        x_t, t, is_guess = self.noisy(process, x_0, noise)
        valid = torch.arange(x_0.shape[1], device=x_0.device) < lengths[:, None]
        estimate = process(x_t, t).float()
        per_item = self.spectral_weight * distance(estimate * valid, x_0 * valid, resolution)
        if self._guesses(len(x_0)) < len(x_0):
            # x_0 estimate - x_0 = -sigma (v estimate - v)
            error = (estimate - x_0) / expand(process.schedule.sigma(t), x_0).clamp(min=LEAST_SIGMA)
            squares = item_means(process.whitened(error).abs().square(), lengths, x_0.shape[1])
            per_item = per_item + torch.where(is_guess, 0.0, squares)
        return Loss(per_item.mean(), per_item.detach(), t)

    def _guesses(self, batch: int) -> int:
        return round(self.guess_share * batch)

    @torch.no_grad()
    def noisy(self, process: Process, x_0: Tensor, noise: ItemNoise) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is shown of a batch.

        Args:
            process, x_0, noise: as in a call.

        Returns:
            x_t (B, N), its times (B,), and which items (B,) started from a guess.
        """
        (batch, length), schedule = x_0.shape, process.schedule
        guesses = self._guesses(batch)
        # One choice a batch, made by its first item.
        choices = self.phase_iterations - self.least_phase_iterations + 1
        iterations = self.least_phase_iterations + int(noise.uniform()[0] * choices)
        second_step = bool(noise.uniform()[0] < self.second_step_share)
        low_latency = self.low_latency_share > 0 and bool(noise.uniform()[0] < self.low_latency_share)
        t = noise.uniform().to(x_0.device, non_blocking=True)
        is_guess = torch.arange(batch, device=x_0.device) < guesses
        t = torch.where(is_guess, self.least_guess_time + (self.guess_time - self.least_guess_time) * t, t)
        eps = process.noise(noise.normal(length).to(x_0.device))
        base = x_0
        if guesses:
            white = noise.normal(length)[:guesses].to(x_0.device)
            base = torch.cat([process.guess(white, iterations, low_latency), x_0[guesses:]])
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x_t = expand(alpha, x_0) * base + expand(sigma, x_0) * eps
        if guesses and second_step:
            estimate = process(x_t, t)
            left = predict_noise(estimate, x_t, alpha, sigma.clamp(min=LEAST_SIGMA))
            s = t * noise.uniform().to(x_0.device, non_blocking=True)
            again = expand(schedule.alpha(s), x_0) * estimate + expand(schedule.sigma(s), x_0) * left
            x_t = torch.where(is_guess[:, None], again, x_t)
            t = torch.where(is_guess, s, t)
        return x_t, t, is_guess
