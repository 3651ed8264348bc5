"""Processes of this machine share a run, a device for each."""

import signal
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from wavediff.bulk.decoding import Blueprint, Outcome, listen
from wavediff.bulk.jobs import Batch, share
from wavediff.bulk.reading import end_with_parent, read_batches
from wavediff.errors import DataError, WavediffError

CURE = "what is done stays: go on with --resume"


def vocode_in_processes(
    blueprint: Blueprint, batches: Sequence[Batch], devices: Sequence[str], *, workers: int = 0
) -> Iterator[Outcome]:
    """Batches shared out among processes of this machine; the outcomes as they come, warnings of theirs repeated here.

    Args:
        blueprint: of the decoder that each process makes.
        batches: of the whole run.
        devices: a process for each.
        workers: processes that read ahead for each.

    Raises:
        WavediffError: a process cannot go on.
        DataError: a process died; the others are ended.
    """
    context = get_context("spawn")  # a CUDA context does not survive a fork
    processes: dict[Connection, SpawnProcess] = {}
    for device, mine in zip(devices, share(batches, len(devices)), strict=True):
        if mine:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_vocode, args=(sender, blueprint, device, mine, workers))
            process.start()
            sender.close()  # so that the pipe ends with the process
            processes[receiver] = process
    try:
        while processes:
            for receiver in [connection for connection in wait(list(processes)) if isinstance(connection, Connection)]:
                try:
                    heard = receiver.recv()
                except EOFError:
                    process = processes.pop(receiver)
                    process.join()
                    if code := process.exitcode:
                        how = f"exit status {code}" if code > 0 else f"signal {-code}"
                        raise DataError(f"a process that shares the run died ({how}); {CURE}") from None
                    continue
                if isinstance(heard, WavediffError):
                    raise heard
                if isinstance(heard, Warning):
                    warnings.warn(heard, stacklevel=2)
                else:
                    yield heard
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()


def _vocode(sender: Connection, blueprint: Blueprint, device: str, batches: Sequence[Batch], workers: int) -> None:
    """What a process does; it tells its outcomes, its warnings, and the error that ends it."""
    end_with_parent()
    try:
        decoder = blueprint.decoder(device)
        for loaded in read_batches(batches, lenient=blueprint.settings.lenient, workers=workers):
            for heard in listen(decoder, loaded):
                sender.send(heard)
    except WavediffError as error:
        sender.send(error)
    except BrokenPipeError:  # the first process is gone
        signal.raise_signal(signal.SIGTERM)
