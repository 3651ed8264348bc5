"""DiffWave for inference on a CPU: each layer walks over time in chunks that stay in cache.

Evaluated whole, a layer's activations (56 MB for five seconds of BASE) leave the cache between any two
operations and their pages are faulted in anew each time. Here an operation's result is consumed while it is
still in the second-level cache, and only the residual stream and the skips, written in place, go to memory.
What no diffusion step changes, the mel at the sample rate and its projections, is computed once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.backbones.conditioning import Condition
from wavediff.backbones.diffwave import DiffWave, PreparedCondition, ResidualLayer
from wavediff.backbones.embeddings import SQRT_HALF
from wavediff.backbones.folding import fold, unfold

CHUNK = 4096  # samples a chunk holds, over all items: 64 channels of float32 fill 1 MiB
CACHE_BYTES = 512 << 20


@dataclass(frozen=True)
class ChunkedCondition:
    """The condition, and the mel projections of the first layers, as many as the cache holds."""

    prepared: PreparedCondition
    projections: tuple[Tensor, ...]


class ChunkedDiffWave:
    """Evaluates a `DiffWave` under `torch.inference_mode`; equal to it within rounding (1e-5).

    Args:
        network: whose weights are read at each call, so a later change of them counts.
        cache_bytes: at most this much memory keeps mel projections between steps; what exceeds it is computed
            again at each step. All layers of BASE take 339 MB per second of audio.
    """

    def __init__(self, network: DiffWave, cache_bytes: int = CACHE_BYTES) -> None:
        self.network, self.cache_bytes = network, cache_bytes

    @torch.inference_mode()
    def prepare(self, cond: Condition) -> ChunkedCondition:
        """The work that no diffusion step changes."""
        prepared = self.network.prepare(cond)
        projections: list[Tensor] = []
        free = self.cache_bytes
        for index, layer in enumerate(self.network.layers):
            mel = prepared.mel_of(index)
            if mel is None or (free := free - 2 * self.network.config.channels * mel[:, 0].numel() * 4) < 0:
                break
            projection = mel.new_empty(len(mel), 2 * self.network.config.channels, mel.shape[-1])
            for span in _chunks(*mel[:, 0].shape):
                projection[..., span] = layer.mel_projection(mel[..., span])  # type: ignore[operator]
            projections.append(projection)
        return ChunkedCondition(prepared, tuple(projections))

    @torch.inference_mode()
    def __call__(self, x_t: Tensor, t: Tensor, cond: ChunkedCondition) -> Tensor:
        """(B, N) at times t (B,) -> prediction (B, N)."""
        network = self.network
        step = network.embed_time(t)
        x = F.relu_(network.input_projection(fold(x_t, network.frame)))  # (B, C, N / fold)
        skips, after = torch.zeros_like(x), torch.empty_like(x)
        for index in range(len(network.layers)):
            self._layer(index, x, after, skips, step, cond)
            x, after = after, x
        output = x.new_empty(len(x), network.frame, x.shape[-1])
        scale = 1 / math.sqrt(len(network.layers))
        for span in _chunks(len(x), x.shape[-1]):
            hidden = F.relu_(network.skip_projection(skips[..., span] * scale))
            output[..., span] = network.output_projection(hidden)
        return unfold(output, x_t.shape[1])

    def _layer(self, index: int, x: Tensor, after: Tensor, skips: Tensor, step: Tensor, cond: ChunkedCondition) -> None:
        """One residual layer: reads the stream `x`, writes it to `after`, adds to `skips`; all (B, C, N)."""
        layer: ResidualLayer = self.network.layers[index]  # type: ignore[assignment]
        channels, length, reach = x.shape[1], x.shape[2], layer.dilation
        shift = layer.step_projection(step).unsqueeze(-1)  # (B, C, 1)
        bias = None if cond.prepared.label is None else layer.label_projection(cond.prepared.label)  # type: ignore[misc]
        cached = cond.projections[index] if index < len(cond.projections) else None
        mel = cond.prepared.mel_of(index)
        in_residual = self.network.config.step_in_residual
        for span in _chunks(len(x), length):
            low, high = max(span.start - reach, 0), min(span.stop + reach, length)
            h = x[..., low:high] + shift
            h = F.pad(h, (low - span.start + reach, span.stop + reach - high))
            y = F.conv1d(h, layer.dilated_conv.weight, layer.dilated_conv.bias, dilation=reach)
            if cached is not None:
                y += cached[..., span]
            elif mel is not None:
                y += layer.mel_projection(mel[..., span])  # type: ignore[misc]
            if bias is not None:
                y += bias.unsqueeze(-1)
            gated = y[:, :channels].sigmoid_().mul_(y[:, channels:].tanh_())
            z = layer.output_projection(gated)
            stream = h[..., reach : reach + span.stop - span.start] if in_residual else x[..., span]
            torch.add(stream, z[:, :channels], out=after[..., span]).mul_(SQRT_HALF)
            skips[..., span] += z[:, channels:]


def _chunks(batch: int, length: int) -> Iterator[slice]:
    size = max(CHUNK // batch, 256)
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
