"""Machines share a run, by Ray: an actor for each GPU or core holds the model, and takes batches from one queue.

These are plain actors and not Ray Data. A run has few, long tasks whose size is known (batches of like length, made
before), their results are files, and Ray Data would cut its own blocks and retry a whole block that has written half of
its files. Here the queue is a list in the first process, so a batch lost with its worker goes back to its head.

The model file lies in a folder that all nodes see under one path; the inputs and outputs do too, or they lie in object
storage.
"""

import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wavediff.bulk.decoding import Blueprint, Outcome, listen
from wavediff.bulk.jobs import Batch, Fault, sweep
from wavediff.bulk.processes import CURE
from wavediff.bulk.reading import BatchDataset
from wavediff.errors import ConfigError, DataError, OutputError, WavediffError, require_packages

PATIENCE = 600.0
"""Seconds without any news from the cluster's nodes after which none is expected."""
MAX_LOSSES = 3
"""Workers that may be lost on the same batch before its files are taken to be the reason."""


def connect(address: str | None, device: str, workers: int | None) -> list[str]:
    """Join a cluster of Ray, or start one of this machine alone; the device of each worker, "cuda" or "cpu".

    Args:
        address: "host:port" of its head; None for `RAY_ADDRESS`, or for this machine.
        device: "auto" (GPUs where the cluster has some), "cpu" or "cuda".
        workers: how many; None for one for each GPU, or for each core.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: no cluster answers at the address, or it has no such devices.
    """
    require_packages(["ray"], "ray", "--engine ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to others unless that is asked for
    import ray

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: {device} is a device of one machine; on a cluster use cuda or cpu")
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", include_dashboard=None if address else False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        cure = "start it by `ray start --head`, and check the port"
        raise ConfigError(f"--address: no cluster of Ray at {address} ({error}); {cure}") from error
    resources = ray.cluster_resources()
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    there = gpus if device == "cuda" else cores
    if there < (workers or 1):
        raise ConfigError(f"--devices: {workers or 1} asked for, the cluster has {there} for {device}; lower it")
    return [device] * (workers or there)


class Worker:
    """What an actor is made of; its decoder is made with the first batch, so that errors have a way back.

    Args:
        blueprint: of the decoder.
        device: of this node.
        folder: working directory of the first process, which relative paths are from; None where there are none.
    """

    def __init__(self, blueprint: Blueprint, device: str, folder: str | None) -> None:
        self.blueprint, self.device, self.folder = blueprint, device, folder
        self.decoder: Any = None

    def ready(self) -> None:
        """Come back once this worker runs.

        Raises:
            OutputError: this node does not see the folders of the first.
        """
        try:
            if self.folder is not None:
                os.chdir(self.folder)
        except OSError as error:
            cure = "start wavediff in a folder that all nodes share"
            raise OutputError(f"{self.folder}: is not on the node {platform.node()}; {cure}") from error

    def vocode(self, batch: Batch, again: bool) -> list[Outcome | Warning]:
        """The outcomes and warnings of a batch; `again`: a lost worker may have written some of its files."""
        self.decoder = self.decoder or self.blueprint.decoder(self.device)
        settings = self.blueprint.settings
        self.decoder.settings = replace(settings, overwrite=settings.overwrite or again)
        return list(listen(self.decoder, BatchDataset([batch], settings.lenient)[0]))


def vocode_on_cluster(blueprint: Blueprint, batches: Sequence[Batch], devices: Sequence[str]) -> Iterator[Outcome]:
    """The outcomes of all batches, as they come; warnings of the workers are repeated here.

    A worker that is lost with its node is replaced where there is room, and its batch is made again.

    Args:
        blueprint: of the decoder that each worker makes.
        batches: of the whole run; those that come first begin first.
        devices: of `connect`, a worker for each.

    Raises:
        WavediffError: a worker cannot go on.
        DataError: the cluster has lost its workers.
    """
    import ray
    from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

    needs = {"num_cpus": 1, "num_gpus": 1 if devices[0] == "cuda" else 0, "max_restarts": 0}
    actor = ray.remote(Worker).options(**needs)
    queue, losses = [(batch, 0) for batch in batches], 0
    busy: dict[Any, tuple[Any, tuple[Batch, int] | None]] = {}
    items = [item for batch in batches for item in batch]
    absolute = all(item.job.source.is_absolute() and item.job.target.is_absolute() for item in items)
    model = blueprint.checkpoint
    folder = None if absolute and (model is None or model.is_absolute()) else str(Path.cwd())

    def hire() -> None:
        worker = actor.remote(blueprint, devices[0], folder)
        busy[worker.ready.remote()] = worker, None

    for _ in range(min(len(devices), len(queue))):
        hire()
    try:
        while queue or any(task for _, task in busy.values()):
            news, _ = ray.wait(list(busy), timeout=PATIENCE)
            if not news and not any(task for _, task in busy.values()):
                raise DataError(f"no worker came up on the cluster for {PATIENCE:.0f} s, see `ray status`; {CURE}")
            for answer in news:
                worker, task = busy.pop(answer)
                try:
                    heard = ray.get(answer)
                except (RayActorError, ActorUnavailableError):
                    losses += 1
                    if task is not None and task[1] + 1 >= MAX_LOSSES:
                        yield from _given_up(task[0])
                    elif task is not None:
                        queue.insert(0, (task[0], task[1] + 1))
                    hire()
                    continue
                except RayTaskError as error:
                    raise error.cause if isinstance(error.cause, WavediffError) else error from None
                if queue:
                    batch, tries = queue.pop(0)
                    busy[worker.vocode.remote(batch, tries > 0)] = worker, (batch, tries)
                for one in heard or ():
                    if isinstance(one, Warning):
                        warnings.warn(one, stacklevel=2)
                    else:
                        yield one
    finally:
        for worker, _ in busy.values():
            ray.kill(worker)
        if losses:
            were = "1 worker was lost with its node or process" if losses == 1 else f"{losses} workers were lost"
            warnings.warn(f"{were}; their batches were made again", stacklevel=2)
            sweep(item.job for batch in batches for item in batch)
        ray.shutdown()


def _given_up(batch: Batch) -> Iterator[Fault]:
    for item in batch:
        if not item.done and not item.job.target.exists():
            reason = f"{item.job.source}: {MAX_LOSSES} workers were lost on it; is there enough memory for its batch?"
            yield Fault(item.job, reason)
