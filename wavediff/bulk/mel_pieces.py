"""Mels of any length, piece by piece, in the dialect of a model."""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from wavediff.audio import read_audio, resample
from wavediff.mel import MelSpec, MelTransform, in_dialect_pieces, read_mel_pieces
from wavediff.mel.identify import check_unnamed
from wavediff.places import Place

FRAMES = 2048  # of a piece: half a minute, enough to tell whether it can be of its dialect


def mel_file_pieces(path: Place, given: MelSpec | None, wanted: MelSpec) -> Iterator[Tensor]:
    """A mel's file as pieces (n_mels, n) in the dialect `wanted`, each checked; memory does not grow with its length.

    Args:
        path: `.npy` or `.safetensors`.
        given: its dialect; None for what the file says, or for `wanted`.
        wanted: the dialect wanted.

    Raises:
        MelError: as `read_mel` and `check_mel`, some when the piece is reached.
    """
    pieces, said = read_mel_pieces(path, FRAMES)
    if (given := given or said) is None:
        first = next(pieces)
        check_unnamed(first, wanted, source=str(path))
        pieces = itertools.chain([first], pieces)
    for piece in in_dialect_pieces(pieces, given or wanted, wanted, source=str(path)):
        yield piece[0]


def recording_pieces(path: Place, spec: MelSpec, device: torch.device, *, lenient: bool = False) -> Iterator[Tensor]:
    """A recording's mel as pieces (n_mels, n). The recording itself is read whole, which `read_audio` limits.

    Raises:
        AudioError: as `read_audio`, or too short for a mel.
    """
    waveform, sample_rate = read_audio(path, lenient=lenient)
    waveform = resample(waveform, sample_rate, spec.sample_rate)[None]
    transform, total = MelTransform(spec).to(device), spec.frames(waveform.shape[1])
    margin = math.ceil(spec.n_fft / spec.hop_length)  # frames at the ends of a part that its own ends would change
    for first in range(0, total, FRAMES):
        last, begin = min(first + FRAMES, total), max(first - margin, 0)
        part = waveform[:, begin * spec.hop_length : (last + margin) * spec.hop_length]
        yield transform(part.to(device))[0, :, first - begin : last - begin]
