"""A network that knows its schedule and what it predicts: x_t, t and a condition in, x_0 out."""

from torch import Tensor, nn

from wavediff.diffusion.predictions import Prediction, predict_x0
from wavediff.diffusion.schedules import DiscreteSchedule


class Denoiser(nn.Module):
    """Backbone, schedule and prediction kind in one.

    Args:
        backbone: (x_t (B, N), t (B,), prepared condition) -> prediction (B, N), with `prepare(cond)`.
        schedule: alpha(t) and sigma(t).
        prediction: what the backbone was trained to return.
    """

    def __init__(self, backbone: nn.Module, schedule: DiscreteSchedule, prediction: Prediction) -> None:
        super().__init__()
        self.backbone, self.schedule, self.prediction = backbone, schedule, prediction

    def x0_from(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean estimate (B, N) that the network's `output` at (x_t, t) stands for."""
        return predict_x0(self.prediction, output, x_t, self.schedule.alpha(t), self.schedule.sigma(t))

    def forward(self, x_t: Tensor, t: Tensor, prepared: object) -> Tensor:
        """x_t (B, N) at times t (B,) -> estimate of x_0 (B, N)."""
        return self.x0_from(self.backbone(x_t, t, prepared), x_t, t)
