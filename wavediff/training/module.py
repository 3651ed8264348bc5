"""A mel vocoder under training."""

import math
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor

from wavediff.backbones import Condition, DiffWaveConfig
from wavediff.diffusion import DiscreteSchedule, ItemNoise, NoiseRegression
from wavediff.diffusion.objectives import Loss
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec, MelTransform
from wavediff.model import ModelConfig, build_denoiser
from wavediff.training.checkpoint_io import CONFIG_KEY

VALIDATION_TIMES = (0.1, 0.3, 0.6, 1.0)  # noise levels the validation loss is reported at, as shares of T


class VocoderModule(LightningModule):
    """Trains a denoiser conditioned on mels that are computed from each batch, on its device.

    Args:
        mel: dialect of the condition: a preset's name, or all its constants.
        backbone: shape of the network.
        schedule: noise schedule.
        norm: "l2" is the paper's loss, "l1" what the lmnt implementation trains.
        learning_rate: peak, of AdamW.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps over which the learning rate rises from zero.
        lr_scheduler: after the warm-up: "constant", or "cosine" down to a hundredth at the last step.
        compile: compile the network with torch.compile (needs a C++ compiler on CPUs).
    """

    def __init__(
        self,
        mel: str | MelSpec = "hifigan",
        backbone: DiffWaveConfig = DiffWaveConfig(),  # noqa: B008  frozen
        schedule: DiscreteSchedule = DiscreteSchedule(),  # noqa: B008  frozen
        norm: Literal["l2", "l1"] = "l2",
        learning_rate: float = 2e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        lr_scheduler: Literal["constant", "cosine"] = "constant",
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < learning_rate < 1 or weight_decay < 0 or warmup_steps < 0:
            raise ConfigError(
                f"model: learning_rate {learning_rate} must lie in (0, 1), weight_decay {weight_decay} and "
                f"warmup_steps {warmup_steps} must not be negative"
            )
        spec = MelSpec.preset(mel) if isinstance(mel, str) else mel
        self.config = ModelConfig(backbone=backbone, schedule=schedule, mel=spec, sample_rate=spec.sample_rate)
        self.denoiser = build_denoiser(self.config)
        self.mel_transform = MelTransform(spec)
        self.objective = NoiseRegression(norm)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_steps, self.lr_scheduler = warmup_steps, lr_scheduler
        if compile:
            self.denoiser.backbone.compile()

    def mel(self, waveform: Tensor) -> Tensor:
        """Mel (B, n_mels, N // hop_length) of (B, N): the frames a waveform of that length is made from."""
        frames = waveform.shape[-1] // self.mel_transform.spec.hop_length
        with torch.no_grad():
            return self.mel_transform(waveform)[..., :frames]

    def loss(self, batch: dict[str, Tensor], t: Tensor | None = None) -> Loss:
        """The objective on a batch; noise and times come from each item's own seed."""
        backbone = self.denoiser.backbone
        prepared = backbone.prepare(Condition(self.mel(batch["waveform"])))  # type: ignore[operator]
        return self.objective(
            lambda x_t, t: backbone(x_t, t, prepared),
            batch["waveform"],
            batch["length"],
            ItemNoise(batch["seed"].tolist(), self.device),
            self.denoiser.schedule,
            self.denoiser.prediction,
            t,
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = self.loss(batch)
        self.log("train/loss", loss.mean, prog_bar=True, batch_size=len(batch["seed"]))
        return loss.mean

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss at fixed noise levels, the same noise each time: its curve has no sampling noise."""
        size = len(batch["seed"])
        losses = []
        for share in VALIDATION_TIMES:
            step = max(1, round(share * self.denoiser.schedule.num_steps))
            t = torch.full((size,), step / self.denoiser.schedule.num_steps, dtype=torch.float64, device=self.device)
            losses.append(self.loss(batch, t).mean)
            self.log(f"valid/loss_at_t{share}", losses[-1], batch_size=size, sync_dist=True)
        self.log("valid/loss", torch.stack(losses).mean(), prog_bar=True, batch_size=size, sync_dist=True)

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
