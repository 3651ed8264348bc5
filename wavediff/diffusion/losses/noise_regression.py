"""The regression of noise, or of another target, at one random time for each item."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from wavediff.diffusion.noise import ItemNoise
from wavediff.diffusion.schedules import Prediction, Schedule, expand, training_target


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
