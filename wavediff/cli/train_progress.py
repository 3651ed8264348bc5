"""How far a training run is: the bar or the lines of all commands, with the losses; and what Lightning says before."""

import logging
from typing import Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer

from wavediff.cli.progress import Progress

INTERVAL = 300.0  # seconds between two lines, if no validation comes first
_SHOWN = ("train/loss", "valid/loss")


class TrainingProgress(Callback):
    """A bar over the steps on a terminal; elsewhere a line after each validation, at the end, and every five minutes.

    Args:
        quiet: say nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet, self._progress = quiet, Progress("train", None, "steps", quiet=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time and speed count from here, also after a resumption."""
        self._progress = Progress(
            "train",
            trainer.max_steps if trainer.max_steps > 0 else None,
            "steps",
            quiet=self._quiet or not trainer.is_global_zero,
            first=trainer.global_step,
            every=INTERVAL,
            note=lambda: _facts(trainer, self._progress.speed),
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line if none was written for long."""
        self._progress.to(trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A line with what it found."""
        if not trainer.sanity_checking:
            self._progress.say()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last line, unless a validation has just written it; a time limit ends a run before its last step."""
        self._progress.say()
        self._progress.close(finished=trainer.global_step == trainer.max_steps)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The bar stops where the run does."""
        self._progress.close(finished=False)


def _facts(trainer: Trainer, speed: float) -> str:
    facts = [f"epoch {trainer.current_epoch}"]
    metrics = trainer.callback_metrics
    facts += [f"{name} {metrics[name].item():.4f}" for name in _SHOWN if name in metrics]
    return ", ".join([*facts, *([f"{speed:.3g} steps/s"] if speed > 0 else [])])


class Waiting(logging.Handler):
    """Keeps what Lightning logs until it is to be told: an error before the training begins stands alone."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []
        self._logger = logging.getLogger("lightning")

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        self._logger.propagate = False
        return self

    def __exit__(self, *exception: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._records.append(record)

    def tell(self) -> None:
        """Say what was kept, and what comes from now on."""
        self.__exit__()
        for record in self._records:
            logging.root.handle(record)
