"""How fast the networks run: same weights, same output, less time."""

from typing import Any

import torch
from torch import nn

from wavediff.backbones.diffwave import DiffWave
from wavediff.backbones.spectral import SpectralNet
from wavediff.engine.graphed_network import GraphedNetwork
from wavediff.engine.pieces import Pieces
from wavediff.engine.precision import warn_if_slow_in_bfloat16
from wavediff.engine.streaming import StreamedVocoder, frames_at_once, look_ahead
from wavediff.engine.triton_diffwave import TritonDiffWave, available, supports

__all__ = ["Pieces", "StreamedVocoder", "accelerate", "frames_at_once", "look_ahead"]


def accelerate(backbone: nn.Module, dtype: torch.dtype = torch.float32, fused: bool = False) -> Any:
    """A fast way to evaluate `backbone` on the device it is on: an object with its `prepare` and call.

    Args:
        backbone: the network.
        dtype: of the matrix products in DiffWave's layers; a UserWarning where bfloat16 only costs time.
        fused: on a GPU, DiffWave's layers as one Triton kernel each where that is possible, and every network's
            evaluations as CUDA graphs.
    """
    device = next(backbone.parameters()).device
    if isinstance(backbone, DiffWave) and dtype == torch.bfloat16:
        warn_if_slow_in_bfloat16(device, "use float32 (--precision float32)")
    if device.type == "cpu":
        return Pieces(backbone, dtype) if isinstance(backbone, DiffWave | SpectralNet) else backbone
    if not fused:
        return backbone
    if isinstance(backbone, DiffWave) and available(device) and supports(backbone):
        return GraphedNetwork(TritonDiffWave(backbone, dtype))
    return GraphedNetwork(backbone)
