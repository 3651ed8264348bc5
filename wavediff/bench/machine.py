"""What a machine is and can do at most, and what a call takes of it."""

import gc
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wavediff.engine.precision import fastest, timed

_COPIED = 64 << 20  # float32 values: larger than any cache


def machine(device: torch.device) -> str:
    """The hardware in words, with what a CPU's instructions are called: they decide more than its clock."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{torch.get_num_threads()} threads of {platform.processor() or platform.machine()} ({instructions})"


def copy_rate(device: torch.device, repeats: int = 3) -> float:
    """Bytes per second read and written by a copy in memory."""
    source = torch.randn(_COPIED, device=device)  # zeros may lie in one page
    target = torch.empty_like(source)
    return 2 * 4 * _COPIED / fastest(lambda: target.copy_(source), device, repeats)


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


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender over the repeats.

    Attributes:
        name: of the contender.
        seconds: one value a repeat.
        audio_seconds: sound that one repeat makes or trains on.
        peak_bytes: memory that the untimed turn took at most, beyond what was in use; None where it cannot be told.
        launches: how often a turn gave a GPU something to do; None on a CPU.
    """

    name: str
    seconds: tuple[float, ...]
    audio_seconds: float
    peak_bytes: int | None = None
    launches: int | None = None

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """For JSON and tables; `rtf` is seconds of compute per second of audio."""
        return {
            "name": self.name,
            "median_seconds": self.median,
            "fastest_seconds": min(self.seconds),
            "slowest_seconds": max(self.seconds),
            "rtf": self.median / self.audio_seconds,
            "peak_bytes": self.peak_bytes,
            "launches": self.launches,
        }


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    audio_seconds: float,
    device: torch.device,
    on_repeat: Callable[[], object] = lambda: None,
) -> list[Timing]:
    """Time the contenders in turns after one untimed turn each, so that drift of the machine hits all alike."""

    def once(run: Callable[[], object]) -> float:
        seconds = timed(run, device)
        on_repeat()
        return seconds

    peaks = [peak_memory(lambda run=run: once(run), device) for run in contenders.values()]  # type: ignore[misc]
    launched = [launches(run, device) for run in contenders.values()]
    rows = [[once(run) for run in contenders.values()] for _ in range(repeats)]
    columns = zip(*rows, strict=True)
    return [
        Timing(name, seconds, audio_seconds, peak, count)
        for name, seconds, peak, count in zip(contenders, columns, peaks, launched, strict=True)
    ]
