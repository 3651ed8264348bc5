"""A function of tensors as a CUDA graph: hundreds of small kernels started by one call of the driver."""

import functools
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from wavediff.engine.gradients import without_gradients

WARM_UPS = 3  # calls before a capture, in which libraries take their workspaces and kernels are compiled and tuned
MAX_GRAPHS = 8  # each keeps the memory of a whole call

Output = Tensor | tuple[Tensor, ...]
Function = Callable[..., Output]
Captured = tuple[Callable[[], object], Output]  # run it again, and where its output is then


def capture_cuda(function: Function, inputs: Sequence[Tensor]) -> Captured:
    """A CUDA graph of `function` on these very tensors.

    Raises:
        RuntimeError: the function does what no graph can hold, such as to wait for a value, or memory is short.
    """
    with torch.cuda.device(inputs[0].device):
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                function(*inputs)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # What other threads do meanwhile, such as loading data, must not spoil the capture.
        # On the stream of this device: torch's own would be that of the device of the first capture.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local", **_liveness()):
            output = function(*inputs)
    return graph.replay, output


@functools.cache
def _liveness() -> dict[str, Any]:
    """Where torch can, a capture refuses to read memory that nobody keeps."""
    return {name: True for name in inspect.signature(torch.cuda.graph).parameters if name == "check_input_liveness"}


class GraphedCall:
    """Calls a function of tensors, by a CUDA graph for each kind of input; not for several threads at once.

    A graph repeats work, not Python: whatever the function reads beside its arguments must stay in its place, or
    `state` must tell that it moved. Runs without gradients.

    Args:
        function: (Tensor, ...) -> a tensor or a tuple of tensors.
        state: called before each call; when it returns something else than before, all graphs are forgotten.
        capture: makes a graph.
        device_type: of the devices that have graphs; on others, and on several at once, the function is just called.
    """

    def __init__(
        self,
        function: Function,
        state: Callable[[], Hashable] = lambda: None,
        *,
        capture: Callable[[Function, Sequence[Tensor]], Captured] = capture_cuda,
        device_type: str = "cuda",
    ) -> None:
        self.function, self.state = function, state
        self._capture, self._device_type = capture, device_type
        # By key, least recently used first: static inputs and the graph; None where there can be none.
        self._graphs: OrderedDict[Hashable, tuple[list[Tensor], Captured] | None] = OrderedDict()
        self._known: Hashable = None
        self._warned = False

    @without_gradients()
    def __call__(self, *inputs: Tensor, **told: Hashable) -> Any:
        """The function of `inputs` and of what it is told, in memory that later calls leave alone."""
        function = functools.partial(self.function, **told)
        devices = {x.device for x in inputs}
        if len(devices) != 1 or devices.pop().type != self._device_type:
            return function(*inputs)
        state = self.state()
        if state != self._known:
            self._graphs.clear()
            self._known = state
        key = (tuple((x.shape, x.dtype, x.device) for x in inputs), *told.items())
        if key not in self._graphs:
            # The oldest goes first, so that its memory is there for the new one.
            while len(self._graphs) >= MAX_GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[key] = self._captured(function, inputs)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        if graph is None:
            return function(*inputs)
        static, (replay, output) = graph
        for target, x in zip(static, inputs, strict=True):
            target.copy_(x)
        replay()
        return output.clone() if isinstance(output, Tensor) else tuple(part.clone() for part in output)

    def _captured(self, function: Function, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Captured] | None:
        static = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
        try:
            return static, self._capture(function, static)
        except RuntimeError as error:
            if not self._warned:
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                warnings.warn(f"no CUDA graph, so calls are slower: {cause}", RuntimeWarning, stacklevel=4)
            self._warned = True
            return None
