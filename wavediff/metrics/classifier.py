"""Which class a short sound is of, and an embedding in which sounds of a kind lie together; both to judge generators.

Neither the level of a clip nor silence before or after it changes the answer.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import as_waveform, check_bounds
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec, MelTransform
from wavediff.models import WEIGHTS
from wavediff.models.checkpoint import built
from wavediff.models.file import parse_config, read_model_file, write_model_file

BUNDLED = WEIGHTS / "sfx_classifier.safetensors"
HOP_SECONDS = 0.0058  # of the mel's frames; windows are four times as long: clicks are short
RANGE = 60.0  # dB below the loudest band of the clip that the network sees; what is lower counts as silence
TIME_STRIDE = 8  # frames of the mel for each step that is pooled over
MAX_LABELS = 10_000
_BOUNDS = {"width": (2, 4096), "channels": (4, 512), "n_mels": (16, 256), "sample_rate": (4_000, 384_000)}


@dataclasses.dataclass(frozen=True)
class SoundClassifierConfig:
    """Everything that makes a classifier besides its weights.

    Attributes:
        sample_rate: of the waveforms [Hz].
        labels: class names, in the order of their indices.
        width: of the embedding.
        channels: of the first convolution; the last one has four times as many.
        n_mels: bands of the mel, a multiple of 16.

    Raises:
        ConfigError: a value out of bounds, or labels that are fewer than two or not distinct.
    """

    sample_rate: int
    labels: tuple[str, ...]
    width: int = 64
    channels: int = 24
    n_mels: int = 64

    def __post_init__(self) -> None:
        check_bounds(self, "classifier", **_BOUNDS)
        if self.n_mels % 16:
            raise ConfigError(f"classifier.n_mels: {self.n_mels} is no multiple of 16")
        labels = self.labels
        if not isinstance(labels, tuple) or not all(isinstance(label, str) for label in labels):
            raise ConfigError("classifier.labels: is not a list of names")
        if not 2 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels):
            raise ConfigError(f"classifier.labels: {len(labels)} names must be distinct, 2 to {MAX_LABELS} of them")

    @property
    def mel(self) -> MelSpec:
        """The whole band in frames of equal duration, whatever the sample rate; log-mels in dB."""
        hop = 2 * round(HOP_SECONDS * self.sample_rate / 2)
        return MelSpec(
            sample_rate=self.sample_rate,
            n_fft=4 * hop,
            win_length=4 * hop,
            hop_length=hop,
            framing="center",
            pad_mode="constant",
            magnitude_eps=0.0,
            n_mels=self.n_mels,
            f_max=self.sample_rate / 2,
            floor=1e-9,
            log="db",
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON literals; `from_dict` reads them back."""
        return dataclasses.asdict(self) | {"labels": list(self.labels)}

    @classmethod
    def from_dict(cls, data: Any) -> "SoundClassifierConfig":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: a key is unknown, missing, or its value out of bounds.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(data, dict) or set(data) != known or not isinstance(data["labels"], list):
            raise ConfigError(f"classifier: is not a table of {', '.join(sorted(known))}")
        return cls(**(data | {"labels": tuple(data["labels"])}))


class Features(NamedTuple):
    """What the network sees.

    Attributes:
        bands: (B, n_mels, frames) in [0, 1]: 1 is the loudest band of the clip, 0 is `RANGE` dB below it and less.
        valid: (B, frames), from the first frame that is not silent to the last.
    """

    bands: Tensor
    valid: Tensor


class SoundClassifier(nn.Module):
    """Waveform (B, N) -> logits (B, n_classes); and `embed`.

    A convolutional network on the clip's log-mels. What comes before its first and after its last sound is set to
    zero after each layer, as what lies beyond the ends of the spectrogram is, and not pooled: so zeros behind a clip,
    which clips of one batch need, change nothing.
    """

    def __init__(self, config: SoundClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.mel_transform = MelTransform(config.mel)
        c = config.channels
        self.blocks = nn.ModuleList(
            [_Block(1, c, 2), _Block(c, 2 * c, 2), _Block(2 * c, 3 * c, 2), _Block(3 * c, 4 * c, 1)]
        )
        self.mix = nn.Conv1d(4 * c * (config.n_mels // 16), 4 * c, 3, padding=1)
        self.embedding = nn.Linear(8 * c, config.width)
        self.output = nn.Linear(config.width, len(config.labels))

    def features(self, waveform: Tensor) -> Features:
        """Waveform (B, N), any N -> what the network sees of it; digital silence has no valid frame.

        Raises:
            AudioError: not a floating-point waveform (B, N) of finite samples, or N = 0.
        """
        waveform, spec = as_waveform(waveform, dimensions=(2,)), self.config.mel
        peak = waveform.abs().amax(1, keepdim=True)
        # Zeros at the end, so that the last frame of each clip is complete; then a whole number of strides.
        needed = waveform.shape[1] + spec.n_fft
        needed += -needed % (TIME_STRIDE * spec.hop_length)
        padded = F.pad(waveform / peak.clamp(min=1e-9), (0, needed - waveform.shape[1]))
        decibels = self.mel_transform(padded)[..., : needed // spec.hop_length]  # (B, n_mels, frames)
        loudest = decibels.amax((1, 2), keepdim=True)
        bands = ((decibels - loudest) / RANGE + 1).clamp(min=0) * (peak > 1e-9)[..., None]
        sounding = (bands > 0).any(1).int()  # (B, frames)
        valid = (sounding.cummax(1).values * sounding.flip(1).cummax(1).values.flip(1)).bool()
        return Features(bands, valid)

    def embed_features(self, features: Features) -> Tensor:
        """(B, width)"""
        x, valid = features.bands[:, None], features.valid[:, None, None].to(features.bands.dtype)
        for block in self.blocks:
            x, valid = block(x, valid)
        valid = valid[:, 0]  # (B, 1, steps)
        x = (
            F.relu(self.mix(x.flatten(1, 2))) * valid
        )  # (B, 4 channels, steps); not negative: masked steps win no maximum
        mean = x.sum(2) / valid.sum(2).clamp(min=1)
        return self.embedding(torch.cat([mean, x.amax(2)], 1))

    def embed(self, waveform: Tensor) -> Tensor:
        """Waveform (B, N) -> (B, width), what the linear output layer sees.

        Raises:
            AudioError: as `features`.
        """
        return self.embed_features(self.features(waveform))

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (B, N) -> logits (B, n_classes).

        Raises:
            AudioError: as `features`.
        """
        return self.output(self.embed(waveform))


class _Block(nn.Module):
    """Bands are halved, frames are divided by `stride`; (B, C, bands, frames) with a mask (B, 1, 1, frames)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels_in, channels_out, 3, (2, stride), padding=1, bias=False)
        # Over batches: a norm over the clip itself would depend on the silence in it.
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        valid = F.max_pool2d(valid, (1, self.stride))
        return F.relu(self.norm(self.conv(x))) * valid, valid


def save_classifier(
    path: str | os.PathLike[str],
    config: SoundClassifierConfig,
    weights: Mapping[str, Tensor],
    facts: dict[str, Any] | None = None,
    *,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a classifier's model file, atomically; the arguments are those of `checkpoint.save_checkpoint`.

    Raises:
        CheckpointError: a weight is NaN or infinite.
        OutputError: the file exists or cannot be written.
    """
    # What counts batches decides nothing, and half precision does not hold it.
    own = {name: weight for name, weight in weights.items() if not name.endswith("num_batches_tracked")}
    write_model_file(path, "classifier", config.to_dict(), own, facts, half=half, overwrite=overwrite)


class LoadedClassifier(NamedTuple):
    """A classifier in evaluation mode, float32, on the CPU; and the facts of its file, for people to read."""

    classifier: SoundClassifier
    facts: dict[str, Any]


def load_classifier(path: str | os.PathLike[str] | None = None) -> LoadedClassifier:
    """Read, verify and build a classifier.

    Args:
        path: model file; the bundled one, of twelve classes of sound effects, by default.

    Raises:
        CheckpointError: missing, not a classifier's model file, truncated, changed since it was written, of a newer
            format, or with NaN weights.
    """
    path = BUNDLED if path is None else path
    contents = read_model_file(path, "classifier")
    config = parse_config(path, SoundClassifierConfig.from_dict, contents.config)
    classifier = built(lambda: SoundClassifier(config), contents.weights, path, _field_behind)
    return LoadedClassifier(classifier, contents.facts)


def _field_behind(name: str) -> str:
    """The configuration field that sets a weight's shape."""
    if name.startswith("output."):
        return "labels and width"
    if name.startswith("embedding."):
        return "width and channels"
    return "n_mels and channels" if name.startswith("mix.") else "channels"
