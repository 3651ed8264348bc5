"""DiffWave: the dilated residual network of Kong et al. 2021 (arXiv:2009.09761), section 3."""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.backbones.conditioning import BackboneConfig, Condition, MelUpsampler, check_condition
from wavediff.backbones.embeddings import SQRT_HALF, STEP_FEATURES, StepEmbedding, StepEncoding, kaiming_conv1d
from wavediff.backbones.folding import fold, unfold
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT

LABEL_FEATURES = 128  # section 3.2: width of the global conditioner


@dataclass(frozen=True)
class DiffWaveConfig(BackboneConfig):
    """Shape of the network. Defaults are BASE; LARGE has 128 channels; both 30 layers.

    Attributes:
        channels: C, of the residual stream.
        layers: residual layers.
        dilation_cycle: dilations run 1, 2, 4 ... 2^(cycle - 1) and start again.
        step_encoding: see `encode_steps`.
        upsampler_per_layer: each layer upsamples the mel for itself (the author's checkpoints).
        step_in_residual: the step embedding also stays in the residual stream (the author's checkpoints).
        fold: neighbouring samples that make one frame of the network; the cost falls by as much. 1 in the paper.
        whitened: the network hears the signal over the envelope of the noise, and answers so; the prior shapes noise.
            All frequencies are then equally loud to it: EDM's preconditioning (Karras et al. 2022, arXiv 2206.00364)
            for a signal whose bands differ by 60 dB.
    """

    channels: int = 64
    layers: int = 30
    dilation_cycle: int = 10
    step_encoding: StepEncoding = "rising"
    upsampler_per_layer: bool = False
    step_in_residual: bool = False
    fold: int = 1
    whitened: bool = False

    def __post_init__(self) -> None:
        bounds = {
            "channels": (1, 1024),
            "layers": (1, 256),
            "dilation_cycle": (1, 16),
            "fold": (1, 4096),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in bounds:
                low, high = bounds[field.name]
                if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                    raise ConfigError(f"backbone.{field.name}: {value!r} is not a whole number from {low} to {high}")
            elif field.name == "step_encoding":
                if value not in ("rising", "falling"):
                    raise ConfigError(f"backbone.step_encoding: {value!r} is neither 'rising' nor 'falling'")
            elif not isinstance(value, bool):
                raise ConfigError(f"backbone.{field.name}: {value!r} is neither true nor false")


@dataclass(frozen=True)
class PreparedCondition:
    """What does not depend on t, computed once per utterance.

    Attributes:
        mels: mel at the sample rate (B, n_mels, N): one for all layers, one per layer, or none.
        label: label features (B, 128), or None.
        envelope: (B, frames, bins) of the noise, for a whitened network; otherwise None.
    """

    mels: tuple[Tensor, ...]
    label: Tensor | None
    envelope: Tensor | None = None

    def mel_of(self, layer: int) -> Tensor | None:
        """The mel that layer `layer` reads."""
        return self.mels[layer % len(self.mels)] if self.mels else None


class GatedUnit(torch.autograd.Function):
    """sigmoid(first half) * tanh(second half) of the channels: (B, 2C, N) -> (B, C, N); figure 2 (a).

    Its own backward, because what autograd puts together from the parts writes 8C values a sample where 3C do,
    and at these sizes training waits for memory.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        halves = torch.empty_like(y)
        gate, value = halves.chunk(2, dim=1)
        torch.sigmoid(y[:, : y.shape[1] // 2], out=gate)
        torch.tanh(y[:, y.shape[1] // 2 :], out=value)
        ctx.save_for_backward(halves)
        return gate * value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,), (halves,) = grads, ctx.saved_tensors
        gate, value = halves.chunk(2, dim=1)
        result = torch.empty_like(halves)
        to_gate, to_value = result.chunk(2, dim=1)
        # d gate = gate (1 - gate) value, d value = gate (1 - value^2)
        torch.addcmul(gate, gate, gate, value=-1, out=to_gate).mul_(value).mul_(grad)
        torch.mul(value, value, out=to_value).neg_().add_(1).mul_(gate).mul_(grad)
        return result


def gated(y: Tensor) -> Tensor:
    """`GatedUnit`, or its parts where a compiler puts them together by itself."""
    if torch.compiler.is_compiling():
        gate, value = y.chunk(2, dim=1)
        return gate.sigmoid() * value.tanh()
    return GatedUnit.apply(y)


class ResidualLayer(nn.Module):
    """Gated dilated convolution, conditioned; figure 2 (a)."""

    def __init__(self, channels: int, dilation: int, n_mels: int | None, labelled: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.step_projection = nn.Linear(STEP_FEATURES, channels)
        self.dilated_conv = kaiming_conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.mel_projection = kaiming_conv1d(n_mels, 2 * channels, 1) if n_mels is not None else None
        self.label_projection = nn.Linear(LABEL_FEATURES, 2 * channels) if labelled else None
        self.output_projection = kaiming_conv1d(channels, 2 * channels, 1)

    def forward(
        self, x: Tensor, step: Tensor, mel: Tensor | None, label: Tensor | None, step_in_residual: bool
    ) -> tuple[Tensor, Tensor]:
        """(B, C, N) -> residual stream (B, C, N) and skip (B, C, N)."""
        h = x + self.step_projection(step).unsqueeze(-1)
        y = self.dilated_conv(h)  # (B, 2C, N)
        if self.mel_projection is not None:
            y += self.mel_projection(mel)
        if self.label_projection is not None:
            y += self.label_projection(label).unsqueeze(-1)
        residual, skip = self.output_projection(gated(y)).chunk(2, dim=1)
        return ((h if step_in_residual else x) + residual).mul_(SQRT_HALF), skip


class DiffWave(nn.Module):
    """The denoising network.

    Args:
        config: its shape.
        num_steps: T, the diffusion steps it is trained for.
        n_mels: mel bands of the condition, None for a model without mel.
        hop_length: samples a mel frame stands for.
        n_classes: classes of a class-conditional model, 0 for none. Class `n_classes` means none of them.
        signal_channels: values of a frame of the signal: 1 for waveforms, the channels of latents.
        stft: frames of the envelope, for a whitened network.

    Raises:
        ConfigError: the fold does not divide the hop length.
    """

    def __init__(
        self,
        config: DiffWaveConfig,
        *,
        num_steps: int = 50,
        n_mels: int | None = 80,
        hop_length: int = 256,
        n_classes: int = 0,
        signal_channels: int = 1,
        stft: FrameSTFT | None = None,
    ) -> None:
        super().__init__()
        self.stft = stft
        self.config, self.num_steps, self.n_mels, self.n_classes = config, num_steps, n_mels, n_classes
        self.frame = config.fold * signal_channels
        if n_mels is not None and hop_length % config.fold:
            raise ConfigError(f"backbone.fold: {config.fold} does not divide the mel's hop of {hop_length} samples")
        self.input_projection = kaiming_conv1d(self.frame, config.channels, 1)
        self.step_embedding = StepEmbedding(num_steps, config.step_encoding)
        upsamplers = 0 if n_mels is None else config.layers if config.upsampler_per_layer else 1
        self.upsamplers = nn.ModuleList(MelUpsampler(hop_length // config.fold) for _ in range(upsamplers))
        self.label_embedding = nn.Embedding(n_classes + 1, LABEL_FEATURES) if n_classes else None
        self.layers = nn.ModuleList(
            ResidualLayer(config.channels, 2 ** (index % config.dilation_cycle), n_mels, n_classes > 0)
            for index in range(config.layers)
        )
        self.skip_projection = kaiming_conv1d(config.channels, config.channels, 1)
        self.output_projection = kaiming_conv1d(config.channels, self.frame, 1)
        nn.init.zeros_(self.output_projection.weight)  # the first prediction is zero noise

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the layers; complex numbers around them do not compile."""
        self.layered = torch.compile(self.layered, *args, **kwargs)  # type: ignore[method-assign]

    @property
    def multiple(self) -> int:
        """Lengths N that need no filling up are multiples of this."""
        return self.frame

    def check(self, cond: Condition) -> None:
        """Refuse another condition than the network was built for.

        Raises:
            ConfigError: it is one.
        """
        check_condition(cond, self.n_mels, self.n_classes)

    def prepare(self, cond: Condition) -> PreparedCondition:
        """The work that no diffusion step changes.

        Raises:
            ConfigError: `cond` is not what the network was built for.
        """
        self.check(cond)
        mels = tuple(upsampler(cond.mel) for upsampler in self.upsamplers)
        label = self.label_embedding(cond.label) if self.label_embedding is not None else None
        return PreparedCondition(mels, label, None if self.stft is None else cond.envelope)

    def embed_time(self, t: Tensor) -> Tensor:
        """Times (B,) in [1 / T, 1] -> step features (B, 512). Step n of 1 ... T is embedded as n - 1."""
        return self.step_embedding(t * self.num_steps - 1)

    def forward(self, x_t: Tensor, t: Tensor, cond: PreparedCondition) -> Tensor:
        """Noisy waveform (B, N) at times t (B,) -> prediction (B, N)."""
        stft, envelope = self.stft, cond.envelope
        if stft is None or envelope is None:
            return self.layered(x_t, t, cond)
        prediction = self.layered(stft.synthesis(stft.analysis(x_t) / envelope), t, cond)
        return stft.synthesis(stft.analysis(prediction) * envelope)

    def layered(self, x_t: Tensor, t: Tensor, cond: PreparedCondition) -> Tensor:
        """`forward` between the transforms of a whitened network."""
        step = self.embed_time(t)
        x = F.relu(self.input_projection(fold(x_t, self.frame)))  # (B, C, N / fold)
        skips = torch.zeros_like(x)
        for index, layer in enumerate(self.layers):
            x, skip = layer(x, step, cond.mel_of(index), cond.label, self.config.step_in_residual)
            skips += skip
        x = F.relu(self.skip_projection(skips / math.sqrt(len(self.layers))))
        return unfold(self.output_projection(x), x_t.shape[1])
