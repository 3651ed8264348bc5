"""What a mel is compressed to: latents of unit variance at a lower rate, that a denoiser works on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
        bounds = {"latent_channels": (1, 1024), "frames": (1, 64), "channels": (1, 2048), "layers": (1, 64)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"codec.{name}: {value!r} is not a whole number from {low} to {high}")
        if not 0 <= self.noise <= 1:
            raise ConfigError(f"codec.noise: {self.noise} is outside [0, 1]")


class MelCodec(nn.Module):
    """Mel (B, n_mels, frames) <-> latents (B, latent_channels, ceil(frames / config.frames)).

    Args:
        config: its shape.
        spec: dialect of the mel.
    """

    def __init__(self, config: CodecConfig, spec: MelSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
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
        """Mel (B, n_mels, frames) -> latents; the last frame is repeated to fill up a latent frame."""
        missing = -mel.shape[-1] % self.config.frames
        mel = torch.cat([mel, mel[..., -1:].expand(-1, -1, missing)], dim=-1)
        latents: Tensor = self.standardise(self.encoder((mel - _MEAN) / _SPREAD).float())
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, latent_channels, L) -> mel (B, n_mels, L * config.frames)."""
        mel: Tensor = self.decoder(latents).float() * _SPREAD + _MEAN
        return mel
