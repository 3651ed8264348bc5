"""`SpectralNet` on signals that arrive in pieces."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wavediff.backbones.conditioning import Condition, Workspace
from wavediff.backbones.spectral import PreparedSpectrum, SpectralBlock, SpectralNet
from wavediff.engine.stream_stft import Analysis, Synthesis, analysis_look_ahead, synthesis_look_ahead
from wavediff.engine.streams import Streams
from wavediff.mel.lines import Context, DelayLine, Ends

FRAMES = 64  # in a piece, over all items
DECODED_FRAMES = 320  # over all items: every iteration of the guess has its overhead for each piece


class StreamedSpectral:
    """One evaluation of a `SpectralNet` at one time t.

    Args:
        network: the network.
        t: (B,)
        ends: of the items.
        workspace: shared by all evaluations.
        dtype: of the blocks' products.
    """

    def __init__(
        self, network: SpectralNet, t: Tensor, ends: Ends | None, workspace: Workspace, dtype: torch.dtype
    ) -> None:
        self.network, self._workspace = network, workspace
        blocks: list[SpectralBlock] = list(network.blocks)  # type: ignore[arg-type]
        time = network.time(t)
        self._layers = [(block, block.at(time, dtype)) for block in blocks]
        self._analysis, self._synthesis = Analysis(network.stft, ends), Synthesis(network.stft, ends)
        self._contexts = [Context(block.past, block.ahead, ends=ends) for block in blocks]
        self._envelopes, self._expected = DelayLine(), DelayLine()
        self._whitened, self._held_envelopes = DelayLine(), DelayLine()

    def condition(self, prepared: PreparedSpectrum) -> None:
        """The next piece of frames, before the samples that need it."""
        self._envelopes.push(prepared.envelope)
        self._expected.push(prepared.expected)

    def push(self, x_t: Tensor | None, last: bool) -> Tensor | None:
        """Noisy samples (B, n * hop_length) -> the prediction that is settled."""
        network = self.network
        spectra = self._analysis.push(x_t, last)
        x: Tensor | None = None
        if spectra is not None:
            envelope = self._envelopes.take(spectra.shape[1])
            whitened = spectra / envelope
            self._whitened.push(whitened)
            self._held_envelopes.push(envelope)
            x = network.tokens(whitened, self._expected.take(spectra.shape[1]))
        for context, (block, weights) in zip(self._contexts, self._layers, strict=True):
            window = context.push(x, last)
            x = None if window is None else block.step(window, weights, self._workspace)
        if x is None:
            return self._synthesis.push(None, last)
        whitened = self._whitened.take(x.shape[1])
        return self._synthesis.push(network.masked(x, whitened) * self._held_envelopes.take(x.shape[1]), last)


class SpectralStreams(Streams):
    """What all evaluations of a `SpectralNet` on one signal share."""

    joins = takes_dtype = True

    def __init__(self, network: SpectralNet, ends: Ends | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.ends, self.dtype = network, ends, dtype
        self._workspace = Workspace(network.band_offset.device)
        self._evaluations: list[StreamedSpectral] = []

    def evaluation(self, t: Tensor) -> StreamedSpectral:
        """At times t (B,); made before the first piece."""
        self._evaluations.append(StreamedSpectral(self.network, t, self.ends, self._workspace, self.dtype))
        return self._evaluations[-1]

    @staticmethod
    def prepare(network: SpectralNet, cond: Condition) -> PreparedSpectrum:
        """As the network does."""
        return network.prepare(cond)

    def condition(self, prepared: Sequence[PreparedSpectrum], last: bool) -> None:
        """Spectra of the next pieces of frames."""
        for spectra in prepared:
            for evaluation in self._evaluations:
                evaluation.condition(spectra)

    @staticmethod
    def look_ahead(network: SpectralNet) -> int:
        """The reach of its blocks, and of the transforms around them."""
        reach = sum(block.ahead for block in network.blocks)  # type: ignore[misc]
        frames = analysis_look_ahead(network.stft) + reach + synthesis_look_ahead(network.stft)
        return frames * network.stft.hop_length

    @staticmethod
    def piece(network: SpectralNet, batch: int) -> int:
        """Whole frames."""
        return FRAMES * network.stft.hop_length

    @staticmethod
    def frames_at_once(network: SpectralNet, hop_length: int, batch: int, streamed: bool) -> int:
        """At least as many as the guess needs, of whose products those with few columns round differently."""
        return max((FRAMES if streamed else DECODED_FRAMES) // batch, 16)

    @staticmethod
    def frame_bytes(network: SpectralNet, hop_length: int) -> int:
        """Tokens and hidden channels of a block, and spectra around it."""
        shape = network.config
        return 4 * (shape.bands * shape.channels * (4 + 2 * shape.expansion) + 16 * network.stft.n_fft)
