"""ESPnet: the vocoder of `Text2Speech`."""

import numpy as np
import torch
from torch import Tensor

from wavediff.compat.base import HostVocoder


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

    def forward(self, feats: Tensor | np.ndarray) -> Tensor:
        """(frames, n_mels) -> (N,)"""
        return self.speech(torch.as_tensor(feats).mT)
