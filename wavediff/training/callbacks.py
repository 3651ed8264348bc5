"""What happens beside the training itself."""

import datetime
import math
import os
import platform
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.exceptions import SIGTERMException

from wavediff.errors import ClippingWarning, ConfigError
from wavediff.training.guards import keep_previous
from wavediff.training.module import DenoiserModule, TrainingModule


class ModelExport(Callback):
    """Writes `best.safetensors` whenever the validation loss falls, `last.safetensors` after each validation and
    at the end. Both hold the weights that were validated: the running average where there is one.
    """

    def __init__(self) -> None:
        self.best_loss = float("inf")
        self.exported_step = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export; EMAWeightAveraging has swapped the raw weights back by now."""
        if trainer.sanity_checking:
            return
        loss = trainer.callback_metrics["valid/loss"].item()
        self._export(trainer, pl_module, "last", loss)
        if loss < self.best_loss:
            self.best_loss = loss
            self._export(trainer, pl_module, "best", loss)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was trained since the last validation counts too."""
        if trainer.global_step > self.exported_step:
            self._export(trainer, pl_module, "last", None)

    def _export(self, trainer: Trainer, pl_module: LightningModule, name: str, loss: float | None) -> None:
        self.exported_step = trainer.global_step
        if trainer.is_global_zero:
            module = cast(TrainingModule, pl_module)
            path = Path(trainer.default_root_dir) / f"{name}.safetensors"
            module.export(path, _averaged_weights(trainer, module), _facts(trainer, loss))

    def state_dict(self) -> dict[str, Any]:
        """Survives a resumption."""
        return {"best_loss": self.best_loss, "exported_step": self.exported_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.best_loss = state_dict["best_loss"]
        self.exported_step = state_dict.get("exported_step", 0)


class AudioLogger(Callback):
    """Lets a model be heard at each validation: what it makes beside the first clips, as audio and spectrograms for
    TensorBoard.

    What goes wrong there is a warning, and the training goes on.

    Args:
        count: clips.
    """

    def __init__(self, count: int = 2) -> None:
        self.count = count

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, torch.Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Runs inside the validation, where the averaged weights are in place."""
        module = cast(DenoiserModule, pl_module)
        writer: Any = getattr(trainer.logger, "experiment", None)
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero or not hasattr(writer, "add_audio"):
            return
        try:
            self._log(writer, trainer.global_step, module, batch)
        except Exception as error:  # whatever it is: sounds to listen to are worth no run
            warnings.warn(f"AudioLogger: no sounds at step {trainer.global_step} ({error})", stacklevel=2)

    def _log(self, writer: Any, step: int, module: DenoiserModule, batch: dict[str, torch.Tensor]) -> None:
        from wavediff.report import spectrogram_figure

        first = {name: value[: self.count] for name, value in batch.items()}
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ClippingWarning)  # a network at its beginning is loud
            made = module.heard(first)
        for index, (reference, synthesised) in enumerate(zip(first["waveform"].cpu(), made.cpu(), strict=True)):
            clips = {"reference": reference, "synthesised": synthesised}
            for name, clip in clips.items():
                writer.add_audio(f"clip{index}/{name}", clip, step, module.sample_rate)
            writer.add_figure(f"clip{index}/spectrogram", spectrogram_figure(clips, module.sample_rate), step)


class FullState(Callback):
    """Keeps the newest full training state in `last.ckpt`: every so many steps, at the end, and after SIGTERM. The one
    before stays as `previous.ckpt`.

    Args:
        every_n_steps: optimiser steps between two saves.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        self.every_n_steps = every_n_steps
        self.saved_step = 0
        self._wrote = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a place in the list where the last save would lose the weights under training.

        Raises:
            ConfigError: listed after the weight averaging, which at the end overwrites them by their average.
        """
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, WeightAveraging) for callback in callbacks[: callbacks.index(self)]):
            raise ConfigError("trainer.callbacks: list FullState before EMAWeightAveraging")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when due; accumulated batches between two optimiser steps do not count."""
        if trainer.global_step >= self.saved_step + self.every_n_steps:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the last steps made."""
        if trainer.global_step > self.saved_step:
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lightning raises SIGTERMException (a SLURM time limit, say) between two batches, on every rank."""
        if isinstance(exception, SIGTERMException):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self.saved_step, path = trainer.global_step, last_checkpoint(trainer.default_root_dir)
        if trainer.is_global_zero and (self._wrote or str(trainer.ckpt_path) == str(path)):  # it is known to be whole
            keep_previous(path)
        trainer.save_checkpoint(path)
        self._wrote = True

    def state_dict(self) -> dict[str, Any]:
        """Survives a resumption."""
        return {"saved_step": self.saved_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.saved_step = state_dict["saved_step"]


def last_checkpoint(root: str | os.PathLike[str]) -> Path:
    """Where a run keeps its newest full state."""
    return Path(root) / "last.ckpt"


def _averaged_weights(trainer: Trainer, module: TrainingModule) -> dict[str, torch.Tensor]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
            callback.on_save_checkpoint(trainer, module, checkpoint)  # puts the averages in their place
            return cast(dict[str, torch.Tensor], checkpoint["state_dict"])
    return module.state_dict()


def _facts(trainer: Trainer, loss: float | None) -> dict[str, Any]:
    device = trainer.strategy.root_device
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    manifests = getattr(getattr(trainer, "datamodule", None), "train_manifest", None) or []
    manifests = [manifests] if isinstance(manifests, str) else manifests
    return {
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "valid_loss": loss if loss is not None and math.isfinite(loss) else None,
        "train_manifest": [str(Path(manifest).parent.name + "/" + Path(manifest).name) for manifest in manifests],
        "batch": {
            "world_size": trainer.world_size,
            "accumulate": trainer.accumulate_grad_batches,
            "size": getattr(getattr(trainer, "datamodule", None), "batch_size", None),
        },
        "precision": str(trainer.precision),
        "hardware": f"{trainer.world_size} x {hardware} ({platform.machine()})",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
