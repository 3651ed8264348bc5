"""Models that generate sounds: waveforms or latents, free or by class."""

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from wavediff.backbones import BackboneConfig, Condition, UNetConfig
from wavediff.diffusion import CosineSchedule, NoiseRegression, Schedule
from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError
from wavediff.models.checkpoint import Checkpoint, load_checkpoint
from wavediff.models.config import ModelConfig
from wavediff.models.denoiser import Bound
from wavediff.pipelines.autoencoder import Autoencoder
from wavediff.pipelines.generator import Generator
from wavediff.training.autoencoder_modules import autoencoder_of
from wavediff.training.module import DenoiserModule, LRScheduler, labels_of

HEARD_STEPS = 20  # of what is logged in training: enough to tell what a model does


class SoundModule(DenoiserModule):
    """Trains a denoiser that has no mel, on waveforms or in the latents of an autoencoder. By default a U-Net.

    A recipe names the class of a part as `class_path`, and its arguments as `init_args`. What lies behind the end of a
    clip is silence, and learned as such.

    Args:
        sample_rate: of the sounds [Hz].
        labels: class names in the order of their indices, or a manifest (.jsonl) whose labels they are; none for a
            model without classes.
        autoencoder: model file of the autoencoder in whose latents the model works, or of a generator that has one (as
            "bundled"); waveforms by default.
        backbone: shape of the network: `UNetConfig`, or `DiffWaveConfig` (sections 5.2 and 5.3 of its paper).
        schedule: of the process; `FlowSchedule` with "velocity" is flow matching (rectified flow); DiffWave takes a
            `DiscreteSchedule`.
        prediction: what the network learns to return.
        objective: of the training.
        label_dropout: share of the items that are trained without their label, for classifier-free guidance.
        learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from: see `DenoiserModule`.

    Raises:
        CheckpointError: `autoencoder` is not an intact model file.
        DataError: `labels` is a manifest that is damaged.
        ConfigError: it is no autoencoder, or a value out of bounds; and what `DenoiserModule` raises.
    """

    def __init__(
        self,
        sample_rate: int = 22050,
        labels: list[str] | str = [],  # noqa: B006  never changed
        autoencoder: str | None = None,
        backbone: BackboneConfig | None = None,
        schedule: Schedule = CosineSchedule(),  # noqa: B008  frozen
        prediction: Literal["eps", "x0", "v", "velocity"] = "v",
        objective: NoiseRegression = NoiseRegression(),  # noqa: B008  frozen
        label_dropout: float = 0.1,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 500,
        lr_scheduler: LRScheduler = "cosine",
        compile: bool = False,
        init_from: str | None = None,
    ) -> None:
        if not 0 <= label_dropout < 1:
            raise ConfigError(f"model.label_dropout: {label_dropout} is outside [0, 1)")
        backbone = UNetConfig() if backbone is None else backbone
        config = ModelConfig(backbone, schedule, prediction, sample_rate=sample_rate, labels=labels_of(labels))
        pretransform = None if autoencoder is None else autoencoder_of(autoencoder)
        if pretransform is not None:
            config = dataclasses.replace(config, pretransform=pretransform.config)
        super().__init__(config, learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from)
        if pretransform is not None and self.denoiser.pretransform is not None:
            self.denoiser.pretransform.load_state_dict(pretransform.build().state_dict())
            # Lightning trains in the modes that it finds, without a call of `train`.
            self.denoiser.pretransform.requires_grad_(False).eval()
        self.label_dropout, self.objective = label_dropout, objective
        self._autoencoder: Autoencoder | None = None

    @classmethod
    def start_of(cls, source: str) -> Checkpoint:
        """The generator that `init_from` names."""
        return load_checkpoint(Generator.model_path(source))

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

    def _bind(self, label: Tensor | None, variation: Tensor | None) -> Bound:
        return self.denoiser.bind(Condition(label=label, variation=variation))

    def loss(self, batch: dict[str, Tensor], t: Tensor | None = None) -> Loss:
        """Regression at times t (B,), drawn by default; labels are dropped only then."""
        noise, x_0 = self.noise(batch), self.signal(batch["waveform"])
        label = batch["label"] if self.labels else None
        if label is not None and t is None:
            dropped = noise.uniform().to(label.device, non_blocking=True) < self.label_dropout
            label = torch.where(dropped, len(self.labels), label)
        lengths = torch.full((len(x_0),), x_0.shape[1], device=x_0.device)
        variation = batch.get("variation") if self.config.backbone.augmented else None
        return self.objective(self._bind(label, variation), x_0, lengths, noise, t=t)

    def heard(self, batch: dict[str, Tensor]) -> Tensor:
        """Sounds of their classes, of their length, in a few steps."""
        labels = [self.labels[index] for index in batch["label"].tolist()] if self.labels else None
        count, length = batch["waveform"].shape
        generator = Generator(self.config, self.denoiser)
        return generator.generate(count, length / self.sample_rate, labels, num_steps=HEARD_STEPS)

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss at fixed times."""
        return self.losses_at_levels(lambda t: self.loss(batch, t), len(batch["seed"]))
