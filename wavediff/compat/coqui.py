"""Coqui TTS: the vocoder of `Synthesizer`."""

import os
from typing import Any

from torch import Tensor

from wavediff.arguments import Values
from wavediff.compat.base import HostVocoder
from wavediff.errors import MelError
from wavediff.pipelines.vocoder import Vocoder


class CoquiVocoder(HostVocoder):
    """In the place of `synthesizer.vocoder_model`: `CoquiVocoder().attach(synthesizer)`.

    Coqui's models have audio settings of their own. LJ Speech's recipes are `mel_spec="coqui"`, the default here;
    what leaves the settings alone is "coqui-default".
    """

    dialect = "coqui"

    def inference(self, c: Values) -> Tensor:
        """(1, n_mels, frames) -> (1, 1, N)"""
        return self.speech(c)[:, None]

    def forward(self, x: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        return self.inference(x)

    def load_checkpoint(
        self, config: Any, checkpoint_path: str | os.PathLike[str], eval: bool = False, cache: bool = False
    ) -> None:
        """Take another wavediff model file; its own configuration counts, not Coqui's.

        Raises:
            CheckpointError: it is not a sound model file.
            MelError: it cannot take the host's mels.
        """
        self._take(Vocoder.from_pretrained(checkpoint_path, device=str(self.vocoder.device)))

    def attach(self, synthesizer: Any) -> None:
        """Let a `Synthesizer` speak with this vocoder.

        Its mels then arrive in the dialect of its acoustic model: what it undoes of that model's normalisation, it
        does again.

        Raises:
            MelError: its acoustic model has another sample rate; Coqui would stretch the mel.
        """
        ap = synthesizer.tts_model.ap
        if ap.sample_rate != self.sample_rate:
            raise MelError(
                f"CoquiVocoder: the acoustic model speaks at {ap.sample_rate} Hz, this vocoder at {self.sample_rate}; "
                "pass a vocoder trained at that rate"
            )
        synthesizer.vocoder_model, synthesizer.vocoder_ap = self, ap
        synthesizer.vocoder_config = {"audio": {"sample_rate": self.sample_rate}}
        synthesizer.output_sample_rate = self.sample_rate
