"""A vocoder takes mels with frames of 20 ms: only the network that makes two frames of each learns."""

import torch
from torch import Tensor

from wavediff.backbones import HalvingConfig
from wavediff.backbones.halving import LONG, SHORT
from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError
from wavediff.mel import MelTransform
from wavediff.pipelines.vocoder import Vocoder
from wavediff.training.dialects import as_predicted, sharing
from wavediff.training.module import LRScheduler
from wavediff.training.part_module import PartModule, mean_over_frames

_EDGE = 6  # frames at either end, which see beyond the segment


class HalvingModule(PartModule):
    """Trains the network that makes mels of short frames of those of long ones, as "cosyvoice2" has them.

    The loss is the distance of its mel from that of the recording in short frames, in nepers, averaged over bands and
    frames. Batches have the rate of those mels, 24 kHz, whatever that of the vocoder is.

    Args:
        init_from: model file of the vocoder; a network that halves frames and that it holds goes on learning.
        halving: shape of the network; by default that of the file, or as `HalvingConfig` has it.
        predicted_share: of the batches whose mels are as acoustic models predict them.
        learning_rate, weight_decay, warmup_steps, lr_scheduler: see `TrainingModule`.

    Raises:
        CheckpointError: `init_from` is not an intact model file.
        ConfigError: a value out of bounds; and what `PartModule` raises.
    """

    def __init__(
        self,
        init_from: str,
        halving: HalvingConfig | None = None,
        predicted_share: float = 0.0,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 200,
        lr_scheduler: LRScheduler = "cosine",
    ) -> None:
        start = self.start_of(init_from)
        halving = halving or start.config.halving or HalvingConfig()
        super().__init__(start, "halving", halving, learning_rate, weight_decay, warmup_steps, lr_scheduler)
        if not 0 <= predicted_share <= 1:
            raise ConfigError(f"model.predicted_share: {predicted_share} is outside 0 to 1")
        self.predicted_share, self.sample_rate = predicted_share, LONG.sample_rate
        self.mel_spec, self.mel_transform, self.wanted = LONG, MelTransform(LONG), MelTransform(SHORT)
        self.told = self.config.of_dialect(LONG)
        self._denoisers = (sharing(self.config, self.denoiser, LONG),)  # no part of this module's state

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """The distance of mels, of some batches as if predicted."""
        mel, noise = self.mel(batch), self.noise(batch)
        if noise.uniform()[0] < self.predicted_share:
            mel = as_predicted(mel, LONG, noise)
        return self._distance(mel, batch)

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, of mels as they are."""
        return {"loss_of_mels": self._distance(self.mel(batch), batch).mean}

    def heard(self, batch: dict[str, Tensor]) -> Tensor:
        """The speech of mels with long frames."""
        vocoder = Vocoder(self.told, self._denoisers[0].to(self.device))
        return vocoder.decode(self.mel(batch), seed=0, mel_spec=vocoder.mel_spec)

    def _distance(self, mel: Tensor, batch: dict[str, Tensor]) -> Loss:
        halving = self.denoiser.halving
        if halving is None:
            raise AssertionError("the network of this module halves frames")
        made, waveform = halving(mel), batch["waveform"]
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            wanted = self.wanted(waveform.float())[..., : made.shape[-1]]
        distance = (made - wanted).abs().mean(1)
        return mean_over_frames(distance, batch["length"] // SHORT.hop_length, _EDGE)
