"""A corpus that was decoded beforehand: training from it needs no audio decoder."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from wavediff.errors import DataError
from wavediff.mel import MelSpec

SCALE = 32768.0
"""A stored sample is the waveform times this, so 16-bit recordings that are not resampled come back bit for bit."""


class DecodedCorpus(ABC):
    """Utterances of one sample rate, of which any part can be read.

    Attributes:
        path: file, folder or address.
        sample_rate: of every utterance [Hz].
        labels: class of each utterance; None where they have none.
        mel_spec: dialect of the mels that it holds beside the samples; None where it holds none.
    """

    path: Path | str
    sample_rate: int
    labels: list[str] | None = None
    mel_spec: MelSpec | None = None

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

    def read_mel(self, index: int, start: int, frames: int) -> Tensor:
        """Frames `start` to `start + frames` of one utterance's mel, float32 (n_mels, frames), where there are mels.

        Raises:
            AudioError: they cannot be read.
        """
        raise NotImplementedError


def check_labels(labels: Any, corpus: DecodedCorpus) -> None:
    """The labels that a corpus says its utterances have are what they should be.

    Raises:
        DataError: not one name an utterance.
    """
    whole = isinstance(labels, list) and len(labels) == len(corpus) and all(isinstance(name, str) for name in labels)
    if labels is not None and not whole:
        raise DataError(f"{corpus.path}: its labels are not one name an utterance; write the corpus again")


def quantised(waveform: Tensor) -> tuple[np.ndarray, int]:
    """(n,) -> the samples as they are stored, int16 (n,), low byte first, and how many were clipped."""
    samples = (waveform * SCALE).round()
    beyond = int((samples.abs() > SCALE).sum())
    return samples.clamp(-SCALE, SCALE - 1).short().numpy().astype("<i2"), beyond
