"""Shaped noise, and the guess that sampling starts from, of mels that arrive in pieces."""

from collections.abc import Sequence

from torch import Tensor

from wavediff.backbones import Condition
from wavediff.diffusion.priors import ShapedNormal
from wavediff.engine.lines import DelayLine, Ends, Window
from wavediff.engine.stream_stft import Analysis, PhaseStep, Synthesis
from wavediff.mel.griffin_lim import with_magnitude


class ShapeStream:
    """`ShapedNormal.shape`: white noise (B, n * hop_length) -> noise with the mel's envelope."""

    def __init__(self, prior: ShapedNormal, ends: Ends | None = None) -> None:
        self._analysis, self._synthesis = Analysis(prior.stft, ends), Synthesis(prior.stft, ends)
        self._envelopes, self._level = DelayLine(), prior.stft.noise_level

    def push(self, white: Tensor | None, conditions: Sequence[Condition], last: bool) -> Tensor | None:
        """The noise that is settled."""
        for cond in conditions:
            self._envelopes.push(cond.envelope)
        spectra = self._analysis.push(white, last)
        if spectra is not None:
            spectra = spectra * (self._envelopes.take(spectra.shape[1]) / self._level)
        return self._synthesis.push(spectra, last)


class GuessStream:
    """`ShapedNormal.guess` of shaped noise: white noise (B, n * hop_length) -> a guess at the speech."""

    def __init__(self, prior: ShapedNormal, ends: Ends | None = None) -> None:
        self._shape, self._analysis = ShapeStream(prior, ends), Analysis(prior.stft, ends)
        self._magnitudes, self._given = Window(), 0
        self._steps = [PhaseStep(prior.stft, index == 0, ends) for index in range(prior.config.phase_iterations)]
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
        self._magnitudes.forget(self._steps[-1].given if self._steps else self._given)
        return self._synthesis.push(spectra, last)
