"""A model under training: what all of them share."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor

from wavediff.backbones import Condition
from wavediff.data.manifest import read_manifest
from wavediff.data.shards import open_decoded
from wavediff.diffusion import ItemNoise
from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError, DataError
from wavediff.mel import MelSpec, MelTransform
from wavediff.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.denoiser import Bound
from wavediff.models.file import below
from wavediff.pipelines.vocoder import Vocoder
from wavediff.training.dialects import unresampled
from wavediff.training.guards import CONFIG_KEY

LRScheduler = Literal["constant", "cosine"]
LABELS = "backbone.label_embedding.weight"  # a row for each class, and one for none
_BEFORE = ("inversion", "adapters")  # what a model file may have before its backbone
VALIDATION_TIMES = (0.1, 0.3, 0.6, 1.0)  # noise levels the validation loss is reported at, as shares of T


class TrainingModule(LightningModule):
    """Trains whatever a model file can hold: optimiser, learning rate, logging, export.

    Subclasses give `loss`, `validation_losses` and `export`.

    Args:
        learning_rate: peak, of AdamW.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps over which the learning rate rises from zero.
        lr_scheduler: after the warm-up: "constant", or "cosine" down to a hundredth at the last step.

    Raises:
        ConfigError: a value out of bounds.
    """

    sample_rate: int
    labels: tuple[str, ...] = ()
    mel_spec: MelSpec | None = None  # dialect of the mels that batches may bring along

    def __init__(self, learning_rate: float, weight_decay: float, warmup_steps: int, lr_scheduler: LRScheduler) -> None:
        super().__init__()
        if not 0 < learning_rate < 1 or weight_decay < 0 or warmup_steps < 0:
            raise ConfigError(
                f"model: learning_rate {learning_rate} must lie in (0, 1), weight_decay {weight_decay} and "
                f"warmup_steps {warmup_steps} must not be negative"
            )
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_steps, self.lr_scheduler = warmup_steps, lr_scheduler

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Write a model file of `weights`, which have the names of this module's `state_dict`."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """The objective on a training batch."""
        raise NotImplementedError

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name, without sampling noise: a batch gives the same each time."""
        raise NotImplementedError

    def transfer_batch_to_device(self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int) -> Any:
        """All but what is read as numbers: from a GPU that would wait for it."""
        kept = {name: batch[name] for name in ("seed", "index") if name in batch}
        moved = {name: value for name, value in batch.items() if name not in kept}
        return super().transfer_batch_to_device(moved, device, dataloader_idx) | kept

    def noise(self, batch: dict[str, Tensor]) -> ItemNoise:
        """Noise of the batch's items, from each one's own seed."""
        return ItemNoise(batch["seed"].tolist(), self.device)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = self.loss(batch)
        self.log("train/loss", loss.mean, prog_bar=True, batch_size=len(batch["seed"]))
        return loss.mean

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Logs the losses; their mean is what the best model is chosen by."""
        size, losses = len(batch["seed"]), self.validation_losses(batch)
        for name, loss in losses.items():
            self.log(f"valid/{name}", loss, batch_size=size, sync_dist=True)
        mean = torch.stack(list(losses.values())).mean()
        self.log("valid/loss", mean, prog_bar=True, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, its learning rate stepped after each optimiser step."""
        optimizer = torch.optim.AdamW(
            [p for p in self.parameters() if p.requires_grad], lr=self.learning_rate, weight_decay=self.weight_decay
        )
        total = self.trainer.estimated_stepping_batches if self.lr_scheduler == "cosine" else math.inf

        def share_of_peak(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / self.warmup_steps
            if self.lr_scheduler == "constant":
                return 1.0
            done = (step - self.warmup_steps) / max(1, total - self.warmup_steps)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share_of_peak)
        return {"optimizer": optimizer, "lr_scheduler": LRSchedulerConfigType(scheduler=scheduler, interval="step")}


class DenoiserModule(TrainingModule):
    """Trains a denoiser, which becomes a model file. Subclasses also give `heard`.

    Args:
        config: of the model.
        learning_rate, weight_decay, warmup_steps, lr_scheduler: see `TrainingModule`.
        compile: compile the network with torch.compile (needs a C++ compiler on CPUs).
        init_from: model file whose weights training starts from, or "bundled"; fresh weights by default. Networks that
            invert its mels or halve their frames come along and stay as they are: `InversionModule` and
            `HalvingModule` train those.

    Raises:
        CheckpointError: `init_from` is not an intact model file.
        ConfigError: its network is another one, a value out of bounds, or parts of the configuration do not fit.
    """

    def __init__(
        self,
        config: ModelConfig,
        learning_rate: float,
        weight_decay: float,
        warmup_steps: int,
        lr_scheduler: LRScheduler,
        compile: bool,
        init_from: str | None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup_steps, lr_scheduler)
        start = None if init_from is None else self.start_of(init_from)
        if start is not None and config.prior.power:
            kept = {name: getattr(config, name) or getattr(start.config, name) for name in _BEFORE}
            config = unresampled(dataclasses.replace(config, **kept))  # the network learns a dialect of another rate
        self.config, self.sample_rate, self.labels = config, config.sample_rate, config.labels
        self.denoiser = build_denoiser(config)
        for part in (self.denoiser.inversion, self.denoiser.adapters):
            if part is not None:
                part.requires_grad_(False)
        if start is not None:
            self._start_from(start)
        if compile:
            self.denoiser.backbone.compile()

    @classmethod
    def start_of(cls, source: str) -> Checkpoint:
        """The model that `init_from` names.

        Raises:
            CheckpointError: it is no intact model file.
        """
        return load_checkpoint(Vocoder.model_path(source))

    def heard(self, batch: dict[str, Tensor]) -> Tensor:
        """What the model makes beside the waveforms (B, N) of a batch, to listen to: (B, N') at its sample rate."""
        raise NotImplementedError

    def losses_at_levels(self, loss: Callable[[Tensor], Loss], items: int) -> dict[str, Tensor]:
        """The mean of a loss of times (B,), at fixed noise levels that the network was trained at."""
        losses, steps = {}, self.denoiser.schedule.trained_steps
        for share in VALIDATION_TIMES:
            time = share if steps is None else max(1, round(share * steps)) / steps
            t = torch.full((items,), time, dtype=torch.float64, device=self.device)
            losses[f"loss_at_t{share}"] = loss(t).mean
        return losses

    def _start_from(self, start: Checkpoint) -> None:
        """Weights of the same network; the mel may be another one where no weight's shape depends on it.

        Classes may be others. One whose kinds alone the file knows begins as their mean, and one that it does not know
        as no class at all. The plans that were searched for the file come along where the process is the same.
        """
        weights, known = start.build().state_dict(), start.config.labels
        if not self.config.adapters:
            weights = {name: weight for name, weight in weights.items() if not name.startswith("adapters.")}
        if self.labels and known:
            names = [
                [place for place, name in enumerate(known) if label in (name, name.partition("/")[0])]
                for label in self.labels
            ]
            weights[LABELS] = torch.stack([weights[LABELS][rows or [-1]].mean(0) for rows in [*names, []]])
        shapes = {name: weight.shape for name, weight in weights.items()}
        if shapes != {name: weight.shape for name, weight in self.denoiser.state_dict().items()}:
            raise ConfigError(
                f"model.init_from: {start.path} holds another network than the configuration describes; make backbone "
                "and mel equal, and give labels if it has some"
            )
        self.denoiser.load_state_dict(weights)
        if dataclasses.replace(self.config, plans=start.config.plans) == start.config:
            self.config = start.config

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """A model file of the denoiser."""
        save_checkpoint(path, self.config, below(weights, "denoiser."), facts, overwrite=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Makes the full training state exportable by itself."""
        checkpoint[CONFIG_KEY] = self.config.to_dict()


class MelDenoiserModule(DenoiserModule):
    """Trains a denoiser that is told mels: those of the batch, or else computed from its waveforms on its device.

    Args: see `DenoiserModule`.

    Raises:
        ConfigError: the model has no mel; and what `DenoiserModule` raises.
    """

    def __init__(self, config: ModelConfig, *options: Any) -> None:
        if config.mel is None:
            raise ConfigError("model.mel: a vocoder needs one")
        super().__init__(config, *options)
        self.mel_spec, self.mel_transform = config.mel, MelTransform(config.mel)

    def on_fit_start(self) -> None:
        """Refuse segments that are no whole frames.

        Raises:
            ConfigError: they are not.
        """
        hop, data = self.mel_transform.spec.hop_length, getattr(self.trainer, "datamodule", None)
        for name in ("segment_length", "valid_segment_length"):
            length = getattr(data, name, None)
            if length is not None and length % hop:
                whole = max(round(length / hop), 1) * hop
                raise ConfigError(f"data.{name}: {length} is no multiple of the mel's hop, {hop}; give {whole}")

    def mel(self, batch: dict[str, Tensor]) -> Tensor:
        """Mel (B, n_mels, N // hop_length) of a batch of N samples: the frames such a waveform is made from."""
        if "mel" in batch:
            return batch["mel"]
        waveform = batch["waveform"]
        frames = waveform.shape[-1] // self.mel_transform.spec.hop_length
        with torch.no_grad():
            return self.mel_transform(waveform)[..., :frames]

    def heard(self, batch: dict[str, Tensor]) -> Tensor:
        """The speech of their mels."""
        vocoder = Vocoder(self.config, self.denoiser)
        return vocoder.decode(self.mel(batch), seed=0, mel_spec=vocoder.mel_spec)

    def bind(self, batch: dict[str, Tensor]) -> Bound:
        """The denoiser, told the batch's mels."""
        return self.denoiser.bind(Condition(self.mel(batch)))


def labels_of(labels: str | Sequence[str]) -> tuple[str, ...]:
    """Class names in the order of their indices.

    Args:
        labels: the names themselves, kept in their order; or a manifest (`.jsonl`), packed corpus (`.safetensors`) or
            corpus in shards, whose distinct labels are taken in alphabetical order.

    Raises:
        ConfigError: a text that names no such file.
        DataError: the file is missing or damaged, or has an utterance without a label.
    """
    if not isinstance(labels, str):
        return tuple(labels)
    if Path(labels).suffix == ".jsonl":
        found: set[str | None] = {utterance.label for utterance in read_manifest(labels)}
    elif (corpus := open_decoded(labels)) is not None:
        found = {None} if corpus.labels is None else set(corpus.labels)
    else:
        what = "is no manifest or corpus (.jsonl, .safetensors, shards)"
        raise ConfigError(f"model.labels: {labels!r} {what}; give one, or [name, ...]")
    if None in found:
        raise DataError(f"{labels}: has an utterance without a label; prepare the corpus by `wavediff prepare classes`")
    return tuple(sorted(label for label in found if label is not None))
