"""A network's evaluations as CUDA graphs."""

import dataclasses
from collections.abc import Hashable
from typing import Any

from torch import Tensor

from wavediff.backbones.conditioning import Condition
from wavediff.engine.gradients import without_gradients
from wavediff.engine.graphs import GraphedCall


class GraphedNetwork:
    """Evaluates a network with its `prepare` and call; where there are no CUDA graphs it is just called.

    Args:
        network: a backbone, or a `TritonDiffWave`; its `prepare` returns a frozen dataclass of tensors, tuples of
            tensors, and None, whose structure does not change.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        self._structure: Any = None
        self._call = GraphedCall(self._evaluate, getattr(network, "refresh", self._places))

    @without_gradients()
    def prepare(self, cond: Condition) -> Any:
        """The work that no diffusion step changes."""
        return self.network.prepare(cond)

    @without_gradients()
    def __call__(self, x_t: Tensor, t: Tensor, prepared: Any) -> Tensor:
        """(B, N) at times t (B,) -> prediction (B, N)."""
        self._structure = prepared
        tensors: list[Tensor] = []
        for field in dataclasses.fields(prepared):
            value = getattr(prepared, field.name)
            tensors += value if isinstance(value, tuple) else [] if value is None else [value]
        return self._call(x_t, t, *tensors)

    def _places(self) -> Hashable:
        """Where all weights lie: a graph reads them there."""
        return tuple(parameter.data_ptr() for parameter in self.network.parameters())

    def _evaluate(self, x_t: Tensor, t: Tensor, *tensors: Tensor) -> Tensor:
        rest = list(tensors)
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self._structure):
            value = getattr(self._structure, field.name)
            if isinstance(value, tuple):
                values[field.name] = tuple(rest.pop(0) for _ in value)
            else:
                values[field.name] = None if value is None else rest.pop(0)
        result: Tensor = self.network(x_t, t, type(self._structure)(**values))
        return result
