"""Reading batches ahead, in other processes; and what is too long for that, piece by piece in the model's dialect."""

import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wavediff.audio import read_audio, resample
from wavediff.bulk.jobs import Batch, Fault, Item
from wavediff.data.readers import LOOK, attended
from wavediff.errors import WavediffError
from wavediff.mel import MelSpec, MelTransform, in_dialect_pieces, read_mel, read_mel_pieces
from wavediff.mel.check import check_unnamed
from wavediff.pipelines.mels import check_scale
from wavediff.places import Place, is_remote

WORKER_TIMEOUT = 600
"""Seconds without a batch after which the reading processes are taken to hang."""


@dataclass(frozen=True)
class Loaded:
    """What was read of an item.

    Attributes:
        item: whose it is.
        values: mel (n_mels, frames) or waveform (N,), float32; None of a long item, which is read in pieces later.
            Arrays and not tensors, which would take files and shared memory, both scarce, from process to process.
        spec: of a mel, where its file says it.
        sample_rate: of a waveform [Hz]; None of a mel.
        warnings: what reading it warned of.
    """

    item: Item
    values: np.ndarray | None
    spec: MelSpec | None = None
    sample_rate: int | None = None
    warnings: list[str] = field(default_factory=list)


class BatchDataset(Dataset[list[Loaded | Fault]]):
    """Batches as they are read; a file that cannot be is a `Fault` in its place.

    Args:
        batches: to read.
        lenient: keep what is left of cut or damaged recordings.
    """

    def __init__(self, batches: Sequence[Batch], lenient: bool = False) -> None:
        self.batches, self.lenient = batches, lenient

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Loaded | Fault]:
        batch = self.batches[index]
        read = {item: self._read(item) for item in batch if not item.done}
        if any(isinstance(result, Loaded) for result in read.values()):
            # Of what is done already nothing is said.
            again = {item: self._read(item) for item in batch if item.done}
            read |= {item: result for item, result in again.items() if isinstance(result, Loaded)}
        return [read[item] for item in batch if item in read]

    def _read(self, item: Item) -> Loaded | Fault:
        source = item.job.source
        if item.is_long:
            return Loaded(item, None)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                if item.job.is_mel:
                    mel, spec = read_mel(source)
                    loaded = Loaded(item, mel.numpy(), spec)
                else:
                    waveform, sample_rate = read_audio(source, lenient=self.lenient)
                    loaded = Loaded(item, waveform.numpy(), sample_rate=sample_rate)
            loaded.warnings.extend(str(warning.message) for warning in caught)
            return loaded
        except WavediffError as error:
            return Fault(item.job, str(error))
        except Exception as error:  # a bug of ours; the other files are none the worse for it
            return Fault(item.job, f"{source}: {type(error).__name__}: {error}; wavediff is at fault, report it")


def read_batches(
    batches: Sequence[Batch], *, lenient: bool = False, workers: int = 0
) -> Iterator[list[Loaded | Fault]]:
    """Each batch, in order, while `workers` processes read those that follow; 0 reads here.

    Raises:
        DataError: a process died or hangs.
    """
    dataset = BatchDataset(batches, lenient)
    if not workers:
        yield from (dataset[index] for index in range(len(dataset)))
        return
    look = min(LOOK, WORKER_TIMEOUT)
    remote = any(is_remote(item.job.source) for batch in batches for item in batch)
    loader: DataLoader[list[Loaded | Fault]] = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=end_with_parent,
        multiprocessing_context="spawn" if remote else None,  # connections to storage outlive no fork
        timeout=look,
        generator=torch.Generator(),  # or it would draw from the global one
    )
    cure = "what is done stays: go on with --resume, and --workers 0 if it happens again"
    yield from attended(iter(loader), look, WORKER_TIMEOUT, cure)


def end_with_parent(worker: int = 0) -> None:
    """Or this process would outlive a killed run, waiting for ever for somebody to take what it has made."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process stops the others
    parent = multiprocessing.parent_process()

    def watch() -> None:
        while parent is None or os.getppid() == parent.pid:  # it may be gone before this process is ready
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _unchanged(batch: list[Loaded | Fault]) -> list[Loaded | Fault]:
    return batch


PIECE_FRAMES = 2048  # of a piece: half a minute, enough to tell whether it can be of its dialect


def mel_file_pieces(path: Place, given: MelSpec | None, wanted: MelSpec) -> Iterator[Tensor]:
    """A mel's file as pieces (n_mels, n) in the dialect `wanted`, each checked; memory does not grow with its length.

    Args:
        path: `.npy` or `.safetensors`.
        given: its dialect; None for what the file says, or for `wanted`.
        wanted: the dialect wanted.

    Raises:
        MelError: as `read_mel` and `check_mel`, some when the piece is reached.
    """
    pieces, said = read_mel_pieces(path, PIECE_FRAMES)
    if (given := given or said) is None:
        first = next(pieces)
        check_unnamed(first, wanted, source=str(path))
        pieces = itertools.chain([first], pieces)
    for piece in in_dialect_pieces(pieces, given or wanted, wanted, source=str(path)):
        yield piece[0]


def recording_pieces(
    path: Place, spec: MelSpec, wanted: MelSpec, device: torch.device, *, lenient: bool = False
) -> Iterator[Tensor]:
    """A recording's mel as pieces (n_mels, n). The recording itself is read whole, which `read_audio` limits.

    Args:
        path: of the recording.
        spec: dialect that its mel is computed in.
        wanted: dialect of the pieces.
        device: that computes it.
        lenient: as of `read_audio`.

    Raises:
        AudioError: as `read_audio`, too short for a mel, or far beyond full scale.
    """
    waveform, sample_rate = read_audio(path, lenient=lenient)
    waveform = resample(check_scale(waveform, str(path)), sample_rate, spec.sample_rate)[None]
    transform, total = MelTransform(spec).to(device), spec.frames(waveform.shape[1])
    margin = math.ceil(spec.n_fft / spec.hop_length)  # frames at the ends of a part that its own ends would change

    def pieces() -> Iterator[Tensor]:
        for first in range(0, total, PIECE_FRAMES):
            last, begin = min(first + PIECE_FRAMES, total), max(first - margin, 0)
            part = waveform[:, begin * spec.hop_length : (last + margin) * spec.hop_length]
            yield transform(part.to(device))[0, :, first - begin : last - begin]

    for piece in in_dialect_pieces(pieces(), spec, wanted, source=str(path)):
        yield piece[0]
