"""The network at frame rate for inference on a CPU: blocks walk over time in chunks that stay in cache.

Each block reads a few frames beyond its chunk, so the result is that of the whole. Besides the whitened spectrum only
two token streams are kept for the whole utterance; all else lives as long as a chunk.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from wavediff.backbones.conditioning import Condition
from wavediff.backbones.spectral import PreparedSpectrum, SpectralBlock, SpectralNet

CHUNK = 256  # frames a chunk holds, over all items


class ChunkedSpectral:
    """Evaluates a `SpectralNet` under `torch.inference_mode`; equal to it within rounding (1e-5).

    Args:
        network: whose weights are read at each call, so a later change of them counts.
        chunk: frames evaluated together, over all items.
    """

    def __init__(self, network: SpectralNet, chunk: int = CHUNK) -> None:
        self.network, self.chunk = network, chunk

    @torch.inference_mode()
    def prepare(self, cond: Condition) -> PreparedSpectrum:
        """The work that no diffusion step changes."""
        return self.network.prepare(cond)

    @torch.inference_mode()
    def __call__(self, x_t: Tensor, t: Tensor, prepared: PreparedSpectrum) -> Tensor:
        """(B, N) at times t (B,) -> prediction (B, N)."""
        network = self.network
        spectrum = network.stft.analysis(x_t).div_(prepared.envelope)  # overwritten by the prediction
        batch, frames = spectrum.shape[:2]
        time = network.time(t)
        x = spectrum.real.new_empty(batch, frames, network.config.bands, network.config.channels)
        after = torch.empty_like(x)
        spans = list(self._spans(batch, frames))
        for span in spans:
            x[:, span] = network.tokens(spectrum[:, span], prepared.expected[:, span])
        reach = network.config.kernel_frames // 2
        for block in network.blocks:
            for span in spans:
                _advance(block, x, after, span, reach, time)  # type: ignore[arg-type]
            x, after = after, x
        for span in spans:
            spectrum[:, span] = network.masked(x[:, span], spectrum[:, span])
        return network.stft.synthesis(spectrum.mul_(prepared.envelope))

    def _spans(self, batch: int, frames: int) -> Iterator[slice]:
        size = max(self.chunk // batch, 16)
        for start in range(0, frames, size):
            yield slice(start, min(start + size, frames))


def _advance(block: SpectralBlock, x: Tensor, after: Tensor, span: slice, reach: int, time: Tensor) -> None:
    """One block over the frames of `span`: reads `x`, writes `after`, both (B, frames, bands, channels)."""
    first, last = max(span.start - reach, 0), min(span.stop + reach, x.shape[1])
    kept = slice(span.start - first, span.stop - first)
    after[:, span] = block(x[:, first:last], time)[:, kept]
