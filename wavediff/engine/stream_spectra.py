"""What is computed in frames, on pieces of a mel: shaped noise, the guess that sampling starts from, `SpectralNet`."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from wavediff.backbones import Condition, MelInversion
from wavediff.backbones.conditioning import SpectralBlock, Workspace
from wavediff.backbones.spectral import PreparedSpectrum, SpectralNet
from wavediff.diffusion.priors import ShapedNormal
from wavediff.engine.stream_stft import Analysis, PhaseStep, Synthesis, analysis_look_ahead, synthesis_look_ahead
from wavediff.engine.streams import Streams
from wavediff.mel import FrameSTFT
from wavediff.mel.griffin_lim import PhaseInBlocks
from wavediff.mel.lines import Context, DelayLine, Ends, Window
from wavediff.mel.phases import Partials, finer_from, iterations_of_rates, with_magnitude


class SpectrumStream:
    """A change of spectra: samples (B, n * hop_length) -> the changed ones that are settled.

    Args:
        stft: of the spectra.
        change: (spectra (B, n, bins), `field` of the same frames) -> spectra.
        field: of the condition.
        ends: of the items.
    """

    def __init__(
        self, stft: FrameSTFT, change: Callable[[Tensor, Tensor], Tensor], field: str, ends: Ends | None
    ) -> None:
        self._analysis, self._synthesis, self._change = Analysis(stft, ends), Synthesis(stft, ends), change
        self._field, self._line = field, DelayLine()

    def push(self, samples: Tensor | None, conditions: Sequence[Condition], last: bool) -> Tensor | None:
        """The next samples, and the conditions of the next frames."""
        for cond in conditions:
            self._line.push(getattr(cond, self._field))
        spectra = self._analysis.push(samples, last)
        if spectra is not None:
            spectra = self._change(spectra, self._line.take(spectra.shape[1]))
        return self._synthesis.push(spectra, last)


class Whitening:
    """The transforms around a whitened network, which works on the signal over the envelope of the noise."""

    def __init__(self, stft: FrameSTFT, ends: Ends | None) -> None:
        self.conditions: list[Condition] = []
        self._whiten = SpectrumStream(stft, torch.div, "envelope", ends)
        self._colour = SpectrumStream(stft, torch.mul, "envelope", ends)

    def push(
        self, x_t: Tensor | None, network: Callable[[Tensor | None, bool], Tensor | None], last: bool
    ) -> Tensor | None:
        """Noisy samples (B, n * hop_length) -> the prediction that is settled."""
        white = self._whiten.push(x_t, self.conditions, last)
        prediction = self._colour.push(network(white, last), self.conditions, last)
        self.conditions.clear()
        return prediction


class PastBlocks:
    """Residual blocks that look at earlier frames alone, on tokens that arrive in pieces.

    Args:
        blocks: of a network.
        device: where it is.
    """

    def __init__(self, blocks: nn.ModuleList, device: torch.device) -> None:
        layers: list[SpectralBlock] = list(blocks)  # type: ignore[arg-type]
        self._layers = [(Context(block.past, 0), block, block.at(None)) for block in layers]
        self._workspace = Workspace(device)

    def push(self, x: Tensor, count: int) -> Tensor:
        """Tokens (B, n, bands, channels), of which `count` are the next ones: see `InversionStream.push`."""
        for context, block, weights in self._layers:
            window = context.push(x[:, :count], False)
            if window is not None:
                x = block.step(torch.cat([window, x[:, count:]], 1), weights, self._workspace)
        return x


class InversionStream:
    """The denoiser's `inversion`: pseudo-inverses of the next frames -> their magnitudes."""

    def __init__(self, inversion: MelInversion, prior: ShapedNormal) -> None:
        self._inversion, self._prior = inversion, prior
        self._blocks = PastBlocks(inversion.blocks, inversion.fade.device)

    def push(self, magnitude: Tensor, count: int) -> Tensor:
        """(B, n, bins) -> (B, n, bins).

        Args:
            magnitude: of at least `LEAST_COLUMNS` frames.
            count: how many of them are the next ones; others may follow, so that products round alike.
        """
        x = self._blocks.push(self._inversion.tokens(magnitude), count)
        return self._prior.with_bands(self._inversion.changed(x, magnitude), magnitude)[:, :count]


class NearGuessStream:
    """`ShapedNormal.guess` for low latency: white noise (B, n * hop_length) -> a guess at the speech."""

    def __init__(self, prior: ShapedNormal, ends: Ends | None = None) -> None:
        self._hop, self._ends, self._frames = prior.stft.hop_length, ends, 0
        self._phase, self._synthesis = PhaseInBlocks(prior.stft, prior.harmonics), Synthesis(prior.stft, ends)

    def push(self, white: Tensor | None, conditions: Sequence[Condition], last: bool) -> Tensor | None:
        """The guess that is settled."""
        magnitudes = [cond.magnitude for cond in conditions if cond.magnitude is not None]
        if white is None or not magnitudes:
            return self._synthesis.push(self._phase.push(None, None, last), last)
        magnitude = torch.cat(magnitudes, 1)
        if self._ends is not None:
            magnitude = self._ends.clear(magnitude, self._frames)
        self._frames += magnitude.shape[1]
        spectra = self._phase.push(magnitude, white.unflatten(1, (-1, self._hop)), last)
        return self._synthesis.push(spectra, last)


class GuessStream:
    """`ShapedNormal.guess` from noise: white noise (B, n * hop_length) -> a guess at the speech."""

    STATE = ("_given",)

    def __init__(self, prior: ShapedNormal, ends: Ends | None = None) -> None:
        self._shape = SpectrumStream(prior.stft, prior.shaped, "envelope", ends)
        self._analysis = Analysis(prior.stft, ends)
        self._partials = Partials(prior.spec) if prior.config.partials else None
        self._magnitudes, self._finer, self._given = Window(), Window(), 0
        rates = prior.rates
        counts = iterations_of_rates(prior.config.phase_iterations, len(rates) - 1)
        self._rates = [
            [PhaseStep(stft, self._magnitudes, index == 0, ends) for index in range(count)]
            for stft, count in zip(rates, counts, strict=True)
        ]
        turn = counts[-1] if prior.harmonics is None else finer_from(counts[-1], len(rates) - 1)
        for step in self._rates[-1][turn : turn + 1]:
            step.harmonics, step.finer = prior.harmonics, self._finer
        self._later = self._rates[-1][turn + 1 :]
        for step in self._later:
            step.magnitudes = self._finer
        steps = [step for steps in self._rates for step in steps]
        self._sooner = steps[: len(steps) - len(self._later)]
        bins = [stft.n_fft // 2 + 1 for stft in rates]
        self._widths = [after - before for before, after in pairwise([0, *bins])]
        self._above = [DelayLine() for _ in rates]  # bins that no lower rate has
        self._synthesis = Synthesis(prior.stft, ends)

    def push(self, white: Tensor | None, conditions: Sequence[Condition], last: bool) -> Tensor | None:
        """The guess that is settled."""
        for cond in conditions:
            self._magnitudes.push(cond.magnitude)
        spectra = self._analysis.push(self._shape.push(white, conditions, last), last)
        if spectra is not None:
            wanted = self._magnitudes.look(self._given, spectra.shape[1])
            self._given += spectra.shape[1]
            if self._partials is not None:
                spectra = self._partials.push(wanted, spectra)
            spectra = with_magnitude(spectra, wanted)
            spectra, *above = spectra.split(self._widths, -1)
            for line, piece in zip(self._above[1:], above, strict=True):
                line.push(piece)
        for steps, line in zip(self._rates, self._above, strict=True):
            if spectra is not None and line.held:
                spectra = torch.cat([spectra, line.take(spectra.shape[1])], -1)
            signal: Tensor | None = None
            for step in steps:
                spectra, signal = step.push(spectra, signal, last)
        _forget(self._finer, self._later, self._finer.held)
        self._given -= _forget(self._magnitudes, self._sooner, self._given)
        return self._synthesis.push(spectra, last)


def _forget(magnitudes: Window, steps: Sequence[PhaseStep], given: int) -> int:
    """Let go of the magnitudes that all steps are done with, `given` without any step; how many these are."""
    done = steps[-1].given if steps else given
    magnitudes.forget(done)
    for step in steps:
        step.given -= done
    return done


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
        # One time for all items saves a pass; a GPU would have to be waited for.
        time = network.time(t[:1] if t.device.type == "cpu" and bool((t == t[0]).all()) else t)
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
        """Noisy samples (B, n * hop_length) -> the prediction that is settled; on a CPU in pieces for its cache."""
        if x_t is None or x_t.device.type != "cpu":
            return self._push(x_t, last)
        pieces = x_t.split(SpectralStreams.piece(self.network, len(x_t)), 1)
        parts = [self._push(piece, last and number == len(pieces)) for number, piece in enumerate(pieces, 1)]
        settled = [part for part in parts if part is not None]
        return torch.cat(settled, 1) if settled else None

    def _push(self, x_t: Tensor | None, last: bool) -> Tensor | None:
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
        """Whole frames, not so few that most are neighbours of others."""
        return max(FRAMES // batch, 16) * network.stft.hop_length

    @staticmethod
    def frames_at_once(network: SpectralNet, hop_length: int, batch: int, streamed: bool) -> int:
        """At least as many as the guess needs, of whose products those with few columns round differently."""
        return max((FRAMES if streamed else DECODED_FRAMES) // batch, 16)

    @staticmethod
    def frame_bytes(network: SpectralNet, hop_length: int) -> int:
        """Tokens and hidden channels of a block, and spectra around it."""
        shape = network.config
        return 4 * (shape.bands * shape.channels * (4 + 2 * shape.expansion) + 16 * network.stft.n_fft)
