"""Shaped noise, and the guess that sampling starts from, of mels that arrive in pieces."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from wavediff.backbones import Condition, MelInversion
from wavediff.backbones.conditioning import Workspace
from wavediff.backbones.spectral import SpectralBlock
from wavediff.diffusion.priors import ShapedNormal
from wavediff.engine.stream_stft import Analysis, PhaseStep, Synthesis
from wavediff.mel import FrameSTFT
from wavediff.mel.griffin_lim import PhaseInBlocks, finer_from, iterations_of_rates, with_magnitude
from wavediff.mel.lines import Context, DelayLine, Ends, Window
from wavediff.mel.partials import Partials


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


class ShapeStream(SpectrumStream):
    """`ShapedNormal.shape`: white noise -> noise with the mel's envelope."""

    def __init__(self, prior: ShapedNormal, ends: Ends | None = None) -> None:
        super().__init__(prior.stft, prior.shaped, "envelope", ends)


class FinishStream(SpectrumStream):
    """`ShapedNormal.brought`: the result of sampling -> speech nearer to the mel."""

    def __init__(self, prior: ShapedNormal, ends: Ends | None = None) -> None:
        super().__init__(prior.stft, prior.brought, "magnitude", ends)


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


class InversionStream:
    """The denoiser's `inversion`: pseudo-inverses of the next frames -> their magnitudes."""

    def __init__(self, inversion: MelInversion, prior: ShapedNormal) -> None:
        self._inversion, self._prior = inversion, prior
        blocks: list[SpectralBlock] = list(inversion.blocks)  # type: ignore[arg-type]
        self._layers = [(Context(block.past, 0), block, block.at(None)) for block in blocks]
        self._workspace = Workspace(inversion.fade.device)

    def push(self, magnitude: Tensor, count: int) -> Tensor:
        """(B, n, bins) -> (B, n, bins).

        Args:
            magnitude: of at least `LEAST_COLUMNS` frames.
            count: how many of them are the next ones; others may follow, so that products round alike.
        """
        x = self._inversion.tokens(magnitude)
        for context, block, weights in self._layers:
            window = context.push(x[:, :count], False)
            if window is not None:
                x = block.step(torch.cat([window, x[:, count:]], 1), weights, self._workspace)
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
        self._shape, self._analysis = ShapeStream(prior, ends), Analysis(prior.stft, ends)
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
