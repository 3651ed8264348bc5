"""ESPnet: the vocoder of `Text2Speech`."""

from torch import Tensor

from wavediff.arguments import Values
from wavediff.compat.base import HostVocoder
from wavediff.mel.shape import as_mel


class ESPnetVocoder(HostVocoder):
    """To be assigned: `text2speech.vocoder = ESPnetVocoder(...)`.

    `Text2Speech` hands over mels without their statistics. With `prefer_normalized_feats=True` it leaves them in: then
    pass the dialect with them, `dataclasses.replace(MelSpec.preset("espnet"), mean=..., std=...)`.
    """

    dialect = "espnet"

    @property
    def fs(self) -> int:
        """Sample rate in Hz."""
        return self.sample_rate

    def forward(self, feats: Values) -> Tensor:
        """(frames, n_mels) -> (N,)"""
        return self.speech(as_mel(feats).mT)
