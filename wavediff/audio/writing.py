"""Writing audio: a waveform at once, or piece by piece in memory that does not grow with its length."""

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from wavediff.arguments import Values, as_place, as_waveform, check_sample_rate, whole
from wavediff.audio.containers import EXTENSIONS, MAX_CHANNELS
from wavediff.errors import AudioError
from wavediff.files import atomic_write
from wavediff.places import Place

BLOCK_FRAMES = 65_536
MAX_OGG_SAMPLE_RATE = 200_000  # Hz; libsndfile crashes on writing Vorbis beyond
MAX_WAV_BYTES = 2**32 - 4096  # its sizes have 32 bits, and libsndfile lets them overflow
SUBTYPES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS",),
}
TAGS = ("title", "copyright", "software", "artist", "comment", "date", "album", "tracknumber", "genre")
_PCM_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


def write_audio(
    path: str | os.PathLike[str],
    waveform: Values,
    sample_rate: int,
    *,
    subtype: str = "PCM_16",
    loop: bool = False,
    tags: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a waveform in the format its extension names: .wav, .flac, .ogg.

    >>> write_audio("speech.flac", torch.zeros(2, 800), 16_000, subtype="PCM_24")
    >>> write_audio("speech.flac", torch.zeros(800), 16_000)
    Traceback (most recent call last):
    wavediff.errors.OutputError: speech.flac: already exists...

    Samples beyond ±1 are clipped, with a warning that counts them, unless the subtype is FLOAT or DOUBLE.
    What `read_audio` gave of a mono PCM file of up to 24 bits is written back bit for bit in the same subtype.

    Args:
        path: The file to write; missing folders are made. Or an address in object storage, "s3://bucket/speech.wav".
        waveform: (N,) or (channels, N), a tensor, array or list of floats, full scale ±1.
        sample_rate: 4,000 to 384,000 Hz.
        subtype: One of `SUBTYPES` of the format; OGG is always VORBIS.
        loop: Mark the whole as a loop, for samplers and game engines; WAV only (its `smpl` chunk).
        tags: What the file says of itself: title, copyright, software, artist, comment, date, album,
            tracknumber or genre.
        overwrite: Replace an existing file.

    Raises:
        AudioError: Another extension or subtype, a loop that is no WAV, an unknown tag, a wrong shape, no samples, NaN
            or infinite samples.
        OutputError: The file exists or cannot be written.
    """
    # Before the writer opens its file, or a folder would be made for nothing.
    samples = _checked(waveform, as_place(path, "path", AudioError), 0)
    channels = len(samples) if samples.ndim == 2 else 1
    options: dict[str, Any] = {"subtype": subtype, "loop": loop, "tags": tags, "overwrite": overwrite}
    with AudioWriter(path, sample_rate, channels=channels, **options) as writer:
        writer.write(samples)


class AudioWriter:
    """Writes a waveform that arrives in pieces, by the rules of `write_audio`.

    >>> with AudioWriter("pieces.wav", 22_050) as writer:
    ...     for piece in torch.zeros(1000).split(300):  # (n,) or (channels, n)
    ...         writer.write(piece)
    >>> writer.frames
    1000

    The file is there once the block is left; an exception in it leaves none, and an existing one as it was.

    Args:
        path, sample_rate, subtype, loop, tags, overwrite: As of `write_audio`.
        channels: How many the pieces have.

    Raises:
        AudioError, OutputError: As `write_audio`; at the end of the block too.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        *,
        channels: int = 1,
        subtype: str = "PCM_16",
        loop: bool = False,
        tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path, self.overwrite = as_place(path, "path", AudioError), overwrite
        self.channels = whole(channels, "channels", 1, MAX_CHANNELS, AudioError)
        self.sample_rate = check_sample_rate(sample_rate)
        self.format, self.subtype = _format(self.path, self.sample_rate, subtype)
        self.loop, self.tags = loop, dict(tags or {})
        if loop and self.format != "WAV":
            raise AudioError(f"{self.path}: {self.format} marks no loops; name it .wav, or leave loop out")
        if unknown := sorted(set(self.tags) - set(TAGS)):
            raise AudioError(f"{self.path}: the tag {unknown[0]!r} is unknown; choose from {', '.join(TAGS)}")
        self.frames = 0
        """Samples written so far, of each channel."""
        self._clipped = 0

    def __enter__(self) -> Self:
        self._context = self._opened()
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._context.__exit__(kind, error, trace)

    def write(self, waveform: Values) -> None:
        """Append a piece (n,) or (channels, n)."""
        samples = _samples_of(waveform, self.path, self.frames)  # (n, channels)
        if samples.shape[1] != self.channels:
            raise AudioError(
                f"{self.path}: waveform: {samples.shape[1]} channels are not written to a file of {self.channels}; "
                "give pieces of one shape"
            )
        if self.subtype not in ("FLOAT", "DOUBLE"):
            self._clipped += int(np.count_nonzero(np.abs(samples) > 1))
            samples = samples.clip(-1, 1)
        for first in range(0, len(samples), BLOCK_FRAMES):
            self._sound.write(_quantised(samples[first : first + BLOCK_FRAMES], _PCM_BITS.get(self.subtype)))
            self._file.check()
            if self.format == "WAV" and self._file.tell() > MAX_WAV_BYTES:
                raise AudioError(f"{self.path}: WAV holds up to 4 GiB; name it .flac")
        self.frames += len(samples)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        import soundfile

        with atomic_write(self.path, overwrite=self.overwrite) as temporary, _Checked(temporary) as self._file:
            try:
                with soundfile.SoundFile(
                    self._file, "w", self.sample_rate, self.channels, self.subtype, format=self.format
                ) as self._sound:
                    for name, text in self.tags.items():
                        setattr(self._sound, name, text)
                    yield
                if self.loop:
                    _mark_loop(self._file, self.sample_rate, self.frames)
            except soundfile.LibsndfileError as error:
                self._file.check()
                what = f"{self.format} cannot hold this at {self.sample_rate} Hz ({error.error_string})"
                raise AudioError(f"{self.path}: {what}; use .wav") from error
            if not self.frames:
                raise AudioError(f"{self.path}: no samples came; nothing was written")
        if self._clipped:
            total = self.frames * self.channels
            warnings.warn(f"{self.path}: clipped {self._clipped} of {total} samples, they were beyond ±1", stacklevel=4)


def _mark_loop(file: io.FileIO, sample_rate: int, frames: int) -> None:
    """Append the `smpl` chunk of a WAV file: one loop, from the first sample to the last, for ever."""
    header = struct.pack("<9I", 0, 0, round(1e9 / sample_rate), 60, 0, 0, 0, 1, 0)  # at MIDI note 60
    loop = struct.pack("<6I", 0, 0, 0, frames - 1, 0, 0)
    end = file.seek(0, os.SEEK_END)
    file.write(b"\0" * (end % 2) + b"smpl" + struct.pack("<I", len(header + loop)) + header + loop)
    size = file.seek(0, os.SEEK_END) - 8
    file.seek(4)
    file.write(struct.pack("<I", size))


class _Checked(io.FileIO):
    """A file to write that remembers its first failure: libsndfile does not say that a disk is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        done, rest = 0, memoryview(data)
        try:
            while done < len(rest):
                done += super().write(rest[done:])
        except OSError as error:
            self.failure = self.failure or error
        return done

    def check(self) -> None:
        """Raise what went wrong so far."""
        if self.failure is not None:
            raise self.failure

    def __exit__(self, *exception: Any) -> None:
        self.close()
        self.check()


def _format(path: Place, sample_rate: int, subtype: str) -> tuple[str, str]:
    """Format and subtype of libsndfile for a file of that name."""
    format_ = next((name for name, suffixes in EXTENSIONS.items() if path.suffix.lower() in suffixes), None)
    if format_ is None:
        raise AudioError(f"{path}: '{path.suffix}' is not written; name it .wav, .flac or .ogg")
    if format_ == "OGG" and subtype == "PCM_16":
        subtype = "VORBIS"
    if subtype not in SUBTYPES[format_]:
        raise AudioError(f"{path}: {format_} does not hold {subtype}; choose from {', '.join(SUBTYPES[format_])}")
    if format_ == "OGG" and sample_rate > MAX_OGG_SAMPLE_RATE:
        raise AudioError(f"{path}: OGG holds up to {MAX_OGG_SAMPLE_RATE} Hz, not {sample_rate}; use .wav or resample")
    return format_, subtype


def _checked(waveform: Values, path: Place, written: int) -> Tensor:
    """(n,) or (channels, n), of which `written` samples came before."""
    name = f"{path}: waveform"
    samples = as_waveform(waveform, name, shape="(N,) or (channels, N)", finite=False).detach().cpu()
    if samples.ndim == 2 and len(samples) > MAX_CHANNELS:
        raise AudioError(f"{name}: {len(samples)} channels, at most {MAX_CHANNELS} are written; transposed?")
    finite = torch.atleast_2d(samples).isfinite().all(0)
    if not finite.all():
        first = written + int(finite.int().argmin())
        what = f"{int((~finite).sum())} samples are NaN or infinite, the first at {first}"
        raise AudioError(f"{name}: {what}; nothing was written, repair the waveform")
    return samples


def _samples_of(waveform: Values, path: Place, written: int) -> np.ndarray:
    """(n, channels), float64 where that loses nothing, float32 otherwise; `written` samples came before."""
    samples = _checked(waveform, path, written)
    dtype = torch.float64 if samples.dtype == torch.float64 else torch.float32
    return torch.atleast_2d(samples).to(dtype).numpy().T


def _quantised(samples: np.ndarray, bits: int | None) -> np.ndarray:
    """Samples as soundfile writes them unchanged: integers in the upper `bits` of int32, or floating point.

    libsndfile's own conversion scales by 2^(bits-1) - 1 but reads with 2^(bits-1), so a copy would differ.
    """
    if bits is None:
        return samples
    full_scale = 2 ** (bits - 1)
    steps = np.rint(samples * np.float64(full_scale)).clip(-full_scale, full_scale - 1)
    return steps.astype(np.int32) << (32 - bits)
