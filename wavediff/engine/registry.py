"""The one place that knows which networks have a twin: on pieces of a signal, or as fused layers on a GPU.

A network without one is evaluated as it is, on whole signals.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from wavediff.backbones.diffwave import DiffWave
from wavediff.backbones.spectral import SpectralNet
from wavediff.engine.stream_diffwave import DiffWaveStreams
from wavediff.engine.stream_spectral import SpectralStreams
from wavediff.engine.streams import Streams
from wavediff.engine.triton_diffwave import TritonDiffWave, supports

STREAMS: dict[type[nn.Module], type[Streams]] = {DiffWave: DiffWaveStreams, SpectralNet: SpectralStreams}
# How fused layers are made, and whether they are for a network of that shape.
FUSED: dict[type[nn.Module], tuple[Callable[..., Any], Callable[[Any], bool]]] = {DiffWave: (TritonDiffWave, supports)}


def streams_of(network: nn.Module) -> type[Streams] | None:
    """How the network is computed on pieces; None if it is on whole signals alone."""
    return STREAMS.get(type(network))


def fused_of(network: nn.Module) -> Callable[..., Any] | None:
    """What computes the network with fused layers, made of it and a dtype; None if nothing does."""
    make, fits = FUSED.get(type(network), (None, bool))
    return make if make is not None and fits(network) else None
