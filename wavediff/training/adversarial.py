"""A trained vocoder goes on learning, against critics that tell its speech from recordings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from wavediff.diffusion import SignalRegression, SpectralLoss
from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError
from wavediff.models.checkpoint import check_weights
from wavediff.models.file import read_model_file, write_model_file
from wavediff.training.critics import CriticConfig, Critics
from wavediff.training.dialects import Dialects
from wavediff.training.module import LRScheduler, MelDenoiserModule
from wavediff.training.vocoder_module import DISTANCES, sampled_losses

CRITICS_FILE = "critics.safetensors"
OPTIMIZER_KEY = "wavediff_critic_optimizer"  # in a training checkpoint


class AdversarialModule(MelDenoiserModule):
    """Fine-tunes the sampler of a vocoder as it is run: from its guess, over one or two evaluations.

    A regression answers with the mean of all that a mel allows, which is smooth where the mel says little. Critics
    hear the difference. The few-step sampler is unrolled and trained as one generator (PeriodWave-Turbo, Lee et al.
    2024, arXiv 2408.08019); the spectral loss stays as an anchor.

    Args:
        init_from: model file of the vocoder, any that starts from a guess; network and process are its own.
        start: the items that are trained: times, Griffin-Lim iterations, share of second evaluations; all of them
            start from a guess.
        critics: which spectra the critics hear.
        critics_from: `critics.safetensors` of an earlier run, which it writes beside its model. Fresh critics, the
            default, cost the vocoder some hundred steps in which it sounds worse than before.
        adversarial_weight: of the critics' scores, beside the spectral loss.
        feature_weight: of the critics' features.
        critic_learning_rate: of AdamW, for the critics.
        critic_lead: steps that the critics learn alone, while the vocoder has the spectral loss only.
        dialects: presets whose mels are told, one drawn for each batch; the model's own alone by default.
        predicted_share: of the batches whose mels are told as acoustic models predict them.
        anchor: the distance that `start.spectral_weight` weighs: "spectral" where the start's harmonics lie where the
            recording's do, "mel" where they nearly do (a weight of 2 was tried).
        learning_rate, weight_decay, warmup_steps, lr_scheduler, compile: see `MelDenoiserModule`.

    Raises:
        CheckpointError: `init_from` is not an intact model file, or `critics_from` none of such critics.
        ConfigError: it starts from noise alone, or a value is out of bounds; and what `MelDenoiserModule` raises.
    """

    def __init__(
        self,
        init_from: str,
        start: SignalRegression = SignalRegression(  # noqa: B008  frozen
            guess_share=1.0,
            guess_time=0.2,
            least_guess_time=0.1,
            phase_iterations=80,
            least_phase_iterations=30,
            second_step_share=0.4,
        ),
        critics: CriticConfig = CriticConfig(),  # noqa: B008  frozen
        critics_from: str | None = None,
        adversarial_weight: float = 0.1,
        feature_weight: float = 0.3,
        critic_learning_rate: float = 3e-4,
        critic_lead: int = 150,
        dialects: Sequence[str] = (),
        predicted_share: float = 0.0,
        anchor: Literal["spectral", "mel"] = "spectral",
        learning_rate: float = 5e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 200,
        lr_scheduler: LRScheduler = "cosine",
        compile: bool = False,
    ) -> None:
        config = self.start_of(init_from).config
        if config.prior.start_time == 1 or start.guess_share != 1:
            raise ConfigError(
                f"model.start.guess_share: {start.guess_share} with {init_from}, which starts at "
                f"{config.prior.start_time}; this training needs guesses alone (1.0), and a model that makes them"
            )
        if min(adversarial_weight, feature_weight, critic_lead) < 0 or not 0 < critic_learning_rate < 1:
            raise ConfigError(
                f"model: adversarial_weight {adversarial_weight}, feature_weight {feature_weight} and critic_lead "
                f"{critic_lead} must not be negative, critic_learning_rate {critic_learning_rate} lie in (0, 1)"
            )
        super().__init__(config, learning_rate, weight_decay, warmup_steps, lr_scheduler, compile, init_from)
        self.start, self.spectral_loss = start, SpectralLoss(self.mel_transform.spec)
        self.adversarial_weight, self.feature_weight, self.critic_lead = adversarial_weight, feature_weight, critic_lead
        self.dialects = Dialects(config, self.denoiser, dialects, predicted_share, DISTANCES[anchor])
        # The trainer's optimiser takes what asks for gradients; the critics have one of their own.
        self.critics = Critics(critics, config.sample_rate)
        if critics_from is not None:
            weights = read_model_file(critics_from, "critics").weights
            check_weights(weights, self.critics.state_dict(), critics_from, lambda name: "critics")
            self.critics.load_state_dict(weights)
        self.critics.requires_grad_(False)
        self._critic_optimizer = torch.optim.AdamW(self.critics.parameters(), critic_learning_rate, (0.8, 0.99))
        self._critic_state: dict[str, Any] | None = None

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """The spectral loss of the estimates, and what the critics say; the critics learn here too."""
        noise = self.noise(batch)
        told = self.dialects.tell(batch, noise)
        x_0, process = told.waveform, told.bound
        x_t, t, _ = self.start.noisy(process, x_0, noise)
        valid = torch.arange(x_0.shape[1], device=self.device) < told.lengths[:, None]
        made, recorded = process.finished(process(x_t, t).float()) * valid, x_0 * valid
        per_item = self.start.spectral_weight * told.distance(made, recorded)
        mean = per_item.mean()
        distinction = self._teach_critics(recorded, made)
        if self.global_step >= self.critic_lead:
            score, features = self.critics.persuasion(recorded, made)
            mean = mean + self.adversarial_weight * score + self.feature_weight * features
            losses = {"spectral": per_item.mean(), "critics": distinction, "score": score, "features": features}
            for name, value in losses.items():
                self.log(f"train/{name}", value.detach(), batch_size=len(x_0))
        return Loss(mean, per_item.detach(), t)

    def _teach_critics(self, recorded: Tensor, made: Tensor) -> Tensor:
        self.critics.requires_grad_(True)
        distinction = self.critics.distinction(recorded, made)
        self._critic_optimizer.zero_grad()
        distinction.backward()
        gradients = [weight.grad for weight in self.critics.parameters() if weight.grad is not None]
        if self.trainer.world_size > 1:
            for gradient in gradients:
                gradient.copy_(cast(Tensor, self.all_gather(gradient)).mean(0))
        if torch.nn.utils.get_total_norm(gradients).isfinite():  # one look for all
            self._critic_optimizer.step()
        self.critics.requires_grad_(False)
        return distinction.detach()

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Spectral loss of sampled speech. It watches the anchor; how it sounds is for `wavediff evaluate` to say."""
        return sampled_losses(self, batch, self.spectral_loss)

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """A model file of the vocoder, and `critics.safetensors` beside it."""
        super().export(path, weights, facts)
        weights = self.critics.state_dict()
        write_model_file(path.with_name(CRITICS_FILE), "critics", {}, weights, half=True, overwrite=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The critics' optimiser goes on, too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[OPTIMIZER_KEY] = self._critic_optimizer.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps it until the weights are where they are trained: an optimiser loads its state to where they are."""
        self._critic_state = checkpoint[OPTIMIZER_KEY]

    def on_fit_start(self) -> None:
        """Restores it."""
        super().on_fit_start()
        if self._critic_state is not None:
            self._critic_optimizer.load_state_dict(self._critic_state)
            self._critic_state = None  # a later fit goes on from where this one ends
