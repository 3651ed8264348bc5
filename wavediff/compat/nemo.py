"""NeMo: the vocoder behind a `SpectrogramGenerator`."""

from torch import Tensor

from wavediff.arguments import Values
from wavediff.compat.base import HostVocoder


class NeMoVocoder(HostVocoder):
    """In the place of `HifiGanModel`."""

    dialect = "nemo-hifigan"

    def forward(self, *, spec: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        return self.convert_spectrogram_to_audio(spec=spec)[:, None]

    def convert_spectrogram_to_audio(self, spec: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, N)"""
        return self.speech(spec)
