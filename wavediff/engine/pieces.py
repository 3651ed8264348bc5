"""One evaluation of a network, piece by piece, so that activations stay in the processor's cache."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wavediff.backbones.conditioning import Condition
from wavediff.engine.gradients import without_gradients
from wavediff.engine.registry import STREAMS


class Pieces:
    """Evaluates a network that has a streaming twin, without gradients; equal to it within rounding.

    Evaluated whole, a layer's activations (56 MB for five seconds of BASE) leave the cache between any two operations
    and their pages are faulted in anew each time.

    Args:
        network: whose weights are read at each call, so a later change of them counts.
        dtype: of the layers' products, where the twin takes one.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.dtype = network, dtype
        self._kind = STREAMS[type(network)]

    @without_gradients()
    def prepare(self, cond: Condition) -> Any:
        """The work that no diffusion step changes, where it is not cheaper to repeat it than to remember it."""
        return self._kind.prepare(self.network, cond)

    @without_gradients()
    def __call__(self, x_t: Tensor, t: Tensor, prepared: Any) -> Tensor:
        """(B, N) at times t (B,) -> prediction (B, N)."""
        streams = self._kind(self.network, dtype=self.dtype)
        evaluation = streams.evaluation(t)
        streams.condition([prepared], last=True)
        result, done = torch.empty_like(x_t), 0
        for piece, last in _pieces(x_t, self._kind.piece(self.network, len(x_t))):
            part = evaluation.push(piece, last)
            if part is not None:
                result[:, done : done + part.shape[1]] = part
                done += part.shape[1]
        return result


def _pieces(signal: Tensor, size: int) -> Iterator[tuple[Tensor, bool]]:
    for start in range(0, signal.shape[1], size):
        yield signal[:, start : start + size], start + size >= signal.shape[1]
