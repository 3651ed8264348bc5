"""The regression of noise, or of another target, at one random time for each item."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wavediff.diffusion.noise import ItemNoise
from wavediff.diffusion.predictions import Prediction, training_target
from wavediff.diffusion.schedules import Schedule, expand


class Loss(NamedTuple):
    """`mean` (scalar) is what the optimiser sees; `per_item` (B,) and `t` (B,) are for reports."""

    mean: Tensor
    per_item: Tensor
    t: Tensor


@dataclass(frozen=True)
class NoiseRegression:
    """DiffWave, Algorithm 1: draw a step and noise for each item, regress the network onto the target.

    Attributes:
        norm: "l2" is the paper's loss, eq. 7; "l1" is what several implementations train instead.
    """

    norm: Literal["l2", "l1"] = "l2"

    def __call__(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        x_0: Tensor,
        lengths: Tensor,
        noise: ItemNoise,
        schedule: Schedule,
        prediction: Prediction,
        t: Tensor | None = None,
    ) -> Loss:
        """The loss of one batch.

        Args:
            predict: (x_t (B, N), t (B,)) -> network output (B, N).
            x_0: waveform (B, N).
            lengths: valid samples of each item (B,), 1 to N; what lies behind is padding and does not count.
            noise: of the batch's items: an item's loss does not depend on its neighbours.
            t: times (B,) in (0, 1]; drawn uniformly from the training steps, or from all of a continuous schedule.
        """
        if t is None:
            t = schedule.training_times(noise)
        t = t.to(x_0.device)
        eps = noise.normal(x_0.shape[1]).to(x_0.device)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x_t = expand(alpha, x_0) * x_0 + expand(sigma, x_0) * eps
        error = predict(x_t, t).float() - training_target(prediction, x_0, eps, alpha, sigma)
        error = error.abs() if self.norm == "l1" else error.square()
        valid = torch.arange(x_0.shape[1], device=x_0.device) < lengths[:, None]
        # The mean over items of each one's mean: the same whether one process or several share a batch.
        per_item = torch.where(valid, error, 0.0).sum(1) / lengths
        return Loss(per_item.mean(), per_item.detach(), t)
