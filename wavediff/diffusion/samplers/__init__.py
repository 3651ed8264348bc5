"""Samplers: from noise to data along a grid of times. One short file each, one signature.

A sampler is a frozen dataclass, called with

    denoise(x_t (B, N), t (B,)) -> x_0 estimate (B, N)
    x_T (B, N), the state at the first time of the grid
    schedule, which gives alpha(t) and sigma(t)
    grid (S + 1,), descending times from 1 or below to 0
    noise, from which fresh noise is drawn item by item
    on_step(index from 0, x_t), called after each step: progress bars, cancelling

and returns x_0 (B, N). It knows nothing of networks or guidance and never clamps the noisy state.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.samplers.ddim import DDIM
from wavediff.diffusion.samplers.ddpm import DDPM
from wavediff.diffusion.schedules import Schedule
from wavediff.errors import SamplingError


class Sampler(Protocol):
    """The signature above."""

    def __call__(
        self,
        denoise: Callable[[Tensor, Tensor], Tensor],
        x_T: Tensor,
        schedule: Schedule,
        grid: Tensor,
        noise: Noise,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor: ...


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
}


def make_sampler(name: str) -> Sampler:
    """The sampler of that name with its defaults.

    Raises:
        SamplingError: no sampler is called so.
    """
    if name not in SAMPLERS:
        raise SamplingError(f"sampler: {name!r} is unknown; choose from {', '.join(SAMPLERS)}")
    return SAMPLERS[name]()
