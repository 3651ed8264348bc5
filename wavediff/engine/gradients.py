"""Computing without gradients, in tensors that anybody may use afterwards."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """No gradients, and ordinary tensors also under a caller's `torch.inference_mode`; a context or a decorator.

    Callers may change such tensors in place and train on them, which those of inference mode forbid.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield
