"""Hugging Face transformers: SpeechT5, FastSpeech2Conformer and the text-to-speech pipeline."""

from dataclasses import dataclass

from torch import Tensor

from wavediff.arguments import Values
from wavediff.compat.base import HostVocoder
from wavediff.mel.shape import as_mel


@dataclass(frozen=True)
class TransformersConfig:
    """What the pipeline asks a vocoder for.

    Attributes:
        sampling_rate: in Hz.
        model_in_dim: bands of the mel.
    """

    sampling_rate: int
    model_in_dim: int


class TransformersVocoder(HostVocoder):
    """In the place of `SpeechT5HifiGan`, `FastSpeech2ConformerHifiGan` and their like."""

    dialect = "speecht5"

    @property
    def config(self) -> TransformersConfig:
        """Sample rate and bands."""
        return TransformersConfig(self.sample_rate, self.mel_spec.n_mels)

    def forward(self, spectrogram: Values) -> Tensor:
        """(frames, n_mels) -> (N,); (B, frames, n_mels) -> (B, N)

        A batch comes without lengths, filled up with frames of zeros, which would be loud: those are left silent.
        """
        spectrogram = as_mel(spectrogram)
        if spectrogram.ndim != 3 or len(spectrogram) == 1:
            return self.speech(spectrogram.mT)
        filled = (spectrogram != 0).any(2).flip(1)  # (B, frames), from the end
        lengths = filled.shape[1] - filled.int().argmax(1)  # an item of zeros keeps all its frames
        return self.speech(spectrogram.mT, lengths)
