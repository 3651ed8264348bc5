"""What a network is told beside the noisy signal, and how a mel reaches the sample rate."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.errors import ConfigError

LEAKY_SLOPE = 0.4  # DiffWave, section 5.1, after each upsampling layer
MAX_UPSAMPLE_FACTOR = 64
VARIATION_FEATURES = 6  # numbers that tell how an item of training was varied


class BackboneConfig:
    """Shape of a network. Subclasses are frozen dataclasses of numbers, names and truth values.

    `augmented` says whether the network is told how an item of training was varied; a field of those that can be.
    """

    augmented = False


@dataclass(frozen=True)
class Condition:
    """The condition of a batch; what a model does not use stays None.

    Attributes:
        mel: (B, n_mels, frames), in the model's own dialect.
        label: class indices (B,), int64; the number of classes stands for none of them.
        envelope: (B, frames, n_fft // 2 + 1), magnitude of the noise, where the prior shapes it by the mel.
        magnitude: (B, frames, n_fft // 2 + 1), the mel's pseudo-inverse; comes with `envelope`.
        variation: (B, VARIATION_FEATURES), how items of training were varied, for a network that is told; 0 and None
            mean "not at all".
    """

    mel: Tensor | None = None
    label: Tensor | None = None
    envelope: Tensor | None = None
    magnitude: Tensor | None = None
    variation: Tensor | None = None


def upsample_factors(hop_length: int) -> tuple[int, int]:
    """The two factors of `hop_length` closest to each other, smaller first: 256 -> (16, 16).

    Raises:
        ConfigError: one factor would exceed 64, as for a large prime.
    """
    small = next(factor for factor in range(int(hop_length**0.5), 0, -1) if hop_length % factor == 0)
    large = hop_length // small
    if large > MAX_UPSAMPLE_FACTOR:
        raise ConfigError(
            f"mel.hop_length: {hop_length} does not split into two factors of at most {MAX_UPSAMPLE_FACTOR}; "
            f"choose one that does, such as 256, 275, 300 or 512"
        )
    return small, large


class MelUpsampler(nn.Module):
    """Mel frames -> mel at the sample rate by two transposed convolutions over time and bands.

    (B, n_mels, frames) -> (B, n_mels, frames * hop_length), exactly. DiffWave, section 5.1: kernels of
    3 bands by twice the factor, or by 3 where that is 1, leaky ReLU of slope 0.4.
    """

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(
                1,
                1,
                kernel_size=(3, max(2 * factor, 3)),
                stride=(1, factor),
                # For an odd factor one sample more is cut in front and added behind: the length stays exact.
                padding=(1, factor // 2 + factor % 2),
                output_padding=(0, factor % 2 if factor > 1 else 0),
            )
            for factor in upsample_factors(hop_length)
        )

    def forward(self, mel: Tensor, cleared: Callable[[Tensor, int], Tensor] = lambda x, unit: x) -> Tensor:
        """A mel -> the mel at the sample rate.

        Args:
            mel: (B, n_mels, frames)
            cleared: (what a layer gives (B, 1, n_mels, frames * unit), unit) -> the same without what lies beyond the
                ends of the items.
        """
        x, unit = mel.unsqueeze(1), 1
        for layer, factor in zip(self.layers, upsample_factors(self.hop_length), strict=True):
            unit *= factor
            x = cleared(F.leaky_relu(layer(x), LEAKY_SLOPE), unit)
        return x.squeeze(1)


def check_condition(cond: Condition, n_mels: int | None, n_classes: int) -> None:
    """Refuse a condition that is not the one the network was built for.

    Raises:
        ConfigError: missing, superfluous, or of the wrong shape or range.
    """
    if (cond.mel is None) != (n_mels is None):
        raise ConfigError("cond.mel: " + ("this model takes no mel" if n_mels is None else "this model needs a mel"))
    if cond.mel is not None and (cond.mel.ndim != 3 or cond.mel.shape[1] != n_mels):
        raise ConfigError(f"cond.mel: expected shape (B, {n_mels}, frames), got {tuple(cond.mel.shape)}")
    if (cond.label is None) != (n_classes == 0):
        raise ConfigError("cond.label: " + ("this model needs a label" if n_classes else "this model takes no label"))
    if cond.label is not None:
        if cond.label.ndim != 1 or cond.label.dtype != torch.int64:
            raise ConfigError(f"cond.label: expected int64 of shape (B,), got {cond.label.dtype} {cond.label.shape}")
        # On a GPU a look at the values would have to wait for it; there labels come from names.
        there = cond.label.device.type != "cpu"
        if cond.label.numel() and not there and not 0 <= int(cond.label.min()) <= int(cond.label.max()) <= n_classes:
            raise ConfigError(f"cond.label: {cond.label.tolist()} must lie in 0 to {n_classes}, which is no class")


def fold(signal: Tensor, channels: int) -> Tensor:
    """(B, N) -> (B, channels, ceil(N / channels)); zeros fill the last frame."""
    signal = F.pad(signal, (0, -signal.shape[1] % channels))
    return signal.unflatten(1, (-1, channels)).transpose(1, 2)


def unfold(frames: Tensor, length: int | None = None) -> Tensor:
    """(B, channels, L) -> (B, length), by default all L * channels values; undoes `fold`."""
    return frames.transpose(1, 2).flatten(1)[:, :length]
