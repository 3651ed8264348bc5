"""A network at frame rate: it sees the short-time spectrum of x_t, divided by the envelope of the noise.

One evaluation takes a thirtieth of one of DiffWave BASE, because it runs at the mel's frame rate. A frame's
spectrum is cut into bands of neighbouring bins, each a token, and all bands share their weights but for an offset:
what is learned about the phase of one partial holds for all others, so that little data suffices.

The output has two parts. A complex mask multiplies the spectrum of x_t, as speech enhancement does, and a residual is
added. The mask passes x_t at full resolution, which the narrow tokens could not carry, and makes the Wiener filter of
a Gaussian signal the easiest thing to learn.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import check_bounds
from wavediff.backbones.conditioning import (
    BackboneConfig,
    Condition,
    SpectralBlock,
    TimeEmbedding,
    check_condition,
    looked_back,
    zeroed,
)
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT, MelSpec

LEAST_MAGNITUDE = 0.01  # of the whitened spectrum, before its logarithm


@dataclass(frozen=True)
class SpectralConfig(BackboneConfig):
    """Shape of the network.

    Attributes:
        bands: tokens a frame is cut into; divides n_fft / 2.
        channels: of a token.
        layers: residual blocks.
        expansion: hidden channels of a block over `channels`.
        kernel_frames, kernel_bands: reach of a block, odd.
        causal_layers: how many of the blocks, the last ones, look at the past alone, and delay a stream by nothing.

    Raises:
        ConfigError: a value out of bounds.
    """

    bands: int = 32
    channels: int = 64
    layers: int = 6
    expansion: int = 2
    kernel_frames: int = 5
    kernel_bands: int = 3
    causal_layers: int = 0

    def __post_init__(self) -> None:
        sizes = {"bands": (1, 1024), "channels": (1, 4096), "layers": (1, 256), "expansion": (1, 16)}
        reaches = {"kernel_frames": (1, 63), "kernel_bands": (1, 63), "causal_layers": (0, self.layers)}
        check_bounds(self, "backbone", **sizes, **reaches)
        if self.kernel_frames % 2 == 0 or self.kernel_bands % 2 == 0:
            raise ConfigError(f"backbone: kernels {self.kernel_frames} and {self.kernel_bands} must be odd")


@dataclass(frozen=True)
class PreparedSpectrum:
    """What no diffusion step changes.

    Attributes:
        envelope: (B, frames, bins) the noise's.
        expected: (B, frames, bins) logarithm of the whitened magnitude that the mel promises.
    """

    envelope: Tensor
    expected: Tensor


class SpectralNet(nn.Module):
    """(x_t (B, N), t (B,), prepared condition) -> prediction (B, N), N = frames * hop_length.

    Args:
        config: shape of the network.
        spec: dialect of the mel, whose frames it shares.

    Raises:
        ConfigError: the bands do not divide the spectrum.
    """

    def __init__(self, config: SpectralConfig, spec: MelSpec) -> None:
        super().__init__()
        if (spec.n_fft // 2) % config.bands:
            raise ConfigError(f"backbone.bands: {config.bands} does not divide n_fft / 2 = {spec.n_fft // 2}")
        self.config, self.n_mels = config, spec.n_mels
        self.stft = FrameSTFT(spec)
        width = spec.n_fft // 2 // config.bands  # bins of a band; the one at half the sample rate stays empty
        self.time = TimeEmbedding()
        self.input_projection = nn.Linear(4 * width, config.channels)
        self.band_offset = nn.Parameter(0.1 * torch.randn(config.bands, config.channels))
        kernel = (config.kernel_frames, config.kernel_bands)
        ahead = [config.kernel_frames // 2] * (config.layers - config.causal_layers) + [0] * config.causal_layers
        self.blocks = nn.ModuleList(
            SpectralBlock(config.bands, config.channels, config.expansion, kernel, frames) for frames in ahead
        )
        self.output_norm = nn.LayerNorm(config.channels)
        self.output_projection = zeroed(nn.Linear(config.channels, 4 * width))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks, which take nearly all the time; complex numbers around them do not compile."""
        for block in self.blocks:
            block.compile(*args, **kwargs)

    def prepare(self, cond: Condition) -> PreparedSpectrum:
        """Once an utterance.

        Raises:
            ConfigError: the condition lacks the mel or the spectra that the prior reads off it.
        """
        check_condition(cond, self.n_mels, 0)
        if cond.envelope is None or cond.magnitude is None:
            raise ConfigError("cond.envelope: this network needs a shaped prior; set prior.power above 0")
        return PreparedSpectrum(cond.envelope, (cond.magnitude / cond.envelope).log())

    def forward(self, x_t: Tensor, t: Tensor, prepared: PreparedSpectrum) -> Tensor:
        whitened = self.stft.analysis(x_t) / prepared.envelope
        x, time = self.tokens(whitened, prepared.expected), self.time(t)
        for block in self.blocks:
            x = block(x, time)
        return self.stft.synthesis(self.masked(x, whitened) * prepared.envelope)

    def tokens(self, whitened: Tensor, expected: Tensor) -> Tensor:
        """Whitened spectrum and its expected log magnitude, (B, frames, bins) -> (B, frames, bands, channels)."""
        z = self._bands(whitened)  # (B, frames, bands, width), complex
        loudness = 0.5 * (z.abs() + LEAST_MAGNITUDE).log()
        features = torch.cat([z.real, z.imag, loudness, 0.5 * self._bands(expected)], dim=-1)
        tokens: Tensor = self.input_projection(features) + self.band_offset
        return tokens

    def masked(self, tokens: Tensor, whitened: Tensor) -> Tensor:
        """Last tokens and the whitened spectrum (B, frames, bins) -> the whitened prediction: mask and residual."""
        output = self.output_projection(self.output_norm(tokens)).float()
        mask_real, mask_imag, real, imag = output.chunk(4, dim=-1)
        prediction = torch.complex(mask_real, mask_imag) * self._bands(whitened) + torch.complex(real, imag)
        return F.pad(prediction.flatten(2), (0, 1))

    def _bands(self, spectrum: Tensor) -> Tensor:
        """(B, frames, bins) -> (B, frames, bands, width)"""
        return spectrum[..., :-1].unflatten(-1, (self.config.bands, -1))


_MOST = 5.0  # nepers, by which a bin changes
_SPREAD = 1.5  # nepers, of the input
_LOWEST = 2  # bins that stay: a recording's offset is in them


@dataclass(frozen=True)
class InversionConfig:
    """Shape of the network.

    Attributes:
        bands: tokens that a frame is cut into, from 0 Hz on.
        width: bins of each.
        channels: of a token.
        layers: residual blocks.

    Raises:
        ConfigError: a value out of bounds.
    """

    bands: int = 5
    width: int = 16
    channels: int = 96
    layers: int = 4

    def __post_init__(self) -> None:
        sizes = {"bands": (1, 256), "width": (1, 256), "channels": (1, 1024), "layers": (1, 64)}
        check_bounds(self, "inversion", **sizes)


class MelInversion(nn.Module):
    """Pseudo-inverse (B, frames, n_fft // 2 + 1) of a mel -> a magnitude of that shape, nearer to that of speech.

    Where a mel resolves harmonics its bands are about two bins wide, so many spectra have the same bands, and the
    pseudo-inverse is a smooth one of them. A network knows that speech has harmonics, and where the frames before had
    them.

    The lowest two bins, and those above its bands, stay as they are. A frame depends on none that comes later.

    Args:
        config: shape of the network.
    """

    fade: Tensor

    def __init__(self, config: InversionConfig) -> None:
        super().__init__()
        self.config, width, channels = config, config.width, config.channels
        self.input_projection = nn.Linear(width, channels)
        self.band_offset = nn.Parameter(0.1 * torch.randn(config.bands, channels))
        self.blocks = nn.ModuleList(
            SpectralBlock(config.bands, channels, 2, (5, 3), 0, timed=False) for _ in range(config.layers)
        )
        self.output_norm = nn.LayerNorm(channels)
        self.output_projection = zeroed(nn.Linear(channels, width))
        # The last band fades into the bins that stay.
        fade = torch.ones(config.bands, width, dtype=torch.float32, device="cpu")
        fade[-1] = 1 - torch.arange(1, width + 1, dtype=torch.float32, device="cpu") / (width + 1)
        fade[0, :_LOWEST] = 0
        self.register_buffer("fade", fade, persistent=False)

    def forward(self, pseudo_inverse: Tensor) -> Tensor:
        return self.changed(looked_back(self.blocks, self.tokens(pseudo_inverse)), pseudo_inverse)

    def tokens(self, pseudo_inverse: Tensor) -> Tensor:
        """(B, frames, n_fft // 2 + 1) -> (B, frames, bands, channels), independent of the level."""
        # In the order of bins, or the rounding of a logarithm would depend on how many frames there are.
        low = pseudo_inverse[..., : self.fade.numel()].contiguous().log()
        low = (low - low.mean(-1, keepdim=True)) / _SPREAD
        tokens: Tensor = self.input_projection(low.unflatten(-1, (-1, self.config.width))) + self.band_offset
        return tokens

    def changed(self, tokens: Tensor, pseudo_inverse: Tensor) -> Tensor:
        """Last tokens and the pseudo-inverse -> the magnitude."""
        gain = self.output_projection(self.output_norm(tokens)).clamp(-_MOST, _MOST) * self.fade
        low, above = pseudo_inverse.tensor_split([self.fade.numel()], dim=-1)
        return torch.cat([low * gain.flatten(2).exp(), above], -1)
