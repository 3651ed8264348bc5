"""What the bytes of an audio file say before anything is decoded, and whether they can be true.

libsndfile opens half a file, or one whose header is forged, without complaint; `audio` opens files only
through `opened`, which complains.
"""

import contextlib
import io
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from wavediff.arguments import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from wavediff.audio.other_containers import READ_ONLY, claimed, recognised
from wavediff.errors import AudioError
from wavediff.places import Place

MAX_CHANNELS = 8
EXTENSIONS = {"WAV": (".wav",), "FLAC": (".flac",), "OGG": (".ogg", ".oga")}  # of what is also written
READ = EXTENSIONS | READ_ONLY

_MAX_CHUNKS = 1000
_MAX_PAGE_BYTES = 27 + 255 + 255 * 255  # of OGG: header, segment table, segments
_WAV_ENCODINGS = (1, 3, 6, 7)  # PCM, float, A-law, mu-law
_WAV_EXTENSIBLE = 0xFFFE
_CONVERT = "convert it to WAV, FLAC or OGG, e.g. with ffmpeg"
_A_MEL = "if it holds a mel, save that with wavediff.mel.write_mel or numpy.save, as .npy or .safetensors"
# What projects keep mels in.
_ARRAYS = (".pt", ".pth", ".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".mat", ".ckpt", ".json", ".csv", ".txt")
_FOREIGN = {
    b"\x7fELF": "a program (ELF)",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"RIFX": "big-endian WAV (RIFX)",
    b"NIST_1A": "NIST SPHERE",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "an image (PNG)",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"\x89HDF": "HDF5",
    b"\x80\x02": "a pickle",
    b"version https://git-lfs": "a Git LFS pointer (run `git lfs pull`)",
}


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file holds: `frames` is samples per channel; `format` and `subtype` are libsndfile's names."""

    path: Place
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate


@contextlib.contextmanager
def opened(path: Place, *, lenient: bool) -> Iterator[tuple[Any, AudioInfo]]:
    """Open an audio file that has passed every check short of decoding.

    Yields:
        An open `soundfile.SoundFile` and what it holds.

    Raises:
        AudioError: see `wavediff.audio.read_audio`; also for what libsndfile refuses inside the block.
    """
    import soundfile

    try:
        # Before open, which would wait for the other end of a FIFO.
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise AudioError(f"{path}: is a folder, pipe or device; name an audio file")
        with path.open("rb") as file:
            size, _ = file.seek(0, os.SEEK_END), file.seek(0)
            kind = _recognise(file, path)
            unset_size_at = _check_riff(file, path, size, lenient) if kind == "WAV" else None
            if kind in READ_ONLY:
                _check_size(file, path, kind, size, lenient)
            if kind == "OGG":
                _check_last_page(file, path, size, lenient)
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        if path == Path("-"):
            raise AudioError(f"{path}: standard input is not read; write it to a file and name that") from error
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise AudioError(f"{path}: {what}; check its name and permissions") from error

    # As bytes, because soundfile cannot encode a name that is not valid in the locale.
    named = os.fsencode(path) if os.name == "posix" else str(path)
    plain = unset_size_at is None and isinstance(path, Path)
    source: Any = contextlib.nullcontext(named) if plain else _Shown(path, unset_size_at)
    try:
        with source as name, soundfile.SoundFile(name) as sound:
            info = AudioInfo(path, sound.samplerate, sound.channels, sound.frames, sound.format, sound.subtype)
            _check_info(info)
            yield sound, info
    except (soundfile.LibsndfileError, AudioError) as error:
        if failure := getattr(source, "failure", None):
            raise AudioError(f"{path}: cannot be read ({failure.strerror or failure}); try it again") from failure
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{path}: cannot be decoded ({error.error_string}); restore it or {_CONVERT}") from error


def _recognise(file: BinaryIO, path: Place) -> str:
    """The format, by the first bytes alone."""
    head = file.read(64)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        kind = "WAV"
    elif head[:4] == b"fLaC":
        kind = "FLAC"
    elif head[:4] == b"OggS":
        kind = "OGG"
    elif other := recognised(head):
        kind = other
    else:
        cure = (
            "copy it again"
            if not head
            else _CONVERT
            if path.suffix.lower() not in _ARRAYS and not head.startswith(b"\x93NUMPY")
            else _A_MEL
        )
        raise AudioError(f"{path}: is {_describe(head)}, not audio that wavediff reads; {cure}")
    if path.suffix and path.suffix.lower() not in READ[kind]:
        warnings.warn(f"{path}: holds {kind} in spite of its name; it is read as {kind}", stacklevel=2)
    return kind


def _describe(head: bytes) -> str:
    """What a file that is not ours looks like."""
    if not head:
        return "empty"
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "MP4 / M4A"
    if head[:4] == b"RIFF":
        return "cut, or RIFF of another kind"
    if head[0] == 0xFF and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return "MPEG audio of another layer than MP3"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "text"
    return "of an unknown format"


def _check_riff(file: BinaryIO, path: Place, size: int, lenient: bool) -> int | None:
    """Compare what a WAV claims with the `size` of its file, in bytes.

    Returns:
        Where the size of the samples is written, if it was left at 0 and they run to the end of the file.
    """
    file.seek(0)
    riff_end = struct.unpack("<4xI", file.read(8))[0] + 8
    data_size_64 = encoding = frame_bytes = None
    for name, length, offset in _chunks(file):
        if name == b"ds64":
            riff_end, data_size_64 = (int.from_bytes(file.read(8), "little") for _ in range(2))
            riff_end += 8
        elif name == b"fmt " and len(fmt := file.read(min(length, 26))) >= 16:
            encoding, frame_bytes = struct.unpack("<H10xH", fmt[:14])
            if encoding == _WAV_EXTENSIBLE and len(fmt) == 26:
                (encoding,) = struct.unpack("<H", fmt[24:])
        elif name == b"data":
            claimed, held = length if data_size_64 is None else data_size_64, size - offset
            break
    else:
        raise AudioError(f"{path}: header is cut or damaged, no samples found; restore the file")
    if encoding not in _WAV_ENCODINGS or not frame_bytes:
        raise AudioError(f"{path}: WAV encoding {encoding} is neither PCM nor float; {_CONVERT}")

    unset = riff_end <= offset or _is_unset(riff_end) or not _holds_chunks(file, offset, size)
    if claimed == 0 and held > 0 and unset:
        return offset - 4
    if data_size_64 is None and _is_unset(claimed):
        return None  # libsndfile reads these to the end
    if held < claimed:
        lost = -(-(claimed - held) // frame_bytes)
        _cut(path, f"the last {lost} of {claimed // frame_bytes} samples are missing", lenient)
    elif riff_end != size and not _is_unset(riff_end):
        warnings.warn(f"{path}: header says {riff_end} bytes, it has {size}; its samples are complete", stacklevel=2)
    if claimed % frame_bytes:
        warnings.warn(f"{path}: {claimed % frame_bytes} odd bytes after the last whole sample ignored", stacklevel=2)
    return None


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """The name, length and offset of each chunk of a RIFF file, positioned at its content."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        name, length = struct.unpack("<4sI", header)
        yield name, length, position + 8
        position += 8 + length + length % 2


def _holds_chunks(file: BinaryIO, start: int, end: int) -> bool:
    """Whether the bytes from `start` to `end` are whole chunks, so that what is before them has ended there."""
    for _ in range(_MAX_CHUNKS):
        file.seek(start)
        header = file.read(8)
        if len(header) < 8 or not all(32 <= byte < 127 for byte in header[:4]):
            return start >= end
        start += 8 + int.from_bytes(header[4:], "little")
        start += start % 2
        if start >= end:
            return start <= end + 1
    return False


def _is_unset(size: int) -> bool:
    """Whether a size is what programs write that cannot go back and fill it in: near 2^31 or 2^32."""
    return 0x7FFF_F000 <= size <= 0x8000_0100 or size >= 0xFFFF_F000


class _Shown(io.RawIOBase):
    """A file as libsndfile is shown it: a WAV whose sizes were left at 0 with sizes that it reads to the end.

    It cannot be told of a failure, so the first is remembered, and the file ends there.
    """

    def __init__(self, path: Place, unset_size_at: int | None) -> None:
        self._file = path.open("rb")
        self._unset = [] if unset_size_at is None else [*range(4, 8), *range(unset_size_at, unset_size_at + 4)]
        self.failure: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        start, view = self.tell(), memoryview(buffer).cast("B")
        try:
            count = self._file.readinto(view)
        except OSError as error:
            self.failure = self.failure or error
            return 0
        for index in self._unset:
            if start <= index < start + count:
                view[index - start] = 0xFF
        return count


def _check_size(file: BinaryIO, path: Place, kind: str, size: int, lenient: bool) -> None:
    """Compare what a file of the other formats claims with its `size` in bytes."""
    file.seek(0)
    try:
        said = claimed(file, kind, file.read(64))
    except ValueError as error:
        raise AudioError(f"{path}: {error}; {_CONVERT}") from error
    if said is not None and size < said:
        _cut(path, f"{said - size} of {said} bytes are missing", lenient)


def _check_last_page(file: BinaryIO, path: Place, size: int, lenient: bool) -> None:
    """An OGG stream ends with a whole page that is marked as the last."""
    file.seek(max(0, size - 2 * _MAX_PAGE_BYTES))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        _cut(path, "its last page is missing", lenient)


def _cut(path: Place, what: str, lenient: bool) -> None:
    if not lenient:
        raise AudioError(f"{path}: is cut, {what}; restore it, or pass lenient=True to keep the rest")
    warnings.warn(f"{path}: is cut, {what}; the rest is kept", stacklevel=3)


def _check_info(info: AudioInfo) -> None:
    if not MIN_SAMPLE_RATE <= info.sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"{info.path}: sample rate {info.sample_rate} Hz is outside {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}; "
            "correct the header or resample it"
        )
    if info.channels > MAX_CHANNELS:
        raise AudioError(f"{info.path}: has {info.channels} channels, at most {MAX_CHANNELS} are read; split it")
    if info.frames < 1:
        raise AudioError(f"{info.path}: holds no samples; export it again")
    if info.frames >= 2**62:  # libsndfile's "unknown"
        raise AudioError(f"{info.path}: does not say how long it is (streamed FLAC); {_CONVERT}")
