"""torchaudio: the vocoder of `Tacotron2TTSBundle`."""

from torch import Tensor
from torchaudio.pipelines import Tacotron2TTSBundle

from wavediff.arguments import Values
from wavediff.compat.base import HostVocoder


class TorchaudioVocoder(HostVocoder, Tacotron2TTSBundle.Vocoder):  # type: ignore[misc]
    """In the place of `bundle.get_vocoder()`, of the Griffin-Lim bundles.

    The bundles with WaveRNN need a vocoder of their dialect and `mel_spec="torchaudio-wavernn"`.
    """

    dialect = "tacotron2"

    def forward(self, specgrams: Values, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, n_mels, frames) and frames of each item (B,) -> (B, N) and samples of each item (B,), if given."""
        if lengths is None:
            return self.speech(specgrams), None
        return self.speech(specgrams, lengths), self.samples(lengths)
