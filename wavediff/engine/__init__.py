"""How fast the networks run: same weights, same output, less time."""

from typing import Any

from torch import nn

from wavediff.backbones.diffwave import DiffWave
from wavediff.backbones.spectral import SpectralNet
from wavediff.engine.chunked_diffwave import ChunkedDiffWave
from wavediff.engine.chunked_spectral import ChunkedSpectral


def accelerate(backbone: nn.Module) -> Any:
    """The fastest way to evaluate `backbone` on the device it is on: an object with its `prepare` and call."""
    if next(backbone.parameters()).device.type == "cpu":
        if isinstance(backbone, DiffWave):
            return ChunkedDiffWave(backbone)
        if isinstance(backbone, SpectralNet):
            return ChunkedSpectral(backbone)
    return backbone
