"""Training a sound classifier from a few hundred clips: most of it is how the clips are varied."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.arguments import check_bounds
from wavediff.diffusion import ItemNoise
from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError
from wavediff.metrics.classifier import Features, SoundClassifier, SoundClassifierConfig, save_classifier
from wavediff.models.file import below
from wavediff.training.module import LRScheduler, TrainingModule, labels_of


@dataclass(frozen=True)
class ClipVariation:
    """How training clips are varied, each by draws of its own seed; the level is not, the classifier ignores it.

    Attributes:
        noise_share: of the clips that get white noise.
        noise_level: lowest and highest level of its RMS [dB below the clip's peak].
        shift: most silence put before a clip [s].
        mix_share: of the clips that are mixed with another one of the batch (Zhang et al. 2018, arXiv 1710.09412).
        band_mask: most of the mel bands that are set to silence at once, as a share of them.
        time_mask: most of the clip's frames that are, as a share of them (Park et al. 2019, arXiv 1904.08779).
        dropout: share of the embedding that is left out.

    Raises:
        ConfigError: a value out of bounds.
    """

    noise_share: float = 0.3
    noise_level: tuple[float, float] = (20.0, 60.0)
    shift: float = 0.05
    mix_share: float = 0.0
    band_mask: float = 0.1
    time_mask: float = 0.1
    dropout: float = 0.2

    def __post_init__(self) -> None:
        shares = ("noise_share", "mix_share", "band_mask", "time_mask", "shift")
        check_bounds(self, "model.variation", **dict.fromkeys(shares, (0.0, 1.0)), dropout=(0.0, 0.9))
        if not 0 <= self.noise_level[0] <= self.noise_level[1]:
            raise ConfigError(f"model.variation.noise_level: {self.noise_level} must ascend from 0 dB or above")

    def waveforms(
        self, waveform: Tensor, length: Tensor, targets: Tensor, sample_rate: int, noise: ItemNoise
    ) -> tuple[Tensor, Tensor]:
        """Shifted, noisy and mixed waveforms (B, N), and what they are to be taken for.

        Args:
            waveform: (B, N).
            length: valid samples of each item (B,); behind them are zeros, which stay.
            targets: probability of each class (B, n_classes).
            sample_rate: [Hz].
            noise: of the batch's items.
        """
        place = torch.arange(waveform.shape[1], device=waveform.device)
        waveform = waveform / waveform.abs().amax(1, keepdim=True).clamp(min=1e-9)
        low, high = self.noise_level
        level = 10 ** (-(low + (high - low) * _draw(noise, waveform)) / 20)
        level = torch.where(_draw(noise, waveform) < self.noise_share, level, 0.0) * (place < length[:, None])
        waveform = waveform + level * noise.normal(waveform.shape[1]).to(waveform.device)
        source = place - (_draw(noise, waveform) * self.shift * sample_rate).long()
        waveform = torch.where(source >= 0, waveform.gather(1, source.clamp(min=0)), 0.0)
        chosen, share = _draw(noise, waveform), _draw(noise, waveform)
        share = torch.where(chosen < self.mix_share, share, 1.0)
        mixed = share * waveform + (1 - share) * waveform.roll(1, 0)
        return mixed, share * targets + (1 - share) * targets.roll(1, 0)

    def features(self, features: Features, noise: ItemNoise) -> Features:
        """A range of bands and a range of frames set to silence."""
        bands, valid = features
        count = valid.sum(1, keepdim=True)
        first = valid.int().argmax(1, keepdim=True)
        frames = _range(noise, bands, bands.shape[2], count, self.time_mask, first)
        rows = _range(noise, bands, bands.shape[1], torch.full_like(count, bands.shape[1]), self.band_mask, 0)
        return Features(bands * ~frames[:, None] * ~rows[..., None], valid)

    def embeddings(self, embedding: Tensor, noise: ItemNoise) -> Tensor:
        """Dropout (B, width)."""
        uniform = torch.special.ndtr(noise.normal(embedding.shape[1])).to(embedding.device)
        return embedding * (uniform >= self.dropout) / (1 - self.dropout)


def _draw(noise: ItemNoise, like: Tensor) -> Tensor:
    """(B, 1), uniform in [0, 1)."""
    return noise.uniform()[:, None].to(like, non_blocking=True)


def _range(noise: ItemNoise, like: Tensor, size: int, count: Tensor, share: float, first: Tensor | int) -> Tensor:
    """(B, size): a range of up to `share` of the `count` (B, 1) places from `first` on."""
    width = _draw(noise, like) * share * count
    start = first + _draw(noise, like) * (count - width)
    place = torch.arange(size, device=like.device)
    return (place >= start) & (place < start + width)


class ClassifierModule(TrainingModule):
    """Trains a sound classifier by cross-entropy.

    Args:
        labels: class names in the order of their indices, or a manifest they are read from; see `labels_of`.
        sample_rate: of the waveforms [Hz].
        width, channels, n_mels: see `SoundClassifierConfig`.
        variation: how the clips are varied.
        label_smoothing: share of the target that all classes have alike.
        balance: clips count in proportion to the number of their class's to the power of minus this: 0 all alike,
            1 all classes alike.
        learning_rate, weight_decay, warmup_steps, lr_scheduler: see `TrainingModule`.

    Raises:
        ConfigError: a value out of bounds.
        DataError: `labels` names a file that is no manifest with labels.
    """

    class_weight: Tensor

    def __init__(
        self,
        labels: str | list[str],
        sample_rate: int = 22050,
        width: int = 64,
        channels: int = 24,
        n_mels: int = 64,
        variation: ClipVariation = ClipVariation(),
        label_smoothing: float = 0.1,
        balance: float = 0.0,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 50,
        lr_scheduler: LRScheduler = "cosine",
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup_steps, lr_scheduler)
        if not 0 <= label_smoothing < 1 or not 0 <= balance <= 1:
            raise ConfigError(f"model: label_smoothing {label_smoothing} and balance {balance} must lie in [0, 1]")
        self.sample_rate, self.labels = sample_rate, labels_of(labels)
        self.config = SoundClassifierConfig(sample_rate, self.labels, width, channels, n_mels)
        self.classifier = SoundClassifier(self.config)
        self.variation, self.label_smoothing, self.balance = variation, label_smoothing, balance
        self.register_buffer("class_weight", torch.ones(len(self.labels)), persistent=False)

    def on_fit_start(self) -> None:
        """Weigh the classes by how many clips of each there are; the mean weight of a clip is 1."""
        if not self.balance:
            return
        indices = self.trainer.datamodule.train_dataset.label_indices  # type: ignore[attr-defined]
        counts = torch.bincount(torch.tensor(indices), minlength=len(self.labels)).float().clamp(min=1)
        weight = counts**-self.balance
        self.class_weight.copy_(weight * counts.sum() / (weight * counts).sum())

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """Cross-entropy on varied clips."""
        noise, variation = self.noise(batch), self.variation
        targets = F.one_hot(batch["label"], len(self.labels)).float()
        waveform, targets = variation.waveforms(batch["waveform"], batch["length"], targets, self.sample_rate, noise)
        features = variation.features(self.classifier.features(waveform), noise)
        embedding = variation.embeddings(self.classifier.embed_features(features), noise)
        logits = self.classifier.output(embedding).float()
        per_item = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing, reduction="none")
        per_item = per_item * (targets @ self.class_weight)
        return Loss(per_item.mean(), per_item.detach(), torch.zeros_like(per_item))

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy on the clips as they are."""
        return {"cross_entropy": F.cross_entropy(self.classifier(batch["waveform"]).float(), batch["label"])}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Logs the accuracy besides."""
        super().validation_step(batch, batch_idx)
        right = (self.classifier(batch["waveform"]).argmax(1) == batch["label"]).float().mean()
        self.log("valid/accuracy", right, prog_bar=True, batch_size=len(batch["seed"]), sync_dist=True)

    def export(self, path: Path, weights: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """A model file of the classifier."""
        save_classifier(path, self.config, below(weights, "classifier."), facts, overwrite=True)
