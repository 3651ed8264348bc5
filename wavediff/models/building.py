"""Networks of the weights of a file; first their shapes alone, so that no configuration claims memory."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wavediff.models.file import check_weights

Network = TypeVar("Network", bound=nn.Module)


def built(
    make: Callable[[], Network],
    weights: Mapping[str, Tensor],
    path: str | os.PathLike[str] | None,
    field_behind: Callable[[str], str],
) -> Network:
    """A network with the weights of a file, in evaluation mode, float32, on the CPU.

    Args:
        make: makes the network of the file's configuration.
        weights, path, field_behind: as of `check_weights`.

    Raises:
        CheckpointError: as `check_weights`.
    """
    with shapes_only():  # a configuration larger than its weights claims no memory
        expected = make().state_dict()
    # What counts batches decides nothing, and a file may lack it.
    counters = {name for name in expected if name.endswith("num_batches_tracked")} - weights.keys()
    check_weights(weights, {name: expected[name] for name in expected.keys() - counters}, path, field_behind)
    with torch.device("cpu"), _Undrawn():  # whatever the caller's default device
        network = make().float()
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return network.eval().requires_grad_(False)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Modules that are built here have shapes but no values: no configuration claims memory."""
    with torch.device("meta"), _Uninitialised():
        yield


class _Undrawn(TorchFunctionMode):
    """Leaves out what draws weights that a file is about to replace: time, and numbers of the global generator."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class _Uninitialised(TorchFunctionMode):
    """Leaves out what draws weights: torch would load its compiler, for seconds, to find that there are no values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.randn, torch.eye) and not kwargs:
            return torch.empty(*args)
        target = args[0] if args else kwargs.get("tensor")
        if isinstance(target, Tensor) and target.is_meta:  # what has a device of its own has values, and may be kept
            by_number = func is Tensor.mul and len(args) == 2 and not isinstance(args[1], Tensor)
            if by_number or getattr(func, "__module__", None) == nn.init.__name__:
                return target
        return func(*args, **kwargs)
