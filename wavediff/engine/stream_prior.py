"""Shaped noise, and the guess that sampling starts from, of mels that arrive in pieces."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wavediff.backbones import Condition
from wavediff.diffusion.priors import ShapedNormal
from wavediff.engine.stream_stft import Analysis, PhaseStep, Synthesis
from wavediff.mel import FrameSTFT
from wavediff.mel.griffin_lim import PhaseInBlocks, with_magnitude
from wavediff.mel.lines import DelayLine, Ends, Window


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
        self._magnitudes, self._finer, self._given = Window(), Window(), 0
        count = prior.config.phase_iterations
        turn = count if prior.harmonics is None else count // 2
        steps = [
            PhaseStep(prior.stft, index == 0, ends, *((prior.harmonics, self._finer) if index == turn else ()))
            for index in range(count)
        ]
        self._steps, self._later = steps[: turn + 1], steps[turn + 1 :]  # those after the turn want other magnitudes
        self._synthesis = Synthesis(prior.stft, ends)

    def push(self, white: Tensor | None, conditions: Sequence[Condition], last: bool) -> Tensor | None:
        """The guess that is settled."""
        for cond in conditions:
            self._magnitudes.push(cond.magnitude)
        spectra = self._analysis.push(self._shape.push(white, conditions, last), last)
        if spectra is not None:
            count = spectra.shape[1]
            spectra = with_magnitude(spectra, self._magnitudes.look(self._given, count))
            self._given += count
        signal: Tensor | None = None
        for step in self._steps:
            spectra, signal = step.push(spectra, self._magnitudes, signal, last)
        for step in self._later:
            spectra, signal = step.push(spectra, self._finer, signal, last)
        _forget(self._finer, self._later, self._finer.held)
        self._given -= _forget(self._magnitudes, self._steps, self._given)
        return self._synthesis.push(spectra, last)


def _forget(magnitudes: Window, steps: Sequence[PhaseStep], given: int) -> int:
    """Let go of the magnitudes that all steps are done with, `given` without any step; how many these are."""
    done = steps[-1].given if steps else given
    magnitudes.forget(done)
    for step in steps:
        step.given -= done
    return done
