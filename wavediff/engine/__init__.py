"""How fast the networks run: same weights, same output, less time."""

from typing import Any

from torch import nn

from wavediff.backbones.diffwave import DiffWave
from wavediff.engine.chunked_diffwave import ChunkedDiffWave


def accelerate(backbone: nn.Module) -> Any:
    """The fastest way to evaluate `backbone` on the device it is on: an object with its `prepare` and call."""
    if isinstance(backbone, DiffWave) and next(backbone.parameters()).device.type == "cpu":
        return ChunkedDiffWave(backbone)
    return backbone
