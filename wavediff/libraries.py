"""Torch and torchaudio where they need care: what they draw without a generator, and whether they fit together."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wavediff.errors import InstallationError

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


def require_torchaudio() -> None:
    """Import torchaudio. Its compiled half loads only beside the torch that it was built for, which pip does not know.

    Raises:
        InstallationError: it does not load.
    """
    try:
        import torchaudio  # noqa: F401
    except OSError as error:  # of the linker
        from importlib.metadata import version

        pair = f"torchaudio {version('torchaudio')} does not load beside torch {version('torch')}"
        cure = "torch 2.11 and 2.12 take torchaudio 2.11.0, later ones 2.11.1, installed from the same index as torch"
        raise InstallationError(f"{pair} ({error.__cause__ or error}); {cure}") from error
