"""A vocoder's mels are inverted better: only the network that improves their pseudo-inverse learns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wavediff.backbones import InversionConfig
from wavediff.diffusion.losses import Loss
from wavediff.models.denoiser import Bound
from wavediff.training.dialects import Dialects
from wavediff.training.module import LRScheduler
from wavediff.training.part_module import PartModule, mean_over_frames

_LEAST = 0.02  # of a frame's largest magnitude, below which the frame counts less
_EDGE = 2  # frames at either end, which see beyond the segment


class InversionModule(PartModule):
    """Trains the network between a mel's pseudo-inverse and the phases that are found for it.

    The loss is the distance of its magnitude from that of the recording, |S - |X|| summed over its bins, divided by the
    largest of |X| in the frame, so that soft speech counts as much as loud speech. All else in the vocoder stays.

    Args:
        init_from: model file of the vocoder; a network for its mels that it holds goes on learning.
        inversion: shape of the network; by default that of the file, or as `InversionConfig` has it.
        dialects: presets whose mels it learns from, one drawn for each batch; the model's own alone by default.
        predicted_share: of the batches whose mels are as acoustic models predict them.
        learning_rate, weight_decay, warmup_steps, lr_scheduler: see `TrainingModule`.

    Raises:
        CheckpointError: `init_from` is not an intact model file.
        ConfigError: a value is out of bounds; and what `PartModule` raises.
    """

    def __init__(
        self,
        init_from: str,
        inversion: InversionConfig | None = None,
        dialects: Sequence[str] = (),
        predicted_share: float = 0.0,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 200,
        lr_scheduler: LRScheduler = "cosine",
    ) -> None:
        start = self.start_of(init_from)
        inversion = inversion or start.config.inversion or InversionConfig()
        options = (learning_rate, weight_decay, warmup_steps, lr_scheduler)
        super().__init__(start, "inversion", {"inversion": inversion}, *options)
        self.bins = inversion.bands * inversion.width
        self.dialects = Dialects(self.config, self.denoiser, dialects, predicted_share)

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """The distance of magnitudes, of mels of a drawn dialect."""
        told = self.dialects.tell(batch, self.noise(batch))
        return self._distance(told.bound, told.waveform, told.lengths)

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, of mels of the model's own dialect."""
        return {"loss_of_magnitudes": self._distance(self.bind(batch), batch["waveform"], batch["length"]).mean}

    def _distance(self, bound: Bound, waveform: Tensor, lengths: Tensor) -> Loss:
        prior, made = bound.denoiser.prior, bound.cond.magnitude
        if prior is None or made is None:
            raise AssertionError("the prior of this module is shaped by a mel")
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            wanted = prior.stft.analysis(waveform.float()).abs()[..., : self.bins]
        peak = wanted.amax(-1, keepdim=True).clamp(min=_LEAST)
        distance = ((made[..., : self.bins] - wanted).abs() / peak).sum(-1)
        return mean_over_frames(distance, lengths // prior.stft.hop_length, _EDGE)
