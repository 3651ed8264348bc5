"""How far a run is, for those who read it in a file: a progress bar is drawn on terminals alone."""

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

INTERVAL = 300.0  # seconds between two lines, if no validation comes first
_SHOWN = ("train/loss", "valid/loss")


class ProgressLines(Callback):
    """One line after each validation, at the end, and every five minutes: step, losses, speed, time to go.

    Nothing is said on a terminal, where the bar is, or where `trainer.enable_progress_bar` is false.
    """

    def __init__(self) -> None:
        self._start, self._first_step, self._said_at, self._said_step = 0.0, 0, 0.0, -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time and steps count from here, also after a resumption."""
        self._start = self._said_at = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line if none was written for long."""
        if time.monotonic() - self._said_at >= INTERVAL:
            self._say(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A line with what it found."""
        if not trainer.sanity_checking:
            self._say(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last line, unless a validation has just written it."""
        if trainer.global_step > self._said_step:
            self._say(trainer)

    def _say(self, trainer: Trainer) -> None:
        self._said_at, self._said_step = time.monotonic(), trainer.global_step
        if not trainer.is_global_zero or trainer.progress_bar_callback is None or sys.stdout.isatty():
            return
        step, metrics = trainer.global_step, trainer.callback_metrics
        facts = [f"epoch {trainer.current_epoch}"]
        facts += [f"{name} {metrics[name].item():.4f}" for name in _SHOWN if name in metrics]
        speed = (step - self._first_step) / max(self._said_at - self._start, 1e-9)
        if speed > 0:
            facts.append(f"{speed:.3g} steps/s")
            if trainer.max_steps > step:
                facts.append(f"{(trainer.max_steps - step) / speed / 60:.0f} min to go")
        of = f" of {trainer.max_steps}" if trainer.max_steps > 0 else ""
        print(f"wavediff train: step {step}{of}, {', '.join(facts)}", file=sys.stderr, flush=True)
