"""The vocoders there are recipes for: a network, its process and what is minimised, in one Lightning module each."""

import warnings
from typing import Literal

import torch
from torch import Tensor

from wavediff.backbones import DiffWaveConfig, SpectralConfig
from wavediff.diffusion import (
    CosineSchedule,
    DiscreteSchedule,
    NoiseRegression,
    PriorConfig,
    SignalRegression,
    SpectralLoss,
)
from wavediff.diffusion.losses import Loss
from wavediff.errors import ClippingWarning
from wavediff.mel import MelSpec
from wavediff.models.config import ModelConfig
from wavediff.pipelines.vocoder import Vocoder
from wavediff.training.module import LRScheduler, VocoderModule

VALIDATION_TIMES = (0.1, 0.3, 0.6, 1.0)  # noise levels the validation loss is reported at, as shares of T
VALIDATION_STEPS = (1, 4)  # evaluations that validation speech is sampled with


class DiffWaveModule(VocoderModule):
    """DiffWave as published; with another prediction or a spectral loss if asked.

    Args:
        mel: dialect of the condition: a preset's name, or all its constants.
        backbone: shape of the network.
        schedule: noise schedule.
        norm: "l2" is the paper's loss, "l1" what the lmnt implementation trains.
        prediction: what the network learns to return, "eps" in the paper.
        spectral_weight: of the multi-resolution STFT and mel loss of the estimate of x_0 beside the regression, which
            is then at any time between the steps too (WaveFM, Luo et al. 2025, arXiv 2503.16689); 0 in the paper.
        learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from: see `VocoderModule`.
    """

    def __init__(
        self,
        mel: str | MelSpec = "hifigan",
        backbone: DiffWaveConfig = DiffWaveConfig(),  # noqa: B008  frozen
        schedule: DiscreteSchedule = DiscreteSchedule(),  # noqa: B008  frozen
        norm: Literal["l2", "l1"] = "l2",
        prediction: Literal["eps", "x0", "v"] = "eps",
        spectral_weight: float = 0.0,
        learning_rate: float = 2e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        lr_scheduler: LRScheduler = "constant",
        compile: bool = False,
        init_from: str | None = None,
    ) -> None:
        spec = _spec(mel)
        config = ModelConfig(backbone, schedule, prediction, mel=spec, sample_rate=spec.sample_rate)
        super().__init__(config, learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from)
        self.schedule, self.objective = schedule, NoiseRegression(norm)
        self.spectral = SignalRegression(spectral_weight, guess_share=0.0) if spectral_weight else None
        self.spectral_loss = SpectralLoss(spec) if spectral_weight else None

    def loss(self, batch: dict[str, Tensor], t: Tensor | None = None) -> Loss:
        """Regression at times t (B,), drawn by default; at drawn times with the spectral loss if there is one."""
        process, prediction, noise = self.bind(batch), self.denoiser.prediction, self.noise(batch)
        waveform, length = batch["waveform"], batch["length"]
        if self.spectral is not None and self.spectral_loss is not None and t is None:
            return self.spectral(process, waveform, length, noise, self.schedule, self.spectral_loss)
        return self.objective(process.predict, waveform, length, noise, self.schedule, prediction, t)

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The regression at fixed noise levels."""
        losses = {}
        for share in VALIDATION_TIMES:
            step = max(1, round(share * self.schedule.num_steps))
            time = step / self.schedule.num_steps
            t = torch.full((len(batch["seed"]),), time, dtype=torch.float64, device=self.device)
            losses[f"loss_at_t{share}"] = self.loss(batch, t).mean
        return losses


class SpectralModule(VocoderModule):
    """The network at frame rate, trained for few steps.

    Args:
        mel: dialect of the condition: a preset's name, or all its constants.
        backbone: shape of the network.
        schedule: of the process.
        prior: shape of the noise, start of sampling.
        objective: shares and weights of the training items.
        learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from: see `VocoderModule`.
    """

    def __init__(
        self,
        mel: str | MelSpec = "hifigan",
        backbone: SpectralConfig = SpectralConfig(),  # noqa: B008  frozen
        schedule: CosineSchedule = CosineSchedule(),  # noqa: B008  frozen
        prior: PriorConfig = PriorConfig(power=0.85, start_time=0.3),  # noqa: B008  frozen
        objective: SignalRegression = SignalRegression(),  # noqa: B008  frozen
        learning_rate: float = 2e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 100,
        lr_scheduler: LRScheduler = "cosine",
        compile: bool = False,
        init_from: str | None = None,
    ) -> None:
        spec = _spec(mel)
        config = ModelConfig(backbone, schedule, "v", prior, spec, spec.sample_rate)
        super().__init__(config, learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from)
        self.objective, self.spectral_loss = objective, SpectralLoss(spec)

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """Signal regression."""
        process, noise, schedule = self.bind(batch), self.noise(batch), self.denoiser.schedule
        return self.objective(process, batch["waveform"], batch["length"], noise, schedule, self.spectral_loss)

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Spectral loss of speech that is sampled from the mels with fixed seeds."""
        return sampled_losses(self, batch, self.spectral_loss)


def sampled_losses(module: VocoderModule, batch: dict[str, Tensor], distance: SpectralLoss) -> dict[str, Tensor]:
    """Distance of the speech that a vocoder samples from a batch's mels with fixed seeds, by number of evaluations."""
    waveform = batch["waveform"]
    valid = torch.arange(waveform.shape[1], device=waveform.device) < batch["length"][:, None]
    vocoder, mel = Vocoder(module.config, module.denoiser), module.mel(batch)
    losses = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClippingWarning)  # a network at its beginning is loud
        for steps in VALIDATION_STEPS:
            speech = vocoder.decode(mel, steps, seed=batch["seed"].tolist())
            losses[f"loss_of_{steps}_steps"] = distance(speech * valid, waveform * valid).mean()
    return losses


def _spec(mel: str | MelSpec) -> MelSpec:
    return MelSpec.preset(mel) if isinstance(mel, str) else mel
