"""The residual layer of DiffWave, figure 2 (a) of Kong et al. 2021 (arXiv:2009.09761).

A whole signal is convolved, channels first, with gradients. A piece of one is small enough that all of a layer stays in
the second-level cache of a CPU; there a dilated convolution of samples first, channels last, is three matrix products
of neighbouring rows, which the matrix kernels do at full speed (twice that of the convolution, and five times for the
1x1 convolution).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.backbones.conditioning import Workspace
from wavediff.backbones.diffwave_inputs import SQRT_HALF, STEP_FEATURES, kaiming_conv1d

LABEL_FEATURES = 128  # section 3.2: width of the global conditioner


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
        """x (B, C, N) -> residual stream (B, C, N) and skip (B, C, N).

        Args:
            x: the stream; zeros lie beyond its ends.
            step: features (B, 512).
            mel: (B, n_mels, N)
            label: features (B, 128).
            step_in_residual: see `DiffWaveConfig`.
        """
        h = x + self.step_projection(step).unsqueeze(-1)
        y = self.dilated_conv(h)  # (B, 2C, N)
        if self.mel_projection is not None:
            y += self.mel_projection(mel)
        if self.label_projection is not None:
            y += self.label_projection(label).unsqueeze(-1)
        return _added(h if step_in_residual else x, self.output_projection(gated(y)))

    def step(
        self, window: Tensor, mel: Tensor | None, label: Tensor | None, products: "LayerProducts"
    ) -> tuple[Tensor, Tensor]:
        """`forward` with the step in the residual, on a piece and its neighbours, without gradients.

        Args:
            window: x + step, (B, C, dilation + n + dilation), channels last in memory, as all that is given and
                returned; the results lie in the workspace.
            mel: (B, n_mels, n)
            label: features (B, 128).
            products: what computes the convolutions.
        """
        h = window[..., self.dilation : window.shape[2] - self.dilation]
        stream = products.memory("stream", h.transpose(1, 2)).transpose(1, 2)
        return _added(h, products(window, mel, label), stream)


def _added(x: Tensor, z: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """x (B, C, N) and the outputs z (B, 2C, N) -> residual stream, in `out`, and skip."""
    residual, skip = z.chunk(2, dim=1)
    return torch.add(x, residual, out=out).mul_(SQRT_HALF), skip  # sqrt(1/2) (x + residual)


@dataclass(frozen=True)
class LayerProducts:
    """The convolutions of a residual layer as matrix products in a workspace; gate and value are the halves of y.

    tanh(b) = 2 sigmoid(2 b) - 1: with the value's columns doubled here, one sigmoid serves both halves, and the other
    factor 2 is in `output`.

    Attributes:
        workspace: where results are written; of all layers, which use it in turn.
        dilation: in positions.
        taps: (3, C, 2C), in the type of the products.
        mel: (n_mels, 2C) in that type, or None.
        label: (128, 2C), or None.
        bias: (2C,) of convolution, mel and label together.
        output: (C, 2C) in the type of the products, residual and skip.
        output_bias: (2C,) in that type.
    """

    workspace: Workspace
    dilation: int
    taps: Tensor
    mel: Tensor | None
    label: Tensor | None
    bias: Tensor
    output: Tensor
    output_bias: Tensor

    @classmethod
    def of(cls, layer: ResidualLayer, dtype: torch.dtype, workspace: Workspace) -> "LayerProducts":
        """With the layer's weights as they are now, computed in `dtype`."""
        conv, mel, label = layer.dilated_conv, layer.mel_projection, layer.label_projection
        doubled = conv.weight.new_ones(len(conv.weight))
        doubled[len(doubled) // 2 :] = 2
        bias = sum(part.bias for part in (conv, mel, label) if part is not None and part.bias is not None)

        def ready(weight: Tensor) -> Tensor:
            return weight.to(dtype).contiguous()

        return cls(
            workspace,
            layer.dilation,
            ready(conv.weight.permute(2, 1, 0) * doubled),
            None if mel is None else ready(mel.weight[:, :, 0].T * doubled),
            None if label is None else label.weight.T * doubled,
            bias * doubled,
            ready(2 * layer.output_projection.weight[:, :, 0].T),
            ready(layer.output_projection.bias),  # type: ignore[arg-type]
        )

    def __call__(self, window: Tensor, mel: Tensor | None, label: Tensor | None) -> Tensor:
        """As `ResidualLayer.step` is given them -> residual and skip, z (B, 2C, n)."""
        rows = window.transpose(1, 2).to(self.taps.dtype)
        items, count = len(rows), rows.shape[1] - 2 * self.dilation
        taps = [rows[:, tap * self.dilation : tap * self.dilation + count] for tap in range(3)]
        products = list(zip(taps, self.taps, strict=True))
        if mel is not None and self.mel is not None:
            products.append((mel.transpose(1, 2), self.mel))
        bias = self.bias.expand(items, -1)
        if label is not None and self.label is not None:
            bias = torch.addmm(bias, label, self.label)
        y = self.workspace.get("y", (items, count, len(self.bias)), rows.dtype)
        gate, value = add_products(bias.to(rows.dtype), products, y).sigmoid_().chunk(2, dim=2)
        product = torch.mul(gate, value.sub_(0.5), out=self.memory("gated", taps[0]))
        z = add_products(self.output_bias.expand(items, -1), [(product, self.output)], y)
        return z.transpose(1, 2)

    def memory(self, name: str, like: Tensor) -> Tensor:
        """Of the workspace, for as many values as those of another tensor, of the same type."""
        return self.workspace.get(name, tuple(like.shape), like.dtype)


def add_products(bias: Tensor, products: Sequence[tuple[Tensor, Tensor]], out: Tensor) -> Tensor:
    """bias (B, K) plus the products of rows (B, n, C) and weights (C, K), in `out` (B, n, K)."""
    if out.device.type != "cpu":
        total = bias[:, None]
        for rows, weight in products:
            total = torch.baddbmm(total, rows, weight.expand(len(out), -1, -1), out=out)
        return out
    for index, target in enumerate(out):  # the windows of a batch are not one matrix
        for part in _row_blocks(target):
            (rows, weight), *others = products
            block = torch.addmm(bias[index], rows[index, part], weight, out=target[part])
            for rows, weight in others:
                block.addmm_(rows[index, part], weight)
    return out


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


def pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution of (B, n, channels)."""
    return F.linear(x, conv.weight[:, :, 0], conv.bias)  # type: ignore[arg-type,index]
