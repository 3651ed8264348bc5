"""What a mel is compressed to: latents of unit variance at a lower rate, that a denoiser works on.

Two codecs with one interface: `LinearCodec`, principal components in closed form, and `MelCodec`, a network.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wavediff.arguments import check_bounds
from wavediff.backbones.unet import ChannelNorm, ResidualBlock
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec

# The mean and the spread of natural-log mels, about: digital silence is at -11.5, a loud band near 1.
_MEAN, _SPREAD = -6.0, 3.0


@dataclass(frozen=True)
class CodecConfig:
    """Shape of the compression.

    Attributes:
        latent_channels: values of a latent frame.
        frames: mel frames that become one latent frame.
        channels, layers: of the residual blocks, in the encoder as in the decoder.
        noise: standard deviation of the noise added to latents in training. It bounds what a latent can tell, as a
            variational autoencoder's does, and makes the decoder forgive what a denoiser leaves behind.

    Raises:
        ConfigError: a value out of bounds.
    """

    latent_channels: int = 32
    frames: int = 1
    channels: int = 192
    layers: int = 4
    noise: float = 0.1

    def __post_init__(self) -> None:
        sizes = {"latent_channels": (1, 1024), "frames": (1, 64), "channels": (1, 2048), "layers": (1, 64)}
        check_bounds(self, "codec", **sizes, noise=(0.0, 1.0))


@dataclass(frozen=True)
class LinearCodecConfig:
    """Shape of a compression to principal components.

    Attributes:
        latent_channels: components that are kept of the n_mels * frames values.
        frames: mel frames that become one latent frame.
        whitening: how far the spreads of the components are made equal: 1 wholly, 0 not at all. In between, large
            components count for more than small ones in a denoiser's loss, as they do in the mel.

    Raises:
        ConfigError: a value out of bounds.
    """

    latent_channels: int = 128
    frames: int = 2
    whitening: float = 0.75

    def __post_init__(self) -> None:
        check_bounds(self, "codec", latent_channels=(1, 1024), frames=(1, 64), whitening=(0.0, 1.0))


class Codec(nn.Module):
    """Mel (B, n_mels, frames) <-> latents (B, latent_channels, ceil(frames / config.frames)).

    Args:
        config: its shape.
        spec: dialect of the mel.
    """

    def __init__(self, config: Any, spec: MelSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec

    def encode(self, mel: Tensor) -> Tensor:
        """Mel (B, n_mels, frames) -> latents; the last frame is repeated to fill up a latent frame."""
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_channels, L) -> mel (B, n_mels, L * config.frames)."""
        raise NotImplementedError

    def _whole(self, mel: Tensor) -> Tensor:
        missing = -mel.shape[-1] % self.config.frames
        return torch.cat([mel, mel[..., -1:].expand(-1, -1, missing)], dim=-1)


class LinearCodec(Codec):
    """Principal components of mel frames, a few neighbours together.

    Until `fit` was called they are the first values themselves.
    """

    def __init__(self, config: LinearCodecConfig, spec: MelSpec) -> None:
        super().__init__(config, spec)
        size = spec.n_mels * config.frames
        if config.latent_channels > size:
            raise ConfigError(
                f"codec.latent_channels: {config.latent_channels} exceeds the {size} values of {config.frames} frames "
                f"of {spec.n_mels} bands; lower it"
            )
        self.mean = nn.Parameter(torch.full((size, 1), _MEAN))
        self.components = nn.Parameter(torch.eye(config.latent_channels, size))
        self.scale = nn.Parameter(torch.full((config.latent_channels, 1), _SPREAD))

    def stack(self, mel: Tensor) -> Tensor:
        """Mel (B, n_mels, frames) -> (B, n_mels * config.frames, L): the values that are compressed together."""
        return self._whole(mel).unflatten(-1, (-1, self.config.frames)).transpose(2, 3).flatten(1, 2)

    @torch.no_grad()
    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """Take the components of largest variance.

        Args:
            mean: of the stacked values, (n_mels * frames,).
            covariance: of them, (n_mels * frames, n_mels * frames), float64.
        """
        variances, vectors = torch.linalg.eigh(covariance)  # ascending
        kept = self.config.latent_channels
        variances, vectors = variances.flip(0)[:kept].clamp(min=1e-6), vectors.flip(1)[:, :kept]
        # Spread of latent i: std_i ** (1 - whitening), over the root of its mean square, so that theirs is 1.
        rest = variances ** (1 - self.config.whitening)
        scale = (variances / rest * rest.mean()).sqrt()
        for weight, value in ((self.mean, mean[:, None]), (self.components, vectors.T), (self.scale, scale[:, None])):
            weight.copy_(value)

    def encode(self, mel: Tensor) -> Tensor:
        """Mel (B, n_mels, frames) -> latents, float32."""
        return self.components @ (self.stack(mel) - self.mean) / self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_channels, L) -> the nearest mel (B, n_mels, L * config.frames)."""
        stacked = self.components.T @ (self.scale * latents) + self.mean
        return stacked.unflatten(1, (-1, self.config.frames)).transpose(2, 3).flatten(2)


class MelCodec(Codec):
    """A network on either side, trained."""

    def __init__(self, config: CodecConfig, spec: MelSpec) -> None:
        super().__init__(config, spec)
        n_mels = spec.n_mels
        width, step = config.channels, config.frames
        self.encoder = nn.Sequential(
            nn.Conv1d(n_mels, width, 3, padding=1),
            *(ResidualBlock(width, width) for _ in range(config.layers)),
            ChannelNorm(width),
            nn.Conv1d(width, config.latent_channels, step, step),
        )
        # Without weights of its own: each latent channel has mean 0 and variance 1, as diffusion expects.
        self.standardise = nn.BatchNorm1d(config.latent_channels, affine=False, momentum=0.01)
        self.decoder = nn.Sequential(
            nn.ConvTranspose1d(config.latent_channels, width, step, step),
            *(ResidualBlock(width, width) for _ in range(config.layers)),
            ChannelNorm(width),
            nn.Conv1d(width, n_mels, 3, padding=1),
        )

    def encode(self, mel: Tensor) -> Tensor:
        """Mel (B, n_mels, frames) -> latents."""
        latents: Tensor = self.standardise(self.encoder((self._whole(mel) - _MEAN) / _SPREAD).float())
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_channels, L) -> mel (B, n_mels, L * config.frames)."""
        mel: Tensor = self.decoder(latents).float() * _SPREAD + _MEAN
        return mel
