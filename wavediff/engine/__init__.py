"""How fast the networks run: same weights, same output, less time."""

from typing import Any

import torch
from torch import nn

from wavediff.engine.graphed_walk import GraphedWalk
from wavediff.engine.pieces import Pieces
from wavediff.engine.precision import warn_if_slow_in_bfloat16
from wavediff.engine.registry import fused_of, streams_of
from wavediff.engine.streaming import StreamedVocoder, frames_at_once, look_ahead, twin_of
from wavediff.engine.triton_diffwave import available

__all__ = [
    "GraphedWalk",
    "Pieces",
    "StreamedVocoder",
    "accelerate",
    "frames_at_once",
    "look_ahead",
    "streams_of",
    "twin_of",
]


def accelerate(backbone: nn.Module, dtype: torch.dtype = torch.float32, fused: bool = False) -> Any:
    """A fast way to evaluate `backbone` on the device it is on: an object with its `prepare` and call.

    Args:
        backbone: the network.
        dtype: of the matrix products in DiffWave's layers; a UserWarning where bfloat16 only costs time.
        fused: on a GPU, DiffWave's layers as one Triton kernel each where that is possible.
    """
    device, streams = next(backbone.parameters()).device, streams_of(backbone)
    if dtype == torch.bfloat16 and streams is not None and streams.takes_dtype:
        warn_if_slow_in_bfloat16(device, "use float32 (--precision float32)")
    if device.type == "cpu":
        return backbone if streams is None else Pieces(backbone, dtype)
    layers = fused_of(backbone) if fused and available(device) else None
    return backbone if layers is None else layers(backbone, dtype)
