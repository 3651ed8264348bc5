"""DiffWave: the dilated residual network of Kong et al. 2021 (arXiv:2009.09761), section 3."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import torch
from torch import Tensor, nn

from wavediff.arguments import check_bounds, chosen
from wavediff.backbones.conditioning import BackboneConfig, Condition, check_condition, fold, unfold
from wavediff.backbones.diffwave_inputs import (
    SQRT_HALF,
    MelUpsampler,
    StepEmbedding,
    StepEncoding,
    kaiming_conv1d,
)
from wavediff.backbones.residual_layer import LABEL_FEATURES, ResidualLayer
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT


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
        switches = dict.fromkeys(("upsampler_per_layer", "step_in_residual", "whitened"), (False, True))
        sizes = {"channels": (1, 1024), "layers": (1, 256), "dilation_cycle": (1, 16), "fold": (1, 4096)}
        check_bounds(self, "backbone", **sizes, **switches)
        chosen(self.step_encoding, "backbone.step_encoding", get_args(StepEncoding), ConfigError)


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

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled: in a copy it would still compute with the weights of this network."""
        return {name: value for name, value in self.__dict__.items() if name != "layered"}

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
        x = self.entered(fold(x_t, self.frame))  # (B, C, N / fold)
        skips = torch.zeros_like(x)
        for index, layer in enumerate(self.layers):
            x, skip = layer(x, step, cond.mel_of(index), cond.label, self.config.step_in_residual)
            skips += skip
        return unfold(self.answered(skips), x_t.shape[1])

    def shifts(self, t: Tensor) -> list[Tensor]:
        """What is added to the stream before `step` of each layer at times t (B,): (B, C).

        Their gradients would be small differences of large sums, so `layered` has another way.
        """
        step = self.embed_time(t)
        steps: list[Tensor] = [layer.step_projection(step) for layer in self.layers]  # type: ignore[operator]
        if self.config.step_in_residual:
            return steps
        # `step` makes sqrt(1/2) (x + step + residual); the step in it, which the paper has not, is taken off again.
        return [steps[0]] + [torch.sub(own, before, alpha=SQRT_HALF) for before, own in pairwise(steps)]

    def entered(self, frames: Tensor, convolve: Callable[[nn.Module, Tensor], Tensor] = nn.Module.__call__) -> Tensor:
        """Frames of the signal -> the stream before the first layer; `convolve` knows where the channels are."""
        return convolve(self.input_projection, frames).relu_()

    def answered(self, skips: Tensor, convolve: Callable[[nn.Module, Tensor], Tensor] = nn.Module.__call__) -> Tensor:
        """Sum of skips, which is overwritten -> frames of the prediction."""
        x = convolve(self.skip_projection, skips.div_(math.sqrt(len(self.layers)))).relu_()
        return convolve(self.output_projection, x)
