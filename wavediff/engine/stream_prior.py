"""Shaped noise, and the guess that sampling starts from, of mels that arrive in pieces."""

from collections.abc import Sequence

from torch import Tensor

from wavediff.backbones import Condition
from wavediff.diffusion.harmonic import HarmonicSource
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


class FinishStream:
    """`ShapedNormal.brought`: the result of sampling (B, n * hop_length) -> speech with the mel's bands."""

    def __init__(self, prior: ShapedNormal, ends: Ends | None = None) -> None:
        self._prior, self._analysis, self._synthesis = prior, Analysis(prior.stft, ends), Synthesis(prior.stft, ends)
        self._magnitudes = DelayLine()

    def push(self, samples: Tensor | None, conditions: Sequence[Condition], last: bool) -> Tensor | None:
        """The speech that is settled."""
        for cond in conditions:
            self._magnitudes.push(cond.magnitude)
        spectra = self._analysis.push(samples, last)
        if spectra is not None:
            spectra = self._prior.brought(spectra, self._magnitudes.take(spectra.shape[1]))
        return self._synthesis.push(spectra, last)


class VoiceStream:
    """`ShapedNormal.guess` with a voice: white noise (B, n * hop_length) -> a guess at the speech."""

    def __init__(self, prior: ShapedNormal, ends: Ends | None = None) -> None:
        self._prior, self._analysis, self._synthesis = prior, Analysis(prior.stft, ends), Synthesis(prior.stft, ends)
        self._source = HarmonicSource(prior.stft.n_fft, prior.stft.hop_length)
        self._envelopes, self._magnitudes = DelayLine(), DelayLine()

    def push(self, white: Tensor | None, conditions: Sequence[Condition], last: bool) -> Tensor | None:
        """The guess that is settled."""
        voice = white
        for cond in conditions:
            self._envelopes.push(cond.envelope)
            self._magnitudes.push(cond.magnitude)
            if cond.pitch is not None and white is not None:
                voice = self._source.push(*cond.pitch, white)
        spectra = self._analysis.push(voice, last)
        if spectra is not None:
            count = spectra.shape[1]
            spectra = self._prior.uttered(spectra, self._envelopes.take(count), self._magnitudes.take(count))
        return self._synthesis.push(spectra, last)


class GuessStream:
    """`ShapedNormal.guess` from noise: white noise (B, n * hop_length) -> a guess at the speech."""

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
