"""The most memory that a command of wavediff holds at once, in a process of its own."""

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from workers import CONTEXT

LONG_SECONDS = 10.0  # from here on a file is vocoded in pieces; elsewhere from ten minutes on


def peak_of(*arguments: str) -> int:
    """Bytes that `wavediff ARGUMENTS` adds at most to what the process holds once everything is imported."""
    pipe, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_measure, args=(arguments, theirs))
    process.start()
    theirs.close()
    status, peak = pipe.recv()
    process.join()
    assert status == 0
    return int(peak)


def _measure(arguments: tuple[str, ...], pipe: Any) -> None:
    import wavediff.bulk.jobs
    from wavediff.cli.main import main

    torch.set_num_threads(1)
    wavediff.bulk.jobs.LONG_SECONDS = LONG_SECONDS
    before = _held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        status = main(arguments)
    pipe.send((status, _held("VmHWM") - before))


def _held(name: str) -> int:
    """A line of the kernel's about this process, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))
