"""How fast the networks run: same weights, same output, less time."""

from typing import Any

from torch import nn

from wavediff.backbones.diffwave import DiffWave
from wavediff.backbones.spectral import SpectralNet
from wavediff.engine.pieces import Pieces
from wavediff.engine.streaming import StreamedVocoder, frames_at_once, look_ahead

__all__ = ["Pieces", "StreamedVocoder", "accelerate", "frames_at_once", "look_ahead"]


def accelerate(backbone: nn.Module) -> Any:
    """The fastest way to evaluate `backbone` on the device it is on: an object with its `prepare` and call."""
    if next(backbone.parameters()).device.type == "cpu" and isinstance(backbone, DiffWave | SpectralNet):
        return Pieces(backbone)
    return backbone
