"""One evaluation of a network, piece by piece, so that activations stay in the processor's cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

from wavediff.backbones.conditioning import Condition
from wavediff.backbones.diffwave import DiffWave
from wavediff.backbones.spectral import PreparedSpectrum, SpectralNet
from wavediff.engine.gradients import without_gradients
from wavediff.engine.stream_diffwave import DiffWaveStreams
from wavediff.engine.stream_spectral import SpectralStreams

SAMPLES = 4_096  # of DiffWave in a piece, over all items: 64 channels of float32 fill 1 MiB
FRAMES = 64  # of the network at frame rate


class Pieces:
    """Evaluates a `DiffWave` or `SpectralNet` without gradients; equal to it within rounding.

    Evaluated whole, a layer's activations (56 MB for five seconds of BASE) leave the cache between any two operations
    and their pages are faulted in anew each time.

    Args:
        network: whose weights are read at each call, so a later change of them counts.
        dtype: of DiffWave's layers.
    """

    def __init__(self, network: DiffWave | SpectralNet, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.dtype = network, dtype

    @without_gradients()
    def prepare(self, cond: Condition) -> Condition | PreparedSpectrum:
        """The work that no diffusion step changes, where it is not cheaper to repeat it than to remember it."""
        if isinstance(self.network, SpectralNet):
            return self.network.prepare(cond)
        self.network.check(cond)
        return cond

    @without_gradients()
    def __call__(self, x_t: Tensor, t: Tensor, cond: Condition | PreparedSpectrum) -> Tensor:
        """(B, N) at times t (B,) -> prediction (B, N)."""
        if isinstance(self.network, SpectralNet):
            size = FRAMES * self.network.stft.hop_length
            spectral = SpectralStreams(self.network)
            evaluation = spectral.evaluation(t)
            evaluation.condition(cond)  # type: ignore[arg-type]
            parts = (evaluation.push(piece, last) for piece, last in _pieces(x_t, size))
        else:
            size = max(SAMPLES // len(x_t), 256) * self.network.frame
            streams = DiffWaveStreams(self.network, dtype=self.dtype)
            streamed = streams.evaluation(t)
            streams.condition([cond], last=True)  # type: ignore[list-item]
            parts = (streamed.push(piece, last) for piece, last in _pieces(x_t, size))
        result, done = torch.empty_like(x_t), 0
        for part in parts:
            if part is not None:
                result[:, done : done + part.shape[1]] = part
                done += part.shape[1]
        return result


def _pieces(signal: Tensor, size: int) -> Iterator[tuple[Tensor, bool]]:
    for start in range(0, signal.shape[1], size):
        yield signal[:, start : start + size], start + size >= signal.shape[1]
