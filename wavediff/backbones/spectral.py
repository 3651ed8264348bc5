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
    TIME_FEATURES,
    BackboneConfig,
    Condition,
    TimeEmbedding,
    Workspace,
    check_condition,
)
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT, MelSpec

_FRAMES = 64  # more are filled up to a multiple of these, fewer to a power of two
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
        ahead = [config.kernel_frames // 2] * (config.layers - config.causal_layers) + [0] * config.causal_layers
        self.blocks = nn.ModuleList(SpectralBlock(config, frames) for frames in ahead)
        self.output_norm = nn.LayerNorm(config.channels)
        self.output_projection = nn.Linear(config.channels, 4 * width)
        nn.init.zeros_(self.output_projection.weight)
        nn.init.zeros_(self.output_projection.bias)

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


class SpectralBlock(nn.Module):
    """Tokens (B, frames, bands, channels), time features (B, 256) or None -> tokens.

    A ConvNeXt block (Liu et al. 2022, arXiv 2201.03545) over frames and bands, scaled and shifted by the time (Peebles
    and Xie 2023, arXiv 2212.09748), with a mixing of all bands, through which the low harmonics tell the high ones
    where to be (Tolstikhin et al. 2021, arXiv 2105.01601).

    Args:
        config: of the network.
        ahead: frames beyond its own that the block looks at.
        timed: whether a diffusion time scales and shifts it.
    """

    def __init__(self, config: SpectralConfig, ahead: int, timed: bool = True) -> None:
        super().__init__()
        channels, kernel = config.channels, (config.kernel_frames, config.kernel_bands)
        self.past, self.ahead = kernel[0] - 1 - ahead, ahead
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=(0, kernel[1] // 2), groups=channels)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.modulation = nn.Linear(TIME_FEATURES, 2 * channels) if timed else None
        self.band_mixing = nn.Linear(config.bands, config.bands)
        self.expand = nn.Linear(channels, config.expansion * channels)
        self.contract = nn.Linear(config.expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))
        for layer in (self.modulation, self.band_mixing):
            if layer is not None:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, time: Tensor | None, workspace: Workspace | None = None) -> Tensor:
        return self.step(F.pad(x, (0, 0, 0, 0, self.past, self.ahead)), self.at(time), workspace)

    def at(self, time: Tensor | None, dtype: torch.dtype = torch.float32) -> "BlockWeights":
        """Its weights at a time (B, 256): what all pieces of a signal are computed with.

        Args:
            time: features; None where it has no time.
            dtype: of the products.
        """
        if self.modulation is None:
            scale = shift = torch.zeros_like(self.scale)
        else:
            scale, shift = self.modulation(time)[:, None, None].chunk(2, dim=-1)
        mixing = self.band_mixing.weight
        return BlockWeights(
            1 + scale,
            shift,
            (mixing + torch.eye(len(mixing), dtype=mixing.dtype, device=mixing.device)).to(dtype),
            self.band_mixing.bias[:, None].to(dtype),
            self.expand.weight.t().to(dtype),
            self.expand.bias.to(dtype),
            (self.contract.weight * self.scale[:, None]).t().to(dtype),
            (self.contract.bias * self.scale).to(dtype),
        )

    def step(self, window: Tensor, weights: "BlockWeights", workspace: Workspace | None = None) -> Tensor:
        """(B, past + n + ahead, bands, channels) -> (B, n, bands, channels).

        Args:
            window: tokens, and their neighbours.
            weights: `at` the times of the items; in another dtype than the window's with a workspace alone.
            workspace: where intermediate results are written, without gradients. The hidden channels of a piece are
                some megabytes; where each operation returns them anew, their pages are faulted in anew, which takes
                longer than the products.
        """
        count, conv, padding = window.shape[1] - self.past - self.ahead, self.depthwise, self.depthwise.padding
        missing = 0 if workspace is None else _filled_up(count) - count
        padded = F.pad(window, (0, 0, 0, 0, 0, missing)) if missing else window
        # Permuted, the tokens are already in the channels-last order that convolutions on CPUs like best.
        h = F.conv2d(padded.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=padding, groups=conv.groups)
        h = self.norm(h.permute(0, 2, 3, 1)[:, :count])
        h = torch.addcmul(weights.shift, h, weights.gain, out=None if workspace is None else h)
        items, _, bands, channels = h.shape
        frames, x = items * count, window[:, self.past : self.past + count]
        # The linear layer over bands, written as a product from the left: no transposed copies.
        mixing, h = weights.mixing.expand(frames, -1, -1), h.flatten(0, 1).to(weights.mixing.dtype)
        if workspace is None:
            hidden = F.gelu(self.expand(torch.bmm(mixing, h) + weights.band_bias))
            return x + (torch.matmul(hidden, weights.contract) + weights.bias).view(x.shape)
        mixed = torch.bmm(mixing, h, out=workspace.get("mixed", (frames, bands, channels), h.dtype))
        mixed += weights.band_bias
        filled = workspace.get("hidden", (_filled_up(frames) * bands, weights.expand.shape[1]), h.dtype)
        rows = mixed.flatten(0, 1)
        hidden = torch.addmm(weights.expand_bias, rows, weights.expand, out=filled[: len(rows)])
        torch.ops.aten.gelu_(filled)
        if h.dtype != x.dtype:  # the sum over the layers stays in float32
            return x + torch.addmm(weights.bias, hidden, weights.contract).view(x.shape)
        return torch.addmm(x.reshape(-1, channels), hidden, weights.contract).add_(weights.bias).view(x.shape)


@dataclass(frozen=True)
class BlockWeights:
    """What `SpectralBlock.step` multiplies by.

    Attributes:
        gain, shift: (B, 1, 1, channels) of the normalised tokens, or (channels,) without a time.
        mixing: (bands, bands), with the tokens themselves.
        band_bias: (bands, 1)
        expand: (channels, hidden)
        expand_bias: (hidden,)
        contract: (hidden, channels), with the scale of the residual.
        bias: (channels,) likewise.
    """

    gain: Tensor
    shift: Tensor
    mixing: Tensor
    band_bias: Tensor
    expand: Tensor
    expand_bias: Tensor
    contract: Tensor
    bias: Tensor


def _filled_up(count: int) -> int:
    """Frames that oneDNN is given for so many: it makes, and keeps, a program for each size that it meets."""
    return 1 << (count - 1).bit_length() if count < _FRAMES else count + -count % _FRAMES
