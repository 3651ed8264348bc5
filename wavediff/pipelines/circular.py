"""Sound without beginning and end: what makes loops seamless."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Circular:
    """An estimate for signals whose end continues into their beginning.

    The network is shown the signal with its other end joined on at both sides, and only the middle is kept, at each
    step. So it finds no edge where the loop closes.

    Attributes:
        estimate: (x_t (B, N), t (B,)) -> estimate of x_0 (B, N).
        margin: values of the signal that the network sees beyond either end.
    """

    estimate: Callable[[Tensor, Tensor], Tensor]
    margin: int

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, N) -> (B, N)"""
        return self.estimate(wrap(x_t, self.margin), t)[:, self.margin : self.margin + x_t.shape[1]]


def wrap(signal: Tensor, margin: int) -> Tensor:
    """(..., N) -> (..., N + 2 margin): repeated beyond both ends as often as it takes."""
    index = torch.arange(-margin, signal.shape[-1] + margin, device=signal.device) % signal.shape[-1]
    return signal[..., index]


def close_loop(wrapped: Tensor, start: int, length: int, overlap: int, power: float = 0.5) -> Tensor:
    """A loop (B, length) cut from a sound (B, N) that goes on beyond it.

    Its first samples cross-fade from those that follow its end.

    Args:
        wrapped: the sound.
        start: where the loop begins in it.
        length: of the loop; start + length + overlap is at most N.
        overlap: samples that the transition takes.
        power: of the weights: 0.5 for equal power, where the two have the same spectrum but phases of their own; 1 for
            equal amplitude, where they are nearly the same signal.
    """
    loop = wrapped[:, start : start + length].clone()
    overlap = min(overlap, length)
    angle = torch.linspace(0, torch.pi / 2, overlap + 2, dtype=torch.float32, device=wrapped.device)[1:-1]
    rising, falling = angle.sin() ** (2 * power), angle.cos() ** (2 * power)  # even the first step is small
    after = wrapped[:, start + length : start + length + overlap]
    loop[:, :overlap] = rising * loop[:, :overlap] + falling * after
    return loop
