"""Models that generate sounds: waveforms or latents, free or by class."""

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from wavediff.backbones import Condition, DiffWaveConfig, UNetConfig
from wavediff.diffusion import CosineSchedule, DiscreteSchedule, FlowSchedule, NoiseRegression
from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError
from wavediff.models.config import ModelConfig
from wavediff.models.denoiser import Bound
from wavediff.pipelines.autoencoder import Autoencoder
from wavediff.training.autoencoder_modules import autoencoder_of
from wavediff.training.labels import labels_of
from wavediff.training.module import DenoiserModule, LRScheduler
from wavediff.training.vocoder_modules import VALIDATION_TIMES


class SoundModule(DenoiserModule):
    """Trains a denoiser that has no mel, on waveforms or in the latents of an autoencoder.

    Subclasses say which network. What lies behind the end of a clip is silence, and learned as such.

    Args:
        config: of the model, without pretransform and default length.
        autoencoder: model file of the autoencoder in whose latents the model works, or of a generator that has one;
            None for waveforms.
        label_dropout: share of the items that are trained without their label, for classifier-free guidance.
        norm: of the regression.
        options: the other arguments of `DenoiserModule`.

    Raises:
        CheckpointError: `autoencoder` is not a sound model file.
        ConfigError: it is no autoencoder, or a value out of bounds; and what `DenoiserModule` raises.
    """

    def __init__(
        self,
        config: ModelConfig,
        autoencoder: str | None,
        label_dropout: float,
        norm: Literal["l2", "l1"],
        *options: Any,
    ) -> None:
        if not 0 <= label_dropout < 1:
            raise ConfigError(f"model.label_dropout: {label_dropout} is outside [0, 1)")
        pretransform = None if autoencoder is None else autoencoder_of(autoencoder)
        if pretransform is not None:
            config = dataclasses.replace(config, pretransform=pretransform.config)
        super().__init__(config, *options)
        if pretransform is not None and self.denoiser.pretransform is not None:
            self.denoiser.pretransform.load_state_dict(pretransform.build().state_dict())
            # Lightning trains in the modes that it finds, without a call of `train`.
            self.denoiser.pretransform.requires_grad_(False).eval()
        self.label_dropout, self.objective = label_dropout, NoiseRegression(norm)
        self._autoencoder: Autoencoder | None = None

    def train(self, mode: bool = True) -> "SoundModule":
        """The autoencoder is never trained here: its statistics stay."""
        super().train(mode)
        if self.denoiser.pretransform is not None:
            self.denoiser.pretransform.eval()
        return self

    def on_fit_start(self) -> None:
        """A model generates by default what is as long as its training segments."""
        length = getattr(getattr(self.trainer, "datamodule", None), "segment_length", 0)
        self.config = dataclasses.replace(self.config, default_length=length)

    def signal(self, waveform: Tensor) -> Tensor:
        """What is diffused: the waveform (B, N), or its latents (B, L * channels)."""
        if self.denoiser.pretransform is None:
            return waveform
        if self._autoencoder is None or self._autoencoder.device != self.device:
            self._autoencoder = Autoencoder(self.denoiser.pretransform)
        with torch.autocast(self.device.type, enabled=False):
            return self._autoencoder.encode(waveform)

    def _bind(self, label: Tensor | None) -> Bound:
        return self.denoiser.bind(Condition(label=label))

    def loss(self, batch: dict[str, Tensor], t: Tensor | None = None) -> Loss:
        """Regression at times t (B,), drawn by default; labels are dropped only then."""
        noise, x_0 = self.noise(batch), self.signal(batch["waveform"])
        label = batch["label"] if self.labels else None
        if label is not None and t is None:
            dropped = noise.uniform().to(label.device) < self.label_dropout
            label = torch.where(dropped, len(self.labels), label)
        lengths = torch.full((len(x_0),), x_0.shape[1], device=x_0.device)
        denoiser = self.denoiser
        predict = self._bind(label).predict
        return self.objective(predict, x_0, lengths, noise, denoiser.schedule, denoiser.prediction, t)

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss at fixed times."""
        losses = {}
        for time in VALIDATION_TIMES:
            t = torch.full((len(batch["seed"]),), time, dtype=torch.float64, device=self.device)
            losses[f"loss_at_t{time}"] = self.loss(batch, t).mean
        return losses


class UNetModule(SoundModule):
    """The 1-D U-Net in continuous time.

    Args:
        sample_rate: of the sounds [Hz].
        labels: class names in the order of their indices, or a manifest (.jsonl) whose labels they are; none for a
            model without classes.
        autoencoder: model file in whose latents the model works; waveforms by default.
        backbone: shape of the network.
        schedule: of the process; `FlowSchedule` with "velocity" is flow matching (rectified flow).
        prediction: what the network learns to return.
        label_dropout: see `SoundModule`.
        learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from: see `DenoiserModule`.
    """

    def __init__(
        self,
        sample_rate: int = 22050,
        labels: list[str] | str = [],  # noqa: B006  never changed
        autoencoder: str | None = None,
        backbone: UNetConfig = UNetConfig(),  # noqa: B008  frozen
        schedule: CosineSchedule | FlowSchedule = CosineSchedule(),  # noqa: B008  frozen
        prediction: Literal["v", "x0", "velocity"] = "v",
        label_dropout: float = 0.1,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 500,
        lr_scheduler: LRScheduler = "cosine",
        compile: bool = False,
        init_from: str | None = None,
    ) -> None:
        config = ModelConfig(backbone, schedule, prediction, sample_rate=sample_rate, labels=labels_of(labels))
        options = (learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from)
        super().__init__(config, autoencoder, label_dropout, "l2", *options)


class DiffWaveSoundModule(SoundModule):
    """DiffWave without a mel: free or by class, section 5.2 and 5.3 of the paper.

    Args:
        sample_rate, labels, autoencoder: see `UNetModule`.
        backbone: shape of the network.
        schedule: of the process.
        label_dropout: see `SoundModule`; 0 in the paper.
        norm: "l2" is the paper's loss.
        learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from: see `DenoiserModule`.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        labels: list[str] | str = [],  # noqa: B006  never changed
        autoencoder: str | None = None,
        backbone: DiffWaveConfig = DiffWaveConfig(),  # noqa: B008  frozen
        schedule: DiscreteSchedule = DiscreteSchedule(200, 1e-4, 0.02),  # noqa: B008  frozen
        label_dropout: float = 0.1,
        norm: Literal["l2", "l1"] = "l2",
        learning_rate: float = 2e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        lr_scheduler: LRScheduler = "constant",
        compile: bool = False,
        init_from: str | None = None,
    ) -> None:
        config = ModelConfig(backbone, schedule, sample_rate=sample_rate, labels=labels_of(labels))
        options = (learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from)
        super().__init__(config, autoencoder, label_dropout, norm, *options)
