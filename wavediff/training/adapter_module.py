"""A vocoder learns to take mels of another dialect: only the network that adapts them learns."""

import torch
from torch import Tensor

from wavediff.audio import resample
from wavediff.backbones import AdapterConfig
from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.transform import as_spec
from wavediff.pipelines.vocoder import Vocoder
from wavediff.training.dialects import as_predicted, sharing
from wavediff.training.module import LRScheduler
from wavediff.training.part_module import PartModule, mean_over_frames

_EDGE = 3  # frames of the mel at either end, which see beyond the segment


class AdapterModule(PartModule):
    """Trains the network that makes, of mels of a dialect, mels of frames that the vocoder was trained on.

    The loss is the distance of its mel from that of the recording in such frames, in nepers, averaged over bands and
    frames. Batches have the rate of the dialect, whatever that of the vocoder is.

    Args:
        init_from: model file of the vocoder; an adapter for the dialect that it holds goes on learning.
        mel: the dialect: a preset's name, or all its constants.
        bands, channels, layers: shape of the network, see `AdapterConfig`.
        predicted_share: of the batches whose mels are as acoustic models predict them.
        learning_rate, weight_decay, warmup_steps, lr_scheduler: see `TrainingModule`.

    Raises:
        CheckpointError: `init_from` is not an intact model file.
        ConfigError: a value out of bounds; and what `PartModule` raises.
    """

    def __init__(
        self,
        init_from: str,
        mel: str | MelSpec,
        bands: int = 5,
        channels: int = 112,
        layers: int = 5,
        predicted_share: float = 0.0,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 200,
        lr_scheduler: LRScheduler = "cosine",
    ) -> None:
        start, mel = self.start_of(init_from), as_spec(mel, "model.mel")
        if start.config.mel is None:
            raise ConfigError(f"model.init_from: {start.path} takes no mel; give a vocoder")
        n_fft = start.config.n_fft or start.config.mel.n_fft
        own = AdapterConfig.of(mel, n_fft, bands=bands, channels=channels, layers=layers)
        adapters = list(start.config.adapters)
        known = [index for index, adapter in enumerate(adapters) if adapter.takes(mel)]
        self.index = known[0] if known else len(adapters)
        adapters[self.index : self.index + 1] = [own]
        options = (learning_rate, weight_decay, warmup_steps, lr_scheduler)
        super().__init__(start, f"adapters.{self.index}", {"adapters": tuple(adapters)}, *options)
        if not 0 <= predicted_share <= 1:
            raise ConfigError(f"model.predicted_share: {predicted_share} is outside 0 to 1")
        self.predicted_share, self.sample_rate = predicted_share, mel.sample_rate
        self.adapts, self.mel_transform, self.wanted = own, MelTransform(own.mel), MelTransform(own.inner)
        self.mel_spec = own.mel
        self.told = self.config.of_dialect(own.mel)
        self._denoisers = (sharing(self.told, self.denoiser),)  # no part of this module's state

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """The distance of mels, of some batches as if predicted."""
        mel, noise = self.mel(batch), self.noise(batch)
        if noise.uniform()[0] < self.predicted_share:
            mel = as_predicted(mel, self.adapts.mel, noise)
        return self._distance(mel, batch)

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, of mels as they are."""
        return {"loss_of_mels": self._distance(self.mel(batch), batch).mean}

    def heard(self, batch: dict[str, Tensor]) -> Tensor:
        """The speech of mels of the dialect."""
        vocoder = Vocoder(self.told, self._denoisers[0].to(self.device))
        return vocoder.decode(self.mel(batch), seed=0, mel_spec=vocoder.mel_spec)

    def _distance(self, mel: Tensor, batch: dict[str, Tensor]) -> Loss:
        adapter, waveform = self.denoiser.adapters[self.index], batch["waveform"]
        made = adapter(mel)
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            wanted = self.wanted(resample(waveform.float(), self.adapts.mel.sample_rate, self.adapts.inner.sample_rate))
        count = min(made.shape[-1], wanted.shape[-1])  # framing "center" has a frame more, whatever the hop
        distance = (made[..., :count] - wanted[..., :count]).abs().mean(1)
        frames = batch["length"] // self.adapts.mel.hop_length * self.adapts.pieces
        return mean_over_frames(distance, frames, _EDGE * self.adapts.pieces)
