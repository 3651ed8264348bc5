"""What others draw from torch's global generator, drawn from one of its own: threads share the global one."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = (torch.rand, torch.randn, torch.randperm, Tensor.normal_, Tensor.uniform_)


class OwnDraws(TorchFunctionMode):
    """Within it, in this thread alone, what names no generator is drawn on the CPU from one of this object.

    Args:
        seed: of it.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = torch.Generator("cpu").manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        takes_one = func in _DRAWS or "generator" in kwargs  # the functions of torch.nn.init always pass it
        if takes_one and kwargs.get("generator") is None:
            kwargs = kwargs | {"generator": self.generator}
        return func(*args, **kwargs)
