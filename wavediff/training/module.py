"""A mel vocoder under training: what all networks share."""

import math
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor

from wavediff.backbones import Condition
from wavediff.checkpoint import load_checkpoint
from wavediff.denoiser import Bound
from wavediff.diffusion import ItemNoise
from wavediff.diffusion.objectives import Loss
from wavediff.errors import ConfigError
from wavediff.mel import MelTransform
from wavediff.model import ModelConfig, build_denoiser
from wavediff.training.checkpoint_io import CONFIG_KEY

LRScheduler = Literal["constant", "cosine"]


class VocoderModule(LightningModule):
    """Trains a denoiser conditioned on mels that are computed from each batch, on its device.

    Subclasses say which network, and give `loss` and `validation_losses`.

    Args:
        config: of the model; it has a mel.
        learning_rate: peak, of AdamW.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps over which the learning rate rises from zero.
        lr_scheduler: after the warm-up: "constant", or "cosine" down to a hundredth at the last step.
        compile: compile the network with torch.compile (needs a C++ compiler on CPUs).
        init_from: model file (.safetensors) whose weights training starts from; fresh weights by default.

    Raises:
        CheckpointError: `init_from` is not a sound model file.
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
        super().__init__()
        if not 0 < learning_rate < 1 or weight_decay < 0 or warmup_steps < 0:
            raise ConfigError(
                f"model: learning_rate {learning_rate} must lie in (0, 1), weight_decay {weight_decay} and "
                f"warmup_steps {warmup_steps} must not be negative"
            )
        if config.mel is None:
            raise ConfigError("model.mel: a vocoder needs one")
        self.config = config
        self.denoiser = build_denoiser(config)
        if init_from is not None:
            self._start_from(init_from)
        self.mel_transform = MelTransform(config.mel)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_steps, self.lr_scheduler = warmup_steps, lr_scheduler
        if compile:
            self.denoiser.backbone.compile()

    def _start_from(self, path: str) -> None:
        """Weights of the same network; the mel may be another one where no weight's shape depends on it."""
        weights = load_checkpoint(path).build().state_dict()
        shapes = {name: weight.shape for name, weight in weights.items()}
        if shapes != {name: weight.shape for name, weight in self.denoiser.state_dict().items()}:
            raise ConfigError(
                f"model.init_from: {path} holds another network than the configuration describes; make backbone, "
                "mel and labels equal"
            )
        self.denoiser.load_state_dict(weights)

    def mel(self, waveform: Tensor) -> Tensor:
        """Mel (B, n_mels, N // hop_length) of (B, N): the frames a waveform of that length is made from."""
        frames = waveform.shape[-1] // self.mel_transform.spec.hop_length
        with torch.no_grad():
            return self.mel_transform(waveform)[..., :frames]

    def bind(self, batch: dict[str, Tensor]) -> Bound:
        """The denoiser, told the batch's mels."""
        return self.denoiser.bind(Condition(self.mel(batch["waveform"])))

    def noise(self, batch: dict[str, Tensor]) -> ItemNoise:
        """Noise of the batch's items, from each one's own seed."""
        return ItemNoise(batch["seed"].tolist(), self.device)

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """The objective on a training batch."""
        raise NotImplementedError

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name, without sampling noise: a batch gives the same each time."""
        raise NotImplementedError

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Makes the full training state exportable by itself."""
        checkpoint[CONFIG_KEY] = self.config.to_dict()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, its learning rate stepped after each optimiser step."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
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
