"""`DiffWave` on signals that arrive in pieces.

Samples first, channels last: a dilated convolution is then three matrix products of neighbouring rows, which the CPU's
matrix kernels do at full speed (twice that of its convolution here, and five times for the 1x1 convolution). A piece
is small enough that all of a layer stays in the second-level cache; no activation of the whole signal ever exists.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.backbones.conditioning import Condition
from wavediff.backbones.diffwave import DiffWave, ResidualLayer
from wavediff.backbones.embeddings import SQRT_HALF
from wavediff.backbones.workspace import Workspace
from wavediff.engine.lines import DelayLine, Ends
from wavediff.engine.sampled_mels import MEL_REACH, SampledMels
from wavediff.engine.stream_prior import Whitening
from wavediff.engine.stream_stft import analysis_look_ahead, synthesis_look_ahead
from wavediff.engine.streams import Streams

SAMPLES = 4_096  # in a piece, over all items: 64 channels of float32 fill 1 MiB


@dataclass(frozen=True)
class LayerWeights:
    """A residual layer's weights as matrix products take them; gate and value are the halves of figure 2 (a).

    tanh(b) = 2 sigmoid(2 b) - 1: with the value's columns doubled here, one sigmoid serves both halves, and the other
    factor 2 is in `output`.

    Attributes:
        taps: (3, C, 2C)
        mel: (n_mels, 2C), or None.
        bias: (2C,)
        output: (C, 2C)
        output_bias: (2C,)
        doubled: (2C,) 1 for the gate, 2 for the value.
    """

    taps: Tensor
    mel: Tensor | None
    bias: Tensor
    output: Tensor
    output_bias: Tensor
    doubled: Tensor

    @classmethod
    def of(cls, layer: ResidualLayer, dtype: torch.dtype) -> "LayerWeights":
        """From the module, for a stream computed in `dtype`."""
        conv, mel, out = layer.dilated_conv, layer.mel_projection, layer.output_projection
        doubled = conv.weight.new_ones(conv.weight.shape[0])
        doubled[len(doubled) // 2 :] = 2
        bias = conv.bias if mel is None else conv.bias + mel.bias  # type: ignore[operator]

        def ready(weight: Tensor) -> Tensor:
            return weight.to(dtype).contiguous()

        return cls(
            ready(conv.weight.permute(2, 1, 0) * doubled),
            None if mel is None else ready(mel.weight[:, :, 0].T * doubled),
            ready(bias * doubled),  # type: ignore[operator]
            ready(2 * out.weight[:, :, 0].T),
            ready(out.bias),  # type: ignore[arg-type]
            ready(doubled),
        )


class StreamedDiffWave:
    """One evaluation of a `DiffWave` at one time t.

    Args:
        network: the network.
        t: (B,)
        ends: of the items.
        weights: of its layers, shared by all evaluations.
        mels: where the mel at its rate is read, shared by all evaluations.
        workspace: shared by all evaluations.
    """

    def __init__(
        self,
        network: DiffWave,
        t: Tensor,
        ends: Ends | None,
        weights: Sequence[LayerWeights],
        mels: SampledMels,
        workspace: Workspace,
    ) -> None:
        self.network, self.mels = network, mels
        step = network.embed_time(t)
        self._layers = [
            _StreamedLayer(index, layer, part, step, ends, network, mels, workspace)  # type: ignore[arg-type]
            for index, (layer, part) in enumerate(zip(network.layers, weights, strict=True))
        ]
        self._line, self._samples, self._given = DelayLine(), 0, 0
        self._whitening = None if network.stft is None else Whitening(network.stft, ends)

    @property
    def position(self) -> int:
        """The first position whose mel will be read again."""
        return self._layers[-1].given

    def condition(self, conditions: Sequence[Condition]) -> None:
        """Of the next pieces of frames, before the samples that need them."""
        if self._whitening is not None:
            self._whitening.conditions.extend(conditions)

    def push(self, x_t: Tensor | None, last: bool) -> Tensor | None:
        """Noisy samples (B, n) -> the prediction that is settled."""
        if self._whitening is None:
            return self._layered(x_t, last)
        return self._whitening.push(x_t, self._layered, last)

    def _layered(self, x_t: Tensor | None, last: bool) -> Tensor | None:
        network = self.network
        self._line.push(x_t)
        self._samples += 0 if x_t is None else x_t.shape[1]
        count = self._line.held
        if not last:  # the mel of a frame comes later than its noise
            count = min(count // network.frame, self.mels.ready - self._layers[0].taken) * network.frame
        x: Tensor | None = None
        if count > 0:
            folded = F.pad(self._line.take(count), (0, -count % network.frame)).unflatten(1, (-1, network.frame))
            x = _pointwise(network.input_projection, folded).relu_()
        skips: Tensor | None = None
        for layer in self._layers:
            x, skips = layer.push(x, skips, last)
        if skips is None:
            return None
        hidden = _pointwise(network.skip_projection, skips.mul_(1 / math.sqrt(len(self._layers)))).relu_()
        prediction = _pointwise(network.output_projection, hidden).flatten(1)[:, : self._samples - self._given]
        self._given += prediction.shape[1]
        return prediction


class _StreamedLayer:
    """A residual layer, figure 2 (a): pieces (B, n, C) of the stream and of the sum of skips, both in float32."""

    def __init__(
        self,
        index: int,
        layer: ResidualLayer,
        weights: LayerWeights,
        step: Tensor,
        ends: Ends | None,
        network: DiffWave,
        mels: SampledMels,
        workspace: Workspace,
    ) -> None:
        self.index, self.weights, self.ends, self.mels, self.workspace = index, weights, ends, mels, workspace
        self.reach, self._label_projection = layer.dilation, layer.label_projection
        self._shift = layer.step_projection(step)[:, None]  # (B, 1, C)
        self._output_bias = weights.output_bias.expand(len(step), -1).clone()
        if not network.config.step_in_residual:  # it is in the window that the residual is taken from
            self._output_bias[:, : self._shift.shape[2]] -= self._shift[:, 0]
        self._kept = self._shift.new_zeros(len(step), self.reach, self._shift.shape[2])
        self._gate_bias: Tensor | None = None
        self._skips = DelayLine()
        self.taken = self.given = 0

    def push(self, x: Tensor | None, skips: Tensor | None, last: bool) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Stream and skips in, stream and skips out, later by the reach of the convolution."""
        self._skips.push(skips)
        window = self._window(x, last)
        count, channels = window.shape[1] - 2 * self.reach, window.shape[2]
        if count <= 0:
            self._kept = window.clone()
            return None, None
        self._kept = window[:, count:].clone()
        dtype, get = self.weights.taps.dtype, self.workspace.get
        y = self._gate_input(window.to(dtype), count).sigmoid_()
        gated = torch.mul(
            y[..., :channels], y[..., channels:].sub_(0.5), out=get("gated", (len(y), count, channels), dtype)
        )
        z = get("z", (len(y), count, 2 * channels), dtype)
        _add_products(self._output_bias.to(dtype), [(gated, self.weights.output)], z)
        stream = get(f"stream {self.index % 2}", (len(y), count, channels), window.dtype)
        torch.add(window[:, self.reach : self.reach + count], z[..., :channels], out=stream).mul_(SQRT_HALF)
        self.given += count
        skip = z[..., channels:]
        return stream, skip.to(window.dtype, copy=True) if self.index == 0 else self._skips.take(count) + skip

    def _window(self, x: Tensor | None, last: bool) -> Tensor:
        """What is left of the last window, h = x + step, and zeros beyond the end."""
        kept, new = self._kept.shape[1], 0 if x is None else x.shape[1]
        length = kept + new + (self.reach if last else 0)
        window = self.workspace.get("window", (len(self._kept), length, self._kept.shape[2]), self._kept.dtype)
        window[:, :kept] = self._kept
        if x is not None:
            h = torch.add(x, self._shift, out=window[:, kept : kept + new])
            mask = None if self.ends is None else self.ends.mask(self.taken, new, self.mels.unit)
            if mask is not None:
                h *= mask.unsqueeze(-1)
            self.taken += new
        window[:, kept + new :] = 0
        return window

    def _gate_input(self, window: Tensor, count: int) -> Tensor:
        """What the gate is made of: dilated convolution, mel and label, (B, count, 2C)."""
        weights = self.weights
        if self._gate_bias is None:
            bias = weights.bias.expand(len(window), -1)
            if self._label_projection is not None and self.mels.label is not None:
                bias = bias + self._label_projection(self.mels.label) * weights.doubled
            self._gate_bias = bias.to(window.dtype)
        y = self.workspace.get("y", (len(window), count, weights.output.shape[1]), window.dtype)
        taps = [window[:, tap * self.reach : tap * self.reach + count] for tap in range(3)]
        products = list(zip(taps, weights.taps, strict=True))
        if weights.mel is not None:
            products.append((self.mels.read(self.index, self.given, count), weights.mel))
        _add_products(self._gate_bias, products, y)
        return y


def _add_products(bias: Tensor, products: Sequence[tuple[Tensor, Tensor]], out: Tensor) -> None:
    """bias (B, K) plus the products of rows (B, n, C) and weights (C, K), into (B, n, K)."""
    if out.device.type != "cpu":
        total = bias[:, None]
        for rows, weight in products:
            total = torch.baddbmm(total, rows, weight.expand(len(out), -1, -1), out=out)
        return
    for index, target in enumerate(out):  # the windows of a batch are not one matrix
        for part in _row_blocks(target):
            (rows, weight), *others = products
            block = torch.addmm(bias[index], rows[index, part], weight, out=target[part])
            for rows, weight in others:
                block.addmm_(rows[index, part], weight)


def _row_blocks(matrix: Tensor) -> Iterator[slice]:
    """All rows. In bfloat16 on a CPU, powers of two of them: oneDNN makes, and keeps, a program of a megabyte or so for
    each number of rows it has met, and where a signal begins and ends each layer has its own."""
    done, count = 0, len(matrix)
    while done < count:
        size = count - done
        if matrix.dtype == torch.bfloat16 and matrix.device.type == "cpu":
            size = 1 << size.bit_length() - 1
        yield slice(done, done + size)
        done += size


def _pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution of (B, n, channels)."""
    return F.linear(x, conv.weight[:, :, 0], conv.bias)  # type: ignore[arg-type,index]


class DiffWaveStreams(Streams):
    """What all evaluations of a `DiffWave` on one signal share. `dtype` is that of activations and products."""

    takes_dtype = True
    mel_reach = MEL_REACH

    def __init__(self, network: DiffWave, ends: Ends | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.ends = network, ends
        self.weights = [LayerWeights.of(layer, dtype) for layer in network.layers]  # type: ignore[arg-type]
        self.mels = SampledMels(network, ends, dtype)
        self._workspace = Workspace(self.weights[0].taps.device)
        self._evaluations: list[StreamedDiffWave] = []

    def evaluation(self, t: Tensor) -> StreamedDiffWave:
        """At times t (B,); made before the first piece."""
        self._evaluations.append(StreamedDiffWave(self.network, t, self.ends, self.weights, self.mels, self._workspace))
        return self._evaluations[-1]

    @staticmethod
    def prepare(network: DiffWave, cond: Condition) -> Condition:
        """The condition itself."""
        network.check(cond)
        return cond

    def condition(self, prepared: Sequence[Condition], last: bool) -> None:
        """Conditions of the next pieces of frames."""
        self.mels.forget(min(evaluation.position for evaluation in self._evaluations))
        self.mels.push(prepared, last)
        for evaluation in self._evaluations:
            evaluation.condition(prepared)

    @staticmethod
    def look_ahead(network: DiffWave) -> int:
        """The reach of its convolutions, and of the transforms around them."""
        reach = network.frame * sum(layer.dilation for layer in network.layers)  # type: ignore[misc]
        if network.stft is not None:
            frames = analysis_look_ahead(network.stft) + synthesis_look_ahead(network.stft)
            reach += 2 * frames * network.stft.hop_length
        return reach

    @staticmethod
    def piece(network: DiffWave, batch: int) -> int:
        """As many as the cache holds."""
        return max(SAMPLES // batch, 256) * network.frame

    @staticmethod
    def frames_at_once(network: DiffWave, hop_length: int, batch: int, streamed: bool) -> int:
        """As many as the cache holds."""
        return max(SAMPLES * network.config.fold // batch // hop_length, 1)
