"""A corpus that was decoded beforehand: training from it needs no audio decoder."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from torch import Tensor

SCALE = 32768.0
"""A stored sample is the waveform times this, so 16-bit recordings that are not resampled come back bit for bit."""


class DecodedCorpus(ABC):
    """Utterances of one sample rate, of which any part can be read.

    Attributes:
        path: file, folder or address.
        sample_rate: of every utterance [Hz].
        labels: class of each utterance; None where they have none.
    """

    path: Path | str
    sample_rate: int
    labels: list[str] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many utterances there are."""

    @abstractmethod
    def frames(self, index: int) -> int:
        """The length of one utterance [samples]."""

    @abstractmethod
    def read(self, index: int, start: int, frames: int) -> Tensor:
        """Samples `start` to `start + frames` of one utterance, float32 (frames,), fewer where it ends.

        Raises:
            AudioError: they cannot be read.
        """


def quantised(waveform: Tensor) -> tuple[np.ndarray, int]:
    """(n,) -> the samples as they are stored, int16 (n,), low byte first, and how many were clipped."""
    samples = (waveform * SCALE).round()
    beyond = int((samples.abs() > SCALE).sum())
    return samples.clamp(-SCALE, SCALE - 1).short().numpy().astype("<i2"), beyond
