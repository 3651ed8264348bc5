"""A mel as callers hand it to a stream: chunk by chunk, in memory that is theirs."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from wavediff.arguments import as_floats
from wavediff.diffusion.noise import check_seed
from wavediff.engine import frames_at_once, settled_after
from wavediff.errors import MelError
from wavediff.mel import MelSpec
from wavediff.mel.lines import DelayLine
from wavediff.mel.transform import check_shape
from wavediff.models.denoiser import Denoiser


def check_stream(mel_chunks: Any, seed: int | Sequence[int]) -> None:
    """Refuse what is wrong with the arguments of a stream before its first chunk is asked for.

    Raises:
        MelError: `mel_chunks` is a file's name or not iterable.
        SamplingError: the seed is neither a number nor a sequence.
    """
    if isinstance(mel_chunks, str | bytes | os.PathLike) or not hasattr(mel_chunks, "__iter__"):
        what = type(mel_chunks).__name__
        raise MelError(
            f"mel_chunks: expected pieces (n_mels, n) of a mel, one after another, got {what}; read a file with "
            "wavediff.mel.read_mel and pass [mel]"
        )
    check_seed(seed)


class Chunks:
    """The chunks that hold frames, as copies (B, n_mels, n) in float32: what a caller does to his later is no matter.

    Args:
        mel_chunks: (n_mels, n) or (B, n_mels, n), all of one batch size.
        spec: their dialect.

    Raises:
        MelError: a chunk is no mel, or of another batch size than the first one; when it is reached.
    """

    def __init__(self, mel_chunks: Iterable[Any], spec: MelSpec) -> None:
        self.mel_chunks, self.spec = mel_chunks, spec
        self.batched = False
        """Whether the chunks have a dimension of the batch; known from the first one on."""

    def __iter__(self) -> Iterator[Tensor]:
        first: tuple[int, ...] | None = None
        for number, chunk in enumerate(self.mel_chunks):
            values = as_floats(chunk, f"mel_chunks: chunk {number}", MelError, cure="pass [read_mel(path)[0]]")
            shape = tuple(values.shape)
            if shape and shape[-1] == 0:
                continue
            frames = check_shape(values.cpu(), self.spec)  # looked at there, as in `decode`
            first = shape[:-2] if first is None else first
            if shape[:-2] != first:
                before = f"a batch of {first[0]}" if first else "one mel"
                raise MelError(
                    f"mel: chunk {number} has shape {shape}, those before are of {before}; give all the same"
                )
            self.batched = len(shape) == 3
            yield torch.clone(frames.detach())


class Gathering:
    """Frames of a mel, until those are there that are best computed together.

    Args:
        first: how many, at the beginning.
        each: how many, from then on.
        multiples: whether pieces may be longer, by a multiple of `each`.
    """

    def __init__(self, first: int, each: int, *, multiples: bool = False) -> None:
        self._size, self._each, self._multiples, self._waiting = first, each, multiples, DelayLine()

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        """The next frames (B, n_mels, n) -> the pieces (B, n_mels, m) that are there."""
        self._waiting.push(frames.transpose(1, 2))
        while (more := self._waiting.held - self._size) >= 0:
            size = self._size + (more // self._each * self._each if self._multiples else 0)
            self._size = self._each
            yield self._waiting.take(size).transpose(1, 2)

    def rest(self) -> Tensor | None:
        """What is left at the end."""
        return self._waiting.take(self._waiting.held).transpose(1, 2) if self._waiting.held else None


def gathering_of(denoiser: Denoiser, hop_length: int, low_latency: bool, batch: int) -> Gathering:
    """What gathers the frames of a stream: with low latency until they settle speech, else as many as pay.

    Args:
        denoiser: of the vocoder.
        hop_length: of its mel.
        low_latency: see `Vocoder.stream`.
        batch: items.
    """
    if low_latency:
        return Gathering(*settled_after(denoiser), multiples=True)
    size = frames_at_once(denoiser, hop_length, batch, streamed=True)
    return Gathering(size, size)


def gathered(
    pieces: Iterable[Tensor], gathering_for: Callable[[int], Gathering]
) -> Iterator[tuple[Tensor | None, bool]]:
    """Pieces (B, n_mels, n) in the sizes that are computed together, and whether each is the last.

    Args:
        pieces: of a mel.
        gathering_for: batch size -> what gathers them.

    Yields:
        (B, n_mels, m) and False; at the end what is left, or None, and True.

    Raises:
        MelError: there is no piece.
    """
    gathering: Gathering | None = None
    for frames in pieces:
        gathering = gathering or gathering_for(len(frames))
        for piece in gathering.push(frames):
            yield piece, False
    if gathering is None:
        raise MelError("mel: the stream ended without a frame; a mel needs at least one")
    yield gathering.rest(), True
