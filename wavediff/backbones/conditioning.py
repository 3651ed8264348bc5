"""What networks share: what they are told beside the noisy signal, their memory, and a block of layers at
frame rate."""

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.errors import ConfigError

Layer = TypeVar("Layer", nn.Linear, nn.Conv1d)
TIME_FREQUENCIES = 32
TIME_FEATURES = 256
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
        magnitude: (B, frames, n_fft // 2 + 1), of the mel; comes with `envelope`.
        variation: (B, VARIATION_FEATURES), how items of training were varied, for a network that is told; 0 and None
            mean "not at all".
    """

    mel: Tensor | None = None
    label: Tensor | None = None
    envelope: Tensor | None = None
    magnitude: Tensor | None = None
    variation: Tensor | None = None


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


def zeroed(layer: Layer) -> Layer:
    """A layer that gives nothing before it has learned."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


class TimeEmbedding(nn.Module):
    """Time (B,) in [0, 1] -> features (B, 256), smooth in t."""

    frequency: Tensor

    def __init__(self) -> None:
        super().__init__()
        # On the CPU also where shapes alone are asked for: arithmetic on the meta device loads torch's compiler.
        frequency = torch.linspace(0, 4, TIME_FREQUENCIES, dtype=torch.float32, device="cpu").exp()
        self.register_buffer("frequency", frequency, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * TIME_FREQUENCIES, TIME_FEATURES),
            nn.SiLU(),
            nn.Linear(TIME_FEATURES, TIME_FEATURES),
            nn.SiLU(),
        )

    def forward(self, t: Tensor) -> Tensor:
        phase = t.float().to(self.frequency.device)[:, None] * self.frequency
        features: Tensor = self.layers(torch.cat([phase.sin(), phase.cos()], dim=1))
        return features


class Workspace:
    """Memory that every layer uses in turn, so that it stays in the cache and is never faulted in anew."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffers: dict[str, Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Uninitialised memory, valid until the same name is asked for again."""
        size, buffer = math.prod(shape), self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=dtype, device=self.device)
        return buffer[:size].view(shape)


_FRAMES = 64  # more are filled up to a multiple of these, fewer to a power of two


class SpectralBlock(nn.Module):
    """Tokens (B, frames, bands, channels), time features (B, 256) or None -> tokens.

    A ConvNeXt block (Liu et al. 2022, arXiv 2201.03545) over frames and bands, scaled and shifted by the time (Peebles
    and Xie 2023, arXiv 2212.09748), with a mixing of all bands, through which the low harmonics tell the high ones
    where to be (Tolstikhin et al. 2021, arXiv 2105.01601).

    Args:
        bands: of a frame.
        channels: of a token.
        expansion: hidden channels over `channels`.
        kernel: reach over frames and bands, odd.
        ahead: frames beyond its own that the block looks at.
        timed: whether a diffusion time scales and shifts it.
    """

    def __init__(
        self, bands: int, channels: int, expansion: int, kernel: tuple[int, int], ahead: int, timed: bool = True
    ) -> None:
        super().__init__()
        self.past, self.ahead = kernel[0] - 1 - ahead, ahead
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=(0, kernel[1] // 2), groups=channels)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.modulation = zeroed(nn.Linear(TIME_FEATURES, 2 * channels)) if timed else None
        self.band_mixing = zeroed(nn.Linear(bands, bands))
        self.expand = nn.Linear(channels, expansion * channels)
        self.contract = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor, time: Tensor | None, workspace: Workspace | None = None) -> Tensor:
        return self.step(F.pad(x, (0, 0, 0, 0, self.past, self.ahead)), self.at(time), workspace)

    def at(self, time: Tensor | None, dtype: torch.dtype = torch.float32) -> "BlockWeights":
        """Its weights at a time (B, 256), or (1, 256) for all items: what all pieces of a signal are computed with.

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
            self.expand.weight.t().to(dtype),
            self.expand(self.band_mixing.bias[:, None].expand(-1, len(self.scale))).to(dtype),
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
        h = h.permute(0, 2, 3, 1)[:, :count]
        if workspace is not None and weights.gain.numel() == h.shape[3]:
            h = F.layer_norm(h, h.shape[3:], weights.gain.flatten(), weights.shift.flatten())
        else:
            h = torch.addcmul(weights.shift, self.norm(h), weights.gain)
        items, _, bands, channels = h.shape
        frames, x = items * count, window[:, self.past : self.past + count]
        # The linear layer over bands, written as a product from the left: no transposed copies.
        mixing, h = weights.mixing.expand(frames, -1, -1), h.flatten(0, 1).to(weights.mixing.dtype)
        if workspace is None:
            hidden = F.gelu(self.expand(torch.bmm(mixing, h) + self.band_mixing.bias[:, None]))
            return x + (torch.matmul(hidden, weights.contract) + weights.bias).view(x.shape)
        mixed = torch.bmm(mixing, h, out=workspace.get("mixed", (frames, bands, channels), h.dtype))
        filled = workspace.get("hidden", (_filled_up(frames), bands, weights.expand.shape[1]), h.dtype)
        filled[:frames] = weights.expand_bias
        hidden = filled[:frames].flatten(0, 1).addmm_(mixed.flatten(0, 1), weights.expand)
        torch.ops.aten.gelu_(filled.flatten(0, 1))
        if h.dtype != x.dtype:  # the sum over the layers stays in float32
            return x + torch.addmm(weights.bias, hidden, weights.contract).view(x.shape)
        return (x + weights.bias).view(-1, channels).addmm_(hidden, weights.contract).view(x.shape)


@dataclass(frozen=True)
class BlockWeights:
    """What `SpectralBlock.step` multiplies by.

    Attributes:
        gain, shift: (B or 1, 1, 1, channels) of the normalised tokens, or (channels,) without a time.
        mixing: (bands, bands), with the tokens themselves.
        expand: (channels, hidden)
        expand_bias: (bands, hidden), with the bias of the mixing.
        contract: (hidden, channels), with the scale of the residual.
        bias: (channels,) likewise.
    """

    gain: Tensor
    shift: Tensor
    mixing: Tensor
    expand: Tensor
    expand_bias: Tensor
    contract: Tensor
    bias: Tensor


def _filled_up(count: int) -> int:
    """Frames that oneDNN is given for so many: it makes, and keeps, a program for each size that it meets."""
    return 1 << (count - 1).bit_length() if count < _FRAMES else count + -count % _FRAMES


def looked_back(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    """Tokens (B, frames, bands, channels) behind blocks that look at earlier frames alone, and are told no time."""
    # Sampling on a CPU rounds as a stream does: the search for phases makes much of little.
    samples = x.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    workspace = Workspace(x.device) if samples else None
    for block in blocks:
        x = block(x, None, workspace)
    return x
