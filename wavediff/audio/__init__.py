"""The one door for audio files: read, write, resample, downmix.

WAV, FLAC, OGG, MP3, AIFF, AU, CAF and W64 are read. They are told apart by their first bytes, never by their name, and
nothing a header claims is trusted before it is compared with the file. WAV, FLAC and OGG are written. Samples are
float32, full scale is ±1.
"""

import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavediff.arguments import as_path, as_place, check_sample_rate, real, whole
from wavediff.audio.containers import READ, AudioInfo, opened
from wavediff.audio.finish import centred, ended, trim, with_peak
from wavediff.audio.resampling import resample
from wavediff.audio.writing import SUBTYPES, AudioWriter, write_audio
from wavediff.errors import AudioError
from wavediff.files import is_leftover
from wavediff.places import Address, Place

__all__ = [
    "READ_SUFFIXES",
    "SUBTYPES",
    "AudioInfo",
    "AudioWriter",
    "centred",
    "ended",
    "iter_audio_files",
    "iter_files",
    "read_audio",
    "read_info",
    "resample",
    "trim",
    "with_peak",
    "write_audio",
]

READ_SUFFIXES = tuple(suffix for suffixes in READ.values() for suffix in suffixes)
MAX_DECODED_BYTES = 2**31  # of one call, as float32 over all channels; an hour of 48 kHz stereo is 1.4e9
LARGEST_SAMPLE = 2.0**32  # int32 samples stored as float lie below; anything above is damage
_CANCELLED = 1e-6  # of the energy of the channels: 60 dB lower
MAX_SAMPLES = 2**62  # more than a file can hold
BLOCK_FRAMES, RESCUE_FRAMES = 65_536, 1_024


def read_info(path: str | os.PathLike[str], *, lenient: bool = False) -> AudioInfo:
    """Read what an audio file holds from its header (and, of OGG, the last page), without decoding it.

    >>> write_audio("two.flac", 0.1 * torch.randn(2, 8_000), 16_000)
    >>> info = read_info("two.flac")
    >>> info.format, info.sample_rate, info.channels, info.frames, info.seconds
    ('FLAC', 16000, 2, 8000, 0.5)

    A cut file is an error, or with `lenient` a warning.

    Raises:
        AudioError: as `read_audio`, for everything that shows before decoding.
    """
    with opened(as_place(path, "path", AudioError), lenient=lenient) as (_, info):
        return info


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int | None = None,
    *,
    start: int = 0,
    frames: int | None = None,
    lenient: bool = False,
    max_seconds: float = 3600.0,
) -> tuple[Tensor, int]:
    """Read a file, or a part of it, as mono: several channels are downmixed to their mean.

    >>> write_audio("tone.wav", 0.5 * torch.sin(torch.arange(16_000) / 4), 16_000)
    >>> waveform, sample_rate = read_audio("tone.wav")
    >>> waveform.shape, sample_rate
    (torch.Size([16000]), 16000)
    >>> read_audio("tone.wav", 22_050, start=8_000, frames=1_600)[0].shape  # a tenth of a second, resampled
    torch.Size([2205])

    Warns of a wrong extension, trailing bytes, samples beyond ±1 (which are kept) and a silent file.

    Args:
        path: A WAV, FLAC, OGG, MP3, AIFF, AU, CAF or W64 file, here or in object storage ("s3://bucket/a.wav").
        sample_rate: Resample to this rate [Hz]; None keeps the file's.
        start: First sample to read, counted at the file's own rate.
        frames: How many samples to read, counted at the file's own rate; None reads to the end. A part is
            resampled as if silence lay around it.
        lenient: Keep what is left of a cut or damaged file, with a warning, where it would be an error.
        max_seconds: The most one call may read [s]; `MAX_DECODED_BYTES` holds besides.

    Returns:
        The waveform (N,), float32, and its sample rate [Hz].

    Raises:
        AudioError: The file is missing, unreadable, not a regular file, of another format, cut, damaged, empty,
            outside 4-384 kHz, of more than 8 channels, longer than the limits, or holds NaN or infinite samples;
            or another argument is not possible.
    """
    path = as_place(path, "path", AudioError)
    sample_rate = None if sample_rate is None else check_sample_rate(sample_rate)
    start = whole(start, "start", 0, MAX_SAMPLES, AudioError, unit="samples")
    frames = None if frames is None else whole(frames, "frames", 1, MAX_SAMPLES, AudioError, unit="samples")
    max_seconds = real(max_seconds, "max_seconds", "of seconds above 0", lambda s: s > 0, AudioError, finite=False)
    with opened(path, lenient=lenient) as (file, info):
        stop = info.frames if frames is None else start + frames
        if not 0 <= start < stop <= info.frames:
            raise AudioError(f"{path}: has {info.frames} samples, {start} to {stop} were asked for; stay inside")
        _check_limits(info, stop - start, max_seconds)
        samples, loudness = _decode(file, info, start, stop, lenient)
        waveform = torch.from_numpy(samples)
    peak = max(extreme.abs().item() for extreme in waveform.aminmax())  # no copy of it
    if peak > 1:
        warnings.warn(f"{path}: samples reach {peak:.6g}, full scale is 1 (they are kept)", stacklevel=2)
    elif loudness > 0 and _loudness(waveform) < _CANCELLED * loudness:
        cure = "read another recording, or write one of its channels to a file"
        warnings.warn(
            f"{path}: its channels cancel each other, nearly nothing is left of their mean; {cure}", stacklevel=2
        )
    elif peak == 0 and len(waveform) == info.frames:
        warnings.warn(f"{path}: is silent from start to end", stacklevel=2)
    if sample_rate is None:
        return waveform, info.sample_rate
    return resample(waveform, info.sample_rate, sample_rate), sample_rate


def iter_audio_files(root: str | os.PathLike[str]) -> Iterator[Path]:
    """Every file below `root` named as a format that is read (.wav, .flac, .ogg, .mp3, ...); see `iter_files`."""
    return map(Path, iter_files(as_path(root, "root", AudioError), READ_SUFFIXES))


def iter_files(root: Place, suffixes: Collection[str]) -> Iterator[Place]:
    """Every file below `root` of such a name, in sorted order; a linked folder is visited once.

    Args:
        root: A folder, or an address in object storage.
        suffixes: In small letters, with their dot.

    Hidden files and what systems leave in folders (`files.is_leftover`) are passed over; a warning counts them.

    Raises:
        AudioError: `root` is not a folder, or a folder in it cannot be listed.
    """
    leftovers: list[Place] = []
    for path in _files_below(root):
        if path.suffix.lower() in suffixes:
            if is_leftover(path.relative_to(root)):
                leftovers.append(path)
            else:
                yield path
    if leftovers:
        what = f"{len(leftovers)} hidden or system files are passed over, the first {leftovers[0].relative_to(root)}"
        warnings.warn(f"{root}: {what}", stacklevel=2)


def _files_below(root: Place) -> Iterator[Place]:
    visited: set[tuple[int, int]] = set()
    path = root
    try:
        if not root.is_dir():
            raise AudioError(f"{root}: is not a folder; name the folder that holds the recordings")
        if isinstance(root, Address):
            yield from sorted(root.files())
            return
        pending = [root]
        while pending:
            path = pending.pop()
            if not path.is_dir():
                yield path
                continue
            status = path.stat()
            if (status.st_dev, status.st_ino) not in visited:
                visited.add((status.st_dev, status.st_ino))
                pending.extend(sorted(path.iterdir(), reverse=True))
    except OSError as error:
        raise AudioError(f"{path}: cannot be listed ({error.strerror}); check its permissions") from error


def _loudness(waveform: Tensor) -> float:
    """Sum of the squares, in parts, because in float64 they take four times the memory of the signal."""
    return sum(part.double().square().sum().item() for part in waveform.split(1 << 20))


def _check_limits(info: AudioInfo, frames: int, max_seconds: float) -> None:
    cure = "read it in parts (start=, frames=)"
    if frames > max_seconds * info.sample_rate:
        seconds = frames / info.sample_rate
        raise AudioError(f"{info.path}: {seconds:.0f} s to read, the limit is max_seconds={max_seconds:g}; {cure}")
    decoded = frames * info.channels * 4
    if decoded > MAX_DECODED_BYTES:
        raise AudioError(f"{info.path}: decodes to {decoded} bytes, the limit is {MAX_DECODED_BYTES}; {cure}")


def _decode(file: Any, info: AudioInfo, start: int, stop: int, lenient: bool) -> tuple[np.ndarray, float]:
    """The mean of the channels, (N,) float32, block by block: memory follows what is there, not what is claimed.

    Also the energy of the channels, on average; 0 of a single one.
    """
    import soundfile

    loudness = 0.0
    samples = bytearray()  # grows in place, where a list of blocks would be held twice when they are put together
    position, invalid, first_invalid, failure = start, 0, 0, None
    _skip(file, info, start)
    step = RESCUE_FRAMES if lenient else BLOCK_FRAMES  # libsndfile drops the block in which it meets damage
    while position < stop:
        try:
            block = file.read(min(step, stop - position), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            failure = error
            break
        if not len(block):
            break
        bad = ~(np.abs(block) <= LARGEST_SAMPLE).all(axis=1)
        if bad.any():
            first_invalid = first_invalid if invalid else position + int(bad.argmax())
            invalid += int(bad.sum())
        else:
            if block.shape[1] > 1:
                loudness += float(np.square(block, dtype=np.float64).sum()) / block.shape[1]
            samples += block.mean(axis=1, dtype=np.float64).astype(np.float32).data
        position += len(block)
    if invalid:
        what = f"{invalid} samples are NaN, infinite or absurdly large, the first at {first_invalid}"
        raise AudioError(f"{info.path}: {what}; export it again")
    if position < stop:
        message = f"{info.path}: is cut or damaged after sample {position} of {stop}"
        if not lenient or not samples:
            raise AudioError(f"{message}; restore it, or pass lenient=True to keep the rest") from failure
        warnings.warn(f"{message}; {stop - position} samples are lost", stacklevel=3)
    return np.frombuffer(samples, np.float32), loudness


def _skip(file: Any, info: AudioInfo, frames: int) -> None:
    """Go to sample `frames`. OGG and MP3 are decoded up to there: their seeks may land beside the mark."""
    if info.format in ("OGG", "MP3"):
        for first in range(0, frames, BLOCK_FRAMES):
            file.read(min(BLOCK_FRAMES, frames - first), dtype="float32")
    elif frames:  # even a seek to 0 fails in a damaged FLAC that can be read
        file.seek(frames)
