"""Many processes share a run, by Lightning's `predict`; only who needs it imports this."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy

from wavediff.bulk.batches import Batch, share
from wavediff.bulk.decoding import Decoder, Outcome
from wavediff.bulk.processes import Processes
from wavediff.bulk.reading import Fault, Loaded, read_batches
from wavediff.errors import ConfigError, DataError, WavediffError

PATIENCE = timedelta(days=1)
"""How long a process that is done waits for the others; Lightning's half an hour is less than a long file takes."""
_BURIAL = 60.0
"""Seconds that a process may take to be gone after its sockets are: its memory is given back in between."""
_CURE = "what is done stays: go on with --resume"


class Shared(LightningModule):
    """One process's part of a run.

    Args:
        batches: of the whole run, or why there are none; known in the first process alone.
        decoder: makes the decoder of this process from its batches.
        tell: called with each outcome.
        summary: what this process has to say at the end.
        workers: how many processes read ahead, of this process's batches.
        lenient: keep what is left of cut or damaged recordings.
    """

    def __init__(
        self,
        batches: list[Batch] | WavediffError | None,
        decoder: Callable[[list[Batch]], Decoder],
        *,
        tell: Callable[[Outcome], None],
        summary: Callable[[], Any],
        workers: Callable[[list[Batch]], int],
        lenient: bool = False,
    ) -> None:
        super().__init__()
        self._batches, self._make_decoder, self._tell, self._summary = batches, decoder, tell, summary
        self._workers, self.lenient = workers, lenient
        self.summaries: list[Any] = []
        self._dead = ""
        self._watcher: threading.Thread | None = None

    def setup(self, stage: str) -> None:
        """Learn what there is to do; from the first process, because outputs appear while others still look."""
        found = self.trainer.strategy.broadcast(self._batches)
        if isinstance(found, WavediffError):
            if self.trainer.is_global_zero:
                raise found
            sys.exit(2)  # the first process says why
        self.mine = share(found or [], self.trainer.world_size)[self.trainer.global_rank]
        self.decoder = self._make_decoder(self.mine)

    def predict_dataloader(self) -> "_Batches":
        """This process's batches: each file is in one process's, and there once."""
        return _Batches(self.mine, self.lenient, self._workers(self.mine))

    def on_predict_start(self) -> None:
        """Die of SIGTERM: Lightning would note it and go on. Say so where another process died: it would be silent."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        launcher: Any = self.trainer.strategy.launcher
        observed = getattr(launcher, "procs", [])
        if not observed:  # this process has started none
            return
        # Lightning's observer of that list may be quicker, and kills this process without a word: it gets an empty one.
        started = launcher.procs = list(observed)
        observed.clear()
        self._watcher = threading.Thread(target=self._watch, args=(started,), daemon=True)
        self._watcher.start()

    def _watch(self, started: list[subprocess.Popen[bytes]]) -> None:
        """Until all have ended, or one in another way than it should: then end the rest and this process."""
        while any(process.poll() is None for process in started):
            time.sleep(0.2)
            dead = [process for process in started if process.poll()]
            if dead:
                code = dead[0].returncode
                how = f"exit status {code}" if code > 0 else f"signal {-code}"
                self._dead = f"a process that shares the run died ({how}); {_CURE}"
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _on_sigterm(self, signum: int, frame: types.FrameType | None) -> None:
        # Another may come, from the first process to those it has started; that readers die of theirs is no news.
        signal.signal(signum, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        launcher = self.trainer.strategy.launcher
        if launcher is not None:
            launcher.kill(signum)
        if self._dead:
            raise DataError(self._dead)
        sys.exit(128 + signum)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Unchanged: the decoder moves what it needs."""
        return batch

    def predict_step(self, batch: list[Loaded | Fault], batch_idx: int) -> int:
        """Decode and write a batch; returns how many outcomes it had."""
        outcomes = 0
        for outcome in self.decoder(batch):
            self._tell(outcome)
            outcomes += 1
        return outcomes

    def on_predict_end(self) -> None:
        """Bring together what the processes have to say, in the first."""
        own = self._summary()
        gathered = [None] * self.trainer.world_size if self.trainer.is_global_zero else None
        try:
            torch.distributed.gather_object(own, gathered)
        except RuntimeError as error:  # gloo lost one of them
            if self._watcher is not None:  # it knows more, and raises by SIGTERM
                self._watcher.join(_BURIAL)
            raise DataError(f"a process that shares the run died; {_CURE}") from error
        self.summaries = gathered or []


class _Batches:
    """Without a length, on purpose: of what has one Lightning leaves a process that has no batch out of its hooks."""

    def __init__(self, batches: list[Batch], lenient: bool, workers: int) -> None:
        self.batches, self.lenient, self.workers = batches, lenient, workers

    def __iter__(self) -> Iterator[list[Loaded | Fault]]:
        return read_batches(self.batches, lenient=self.lenient, workers=self.workers)


def make_trainer(processes: Processes, device: str, strategy: str = "ddp") -> Trainer:
    """Lightning's trainer for a run.

    Args:
        processes: which share the run.
        device: "auto" (GPUs where there are some), "cpu" or "cuda".
        strategy: of Lightning; one that starts a command for each process and gives each the whole model.

    Raises:
        ConfigError: the devices are not there, or Lightning refuses the rest.
    """
    _silence_lightning()
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: {device} is one device, {processes.devices} share the run; use cuda or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # What the processes tell each other is small and does not concern a GPU.
    ours = DDPStrategy(process_group_backend="gloo", timeout=PATIENCE) if strategy == "ddp" else strategy
    alone = processes.starter == "" and "SLURM_NTASKS" in os.environ  # within a SLURM job, but not by srun
    try:
        trainer = Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=processes.devices,
            num_nodes=processes.nodes,
            strategy=ours,
            plugins=[LightningEnvironment()] if alone else None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise ConfigError(f"--devices, --nodes, --strategy: {' '.join(str(error).split())}") from error
    chosen = trainer.strategy
    if not isinstance(chosen, DDPStrategy) or chosen._start_method != "popen":
        raise ConfigError(f"--strategy: {strategy} does not give each process the whole model; use ddp")
    return trainer


def predict(trainer: Trainer, module: Shared) -> list[Any]:
    """Run it; returns the summaries of all processes in the first, and nothing in the others."""
    try:
        trainer.predict(module, return_predictions=False)
    except SystemExit as stopped:
        if stopped.code == 1:  # how Lightning answers Ctrl-C
            raise KeyboardInterrupt from None
        raise
    finally:
        if torch.distributed.is_initialized():  # or its threads would abort a process that exits
            torch.distributed.destroy_process_group()
    return module.summaries


def _silence_lightning() -> None:
    """What it says of devices it found, of its other products, and of its future."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    for category in (DeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category)
