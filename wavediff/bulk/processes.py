"""How many processes share a run, and who started them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from wavediff.errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        devices: processes on a node, each with a device of its own.
        nodes: machines.
        starter: "torchrun" or "srun", which have started them; "" if this process has to.
    """

    devices: int
    nodes: int
    starter: str = ""

    @property
    def count(self) -> int:
        """All of them."""
        return self.devices * self.nodes


def find_processes(
    devices: int | None, nodes: int | None, environment: Mapping[str, str] = os.environ
) -> Processes | None:
    """What the options ask for, or what torchrun or SLURM's srun have started; None for this process alone.

    Raises:
        ConfigError: not possible, or the options and the starter disagree.
    """
    for name, value in (("--devices", devices), ("--nodes", nodes)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: {value} is below 1")
    started = _torchrun(environment) or _srun(environment)
    if started is None:
        asked = Processes(devices or 1, nodes or 1)
        if asked.nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= environment.keys():
            raise ConfigError(
                f"--nodes: {nodes} machines need a common start; use srun or torchrun, or set MASTER_ADDR, MASTER_PORT "
                "and NODE_RANK on each"
            )
        return asked if asked.count > 1 else None
    for name, value, found in (("--devices", devices, started.devices), ("--nodes", nodes, started.nodes)):
        if value is not None and value != found:
            raise ConfigError(f"{name}: {value} asked for, {found} started by {started.starter}; leave {name} out")
    return started if started.count > 1 else None


def _torchrun(environment: Mapping[str, str]) -> Processes | None:
    if "TORCHELASTIC_RUN_ID" not in environment:
        return None
    total, local = (int(environment[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    return _even(total, total // local, "torchrun")


def _srun(environment: Mapping[str, str]) -> Processes | None:
    # Of the step and not of the job: in a batch script, outside srun, there is one process whatever the job's tasks.
    if "SLURM_STEP_NUM_TASKS" not in environment or "SLURM_PROCID" not in environment:
        return None
    return _even(int(environment["SLURM_STEP_NUM_TASKS"]), int(environment.get("SLURM_STEP_NUM_NODES", 1)), "srun")


def _even(total: int, nodes: int, starter: str) -> Processes:
    if total % nodes:
        raise ConfigError(f"{total} processes were started on {nodes} nodes by {starter}; start as many on each")
    return Processes(total // nodes, nodes, starter)
