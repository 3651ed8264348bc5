"""A vocoder under training, composed of a network, its process and what is minimised."""

import warnings
from typing import Literal

import torch
from torch import Tensor

from wavediff.backbones import BackboneConfig, DiffWaveConfig
from wavediff.diffusion import (
    DiscreteSchedule,
    MelLoss,
    NoiseRegression,
    Objective,
    PriorConfig,
    Schedule,
    SpectralLoss,
)
from wavediff.diffusion.losses import Distance, Loss
from wavediff.errors import ClippingWarning, ConfigError
from wavediff.mel import MelSpec
from wavediff.models.config import ModelConfig
from wavediff.pipelines.vocoder import Vocoder
from wavediff.training.module import LRScheduler, MelDenoiserModule

VALIDATION_STEPS = (1, 4)  # evaluations that validation speech is sampled with
DISTANCES: dict[str, type[SpectralLoss] | type[MelLoss]] = {"spectral": SpectralLoss, "mel": MelLoss}


class VocoderModule(MelDenoiserModule):
    """Any network that takes mels, with any process and objective. By default DiffWave as published.

    A recipe names the class of a part as `class_path`, and its arguments as `init_args`.

    Args:
        mel: dialect of the condition: a preset's name, or all its constants.
        backbone: shape of the network: `DiffWaveConfig` works on samples, `SpectralConfig` on frames; DiffWave BASE by
            default.
        schedule: noise schedule; DiffWave takes a `DiscreteSchedule`.
        prediction: what the network learns to return, "eps" in DiffWave's paper.
        prior: shape of the noise, start of sampling.
        objective: `NoiseRegression` is DiffWave's; `SignalRegression` trains for few steps, and from guesses.
        distance: of estimates from recordings, in `SignalRegression` and its validation.
        learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from: see `DenoiserModule`.

    Raises:
        ConfigError: parts do not fit together; and what `MelDenoiserModule` raises.
    """

    def __init__(
        self,
        mel: str | MelSpec = "hifigan",
        backbone: BackboneConfig | None = None,
        schedule: Schedule = DiscreteSchedule(),  # noqa: B008  frozen
        prediction: Literal["eps", "x0", "v", "velocity"] = "eps",
        prior: PriorConfig = PriorConfig(),  # noqa: B008  frozen
        objective: Objective = NoiseRegression(),  # noqa: B008  frozen
        distance: Literal["spectral", "mel"] = "spectral",
        learning_rate: float = 2e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        lr_scheduler: LRScheduler = "constant",
        compile: bool = False,
        init_from: str | None = None,
    ) -> None:
        spec = MelSpec.preset(mel) if isinstance(mel, str) else mel
        backbone = DiffWaveConfig() if backbone is None else backbone
        config = ModelConfig(backbone, schedule, prediction, prior, spec, spec.sample_rate)
        super().__init__(config, learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from)
        guesses = getattr(objective, "guess_share", 0.0)
        if guesses and self.denoiser.prior is None:
            raise ConfigError(
                f"model.objective.guess_share: {guesses}, but white noise makes no guesses; set 0, or prior.power "
                "above 0"
            )
        self.objective, self.distance = objective, DISTANCES[distance](spec)

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """The objective at drawn times."""
        return self.objective(self.bind(batch), batch["waveform"], batch["length"], self.noise(batch), self.distance)

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The regression at fixed noise levels; or the distance of speech that is sampled with fixed seeds."""
        objective = self.objective
        if not isinstance(objective, NoiseRegression):
            return sampled_losses(self, batch, self.distance)
        process, signal = self.bind(batch), (batch["waveform"], batch["length"])
        return self.losses_at_levels(lambda t: objective(process, *signal, self.noise(batch), t=t), len(batch["seed"]))


def sampled_losses(module: MelDenoiserModule, batch: dict[str, Tensor], distance: Distance) -> dict[str, Tensor]:
    """Distance of the speech that a vocoder samples from a batch's mels with fixed seeds, by number of evaluations."""
    waveform = batch["waveform"]
    valid = torch.arange(waveform.shape[1], device=waveform.device) < batch["length"][:, None]
    vocoder, mel = Vocoder(module.config, module.denoiser), module.mel(batch)
    losses = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClippingWarning)  # a network at its beginning is loud
        for steps in VALIDATION_STEPS:
            speech = vocoder.decode(mel, steps, seed=batch["seed"].tolist(), mel_spec=vocoder.mel_spec)
            losses[f"loss_of_{steps}_steps"] = distance(speech * valid, waveform * valid).mean()
    return losses
