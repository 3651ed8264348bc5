"""Corpora that were decoded beforehand, which need no audio decoder in training; here in one file, memory-mapped.

The file is safetensors with two tensors: `samples`, int16 (num_samples,), every utterance after the last, and
`offsets`, int64 (num_utterances + 1,), where each begins; and where every utterance has a label, a third, `labels`,
uint8, a JSON list of them. Its metadata holds `sample_rate` [Hz]. A sample is the waveform times 32768, so 16-bit
recordings that need no resampling come back bit for bit.
"""

import json
import os
import struct
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wavediff.arguments import as_path
from wavediff.audio import read_audio
from wavediff.data.manifest import Skipped, Utterance
from wavediff.errors import AudioError, DataError
from wavediff.files import atomic_write
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


_HEADER_BYTES = 1024  # reserved before the sizes are known; safetensors allows trailing spaces in a header


def write_packed(
    path: str | os.PathLike[str], utterances: Iterable[Utterance], sample_rate: int, *, overwrite: bool = False
) -> tuple[list[Utterance], list[Skipped]]:
    """Decode `utterances` into one file, one at a time, so that memory stays flat however large the corpus.

    Returns:
        The utterances that were packed, in order, and the files that could not be decoded.

    Raises:
        OutputError: the file exists and `overwrite` is false, or cannot be written.
    """
    packed: list[Utterance] = []
    skipped: list[Skipped] = []
    offsets = [0]
    num_clipped = 0
    with atomic_write(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        file.write(bytes(8 + _HEADER_BYTES))
        for utterance in utterances:
            try:
                waveform, _ = read_audio(utterance.path, sample_rate)
            except AudioError as error:
                skipped.append(Skipped(utterance.path, str(error)))
                continue
            samples, beyond = quantised(waveform)
            num_clipped += beyond
            file.write(samples.tobytes())
            packed.append(utterance)
            offsets.append(offsets[-1] + len(samples))
        num_samples = offsets[-1] + -offsets[-1] % 4  # offsets, 8 bytes each, have to be aligned
        file.write(bytes(2 * (num_samples - offsets[-1])))
        file.write(struct.pack(f"<{len(offsets)}q", *offsets))
        end = 2 * num_samples
        header: dict[str, Any] = {
            "__metadata__": {"sample_rate": str(sample_rate)},
            "samples": {"dtype": "I16", "shape": [num_samples], "data_offsets": [0, end]},
            "offsets": {"dtype": "I64", "shape": [len(offsets)], "data_offsets": [end, end + 8 * len(offsets)]},
        }
        if None not in (labels := [utterance.label for utterance in packed]):
            text = json.dumps(labels).encode()
            begin = end + 8 * len(offsets)
            file.write(text)
            header["labels"] = {"dtype": "U8", "shape": [len(text)], "data_offsets": [begin, begin + len(text)]}
        file.seek(0)
        file.write(struct.pack("<Q", _HEADER_BYTES) + json.dumps(header).encode().ljust(_HEADER_BYTES))
    if num_clipped:
        warnings.warn(f"{path}: {num_clipped} samples beyond +-1 were clipped", stacklevel=2)
    return packed, skipped


class PackedAudio(DecodedCorpus):
    """A packed corpus, read through a memory map: opening is quick, and processes share the pages.

    Attributes:
        offsets: int64 (num_utterances + 1,), where each utterance begins [samples].

    Raises:
        DataError: the file is missing, or is no packed corpus.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path, "path", DataError)
        try:
            with safe_open(self.path, framework="pt") as file:
                self.sample_rate = int((file.metadata() or {})["sample_rate"])
                if "labels" in file.keys():  # noqa: SIM118  not a dictionary
                    self.labels = json.loads(file.get_tensor("labels").numpy().tobytes())
                self.offsets: Tensor = file.get_tensor("offsets")
                samples = file.get_slice("samples")
                dtype, shape = samples.get_dtype(), samples.get_shape()
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"{self.path}: not a packed corpus ({error}); `wavediff prepare --pack` writes one"
            ) from error
        bounds = self.offsets
        if dtype != "I16" or bounds.dtype != torch.int64 or len(shape) != 1 or bounds.ndim != 1 or len(bounds) < 2:
            raise DataError(f"{self.path}: its tensors are not those of a packed corpus; pack it again")
        if bounds[0] != 0 or (bounds.diff() <= 0).any() or bounds[-1] > shape[0]:
            raise DataError(f"{self.path}: its offsets do not fit its samples; pack it again")
        check_labels(self.labels, self)
        self._samples: Any = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def frames(self, index: int) -> int:
        return int(self.offsets[index + 1] - self.offsets[index])

    def read(self, index: int, start: int, frames: int) -> Tensor:
        if self._samples is None:
            self._file = safe_open(self.path, framework="pt")
            self._samples = self._file.get_slice("samples")
        begin = int(self.offsets[index]) + start
        end = min(begin + frames, int(self.offsets[index + 1]))
        return self._samples[begin:end].float() / SCALE

    def __getstate__(self) -> dict[str, Any]:
        # An open map does not travel to a worker process; it is opened there anew.
        return {key: value for key, value in self.__dict__.items() if key != "_file"} | {"_samples": None}
