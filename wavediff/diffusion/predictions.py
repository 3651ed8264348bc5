"""What a network predicts, and every conversion between the forms.

    x_t      = alpha x_0 + sigma noise        (the forward process)
    v        = alpha noise - sigma x_0        (Salimans and Ho 2022, arXiv:2202.00512, appendix D)
    velocity = noise - x_0                    (Liu et al. 2023, arXiv:2209.03003, eq. 1, in our direction of time)

`alpha` and `sigma` come per item, shape (B,); signals have shape (B, N).
"""

from typing import Literal, get_args

from torch import Tensor

from wavediff.diffusion.schedules import expand

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
