"""What a machine can do at most, and what a call takes of it."""

import gc
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from wavediff.engine.precision import fastest

_COPIED = 64 << 20  # float32 values: larger than any cache


def copy_rate(device: torch.device, repeats: int = 3) -> float:
    """Bytes per second read and written by a copy in memory."""
    source = torch.randn(_COPIED, device=device)  # zeros may lie in one page
    target = torch.empty_like(source)
    return 2 * 4 * _COPIED / fastest(lambda: target.copy_(source), device, repeats)


def spread(seconds: Sequence[float], audio_seconds: float) -> dict[str, float]:
    """What repeats took, for JSON and tables; `rtf` is seconds of compute per second of audio."""
    median = statistics.median(seconds)
    return {
        "median_seconds": median,
        "fastest_seconds": min(seconds),
        "slowest_seconds": max(seconds),
        "rtf": median / audio_seconds,
    }


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpy", "cudaMemset")


def launches(run: Callable[[], object], device: torch.device) -> int | None:
    """How often a call gives a GPU something to do, by torch's profiler; None on other devices.

    Each takes some microseconds of the CPU, so where they are many they are what a short call takes.
    """
    if device.type != "cuda":
        return None
    activities = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activities.CPU, activities.CUDA]) as profile:
        run()
        torch.cuda.synchronize(device)
    return count_launches(event.name for event in profile.events())


def count_launches(names: Iterable[str]) -> int:
    """How many names of the CUDA driver's calls are launches."""
    return sum(name.startswith(LAUNCHES) for name in names)


def peak_memory(run: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a call takes at most, beyond what is in use before it; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
    except OSError:
        run()
        return None
    before = _status("VmRSS")
    run()
    return max(_status("VmHWM") - before, 0)


def _status(field: str) -> int:
    """Of this process [bytes]."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
