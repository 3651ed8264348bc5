"""How numbers are computed: without gradients, or in bfloat16 where that pays.

On a CPU without instructions for bfloat16, products take far longer in it than in float32.
"""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator

import torch

_SIZE = 256  # of the square matrices: some milliseconds a product even where every number is converted
_SLOW = 2.0  # processors that have it take .4 to .6 of the time of float32, those that have not 50 and more


def timed(run: Callable[[], object], device: torch.device, turns: int = 1) -> float:
    """Seconds that a call takes, the mean of so many in a row, with what a GPU is still busy with at their end."""
    start = time.perf_counter()
    for _ in range(turns):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / turns


def fastest(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds that a call takes: the least of `repeats`, after one that warms up; on a GPU of several in a row, or one
    would be over before the next is launched."""
    turns = 20 if device.type == "cuda" else 1
    timed(run, device)
    return min(timed(run, device, turns) for _ in range(repeats))


def gemm_rate(device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 5, size: int = 2_048) -> float:
    """Operations per second of a product of two square matrices, the roof of networks where these are large."""
    a = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / fastest(lambda: a @ a, device, repeats)


@functools.cache
def bfloat16_time() -> float:
    """What a matrix product in bfloat16 takes on this CPU, in units of one in float32; measured once a process."""
    cpu = torch.device("cpu")
    return gemm_rate(cpu, torch.float32, size=_SIZE) / gemm_rate(cpu, torch.bfloat16, size=_SIZE)


def slow_in_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 costs time on `device` instead of saving it; a GPU is taken to have it."""
    return device.type == "cpu" and bfloat16_time() > _SLOW


def warn_if_slow_in_bfloat16(device: torch.device, cure: str) -> None:
    """One UserWarning with the factor and the cure where bfloat16 costs time; the result is what was asked for."""
    if slow_in_bfloat16(device):
        factor = f"{bfloat16_time():.0f} times as long as in float32"
        message = f"this CPU has no instructions for bfloat16, in which matrix products take {factor}; {cure}"
        warnings.warn(message, stacklevel=3)


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """No gradients, and ordinary tensors also under a caller's `torch.inference_mode`; a context or a decorator.

    Callers may change such tensors in place and train on them, which those of inference mode forbid.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield
