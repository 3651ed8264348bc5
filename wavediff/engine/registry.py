"""Which networks have fused layers on a GPU; and how a network is evaluated: by these, by its twin on pieces of signals
(`wavediff.engine.streaming`), or as it is on whole signals.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wavediff.backbones.conditioning import Condition
from wavediff.backbones.diffwave import DiffWave
from wavediff.engine.precision import warn_if_slow_in_bfloat16, without_gradients
from wavediff.engine.streaming import STREAMS, streams_of
from wavediff.engine.triton_diffwave import TritonDiffWave, available, supports

# How fused layers are made, and whether they are for a network of that shape.
FUSED: dict[type[nn.Module], tuple[Callable[..., Any], Callable[[Any], bool]]] = {DiffWave: (TritonDiffWave, supports)}


def fused_of(network: nn.Module) -> Callable[..., Any] | None:
    """What computes the network with fused layers, made of it and a dtype; None if nothing does."""
    make, fits = FUSED.get(type(network), (None, bool))
    return make if make is not None and fits(network) else None


def accelerate(backbone: nn.Module, dtype: torch.dtype = torch.float32, fused: bool = False) -> Any:
    """A fast way to evaluate `backbone` on the device it is on: an object with its `prepare` and call.

    Args:
        backbone: the network.
        dtype: of the matrix products in the layers; a UserWarning where bfloat16 only costs time, or where nothing on
            that device takes it.
        fused: on a GPU, DiffWave's layers as one Triton kernel each where that is possible.
    """
    device, streams = next(backbone.parameters()).device, streams_of(backbone)
    if dtype == torch.bfloat16 and streams is not None and streams.takes_dtype:
        warn_if_slow_in_bfloat16(device, "use float32 (--precision float32)")
    if device.type == "cpu":
        return backbone if streams is None else Pieces(backbone, dtype)
    layers = fused_of(backbone) if fused and available(device) else None
    if layers is not None:
        return layers(backbone, dtype)
    if dtype != torch.float32:
        what = "only the fused layers of a DiffWave take bfloat16 there (--fused)"
        warnings.warn(f"on {device.type} whole signals are computed in float32: {what}", stacklevel=3)
    return backbone


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
