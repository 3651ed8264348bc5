"""Mels in files: `.npy`, which other projects write, and `.safetensors`, which also says the dialect."""

import contextlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from wavediff.arguments import Values, as_place, whole
from wavediff.errors import ConfigError, MelError
from wavediff.files import atomic_write
from wavediff.mel.spec import MelSpec
from wavediff.mel.transform import as_spec, check_dimensions, check_shape
from wavediff.places import Place

_TENSOR_KEY = "mel"
_SPEC_KEY = "mel_spec"
# A mel's header is a few KiB; the parser of a larger one can need sixty times its size in memory.
_MAX_HEADER_BYTES = 1 << 20
MEL_SUFFIXES = (".npy", ".safetensors")
# What other projects keep mels in.
_LOADED = "and write it with wavediff.mel.write_mel, or numpy.save"
_CONVERTING = {
    **dict.fromkeys((".pt", ".pth"), f"load it with torch.load(..., weights_only=True) {_LOADED}"),
    ".npz": f'take its array, numpy.load(...)["mel"], {_LOADED}',
    **dict.fromkeys((".pkl", ".pickle", ".h5", ".hdf5", ".mat"), f"read it where it was made {_LOADED}"),
    **dict.fromkeys((".json", ".csv", ".txt"), f"make an array of its numbers {_LOADED}"),
}
_FLOATS = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}  # of safetensors


@dataclass(frozen=True)
class MelInfo:
    """What a mel file says before its values are read; `spec` is None where it does not say its dialect."""

    n_mels: int
    frames: int
    spec: MelSpec | None


def read_mel(path: str | os.PathLike[str]) -> tuple[Tensor, MelSpec | None]:
    """Read one mel.

    Args:
        path: `.npy` (an array (n_mels, frames) or (1, n_mels, frames) of floats; pickles are refused) or
            `.safetensors` (the tensor "mel" likewise, its dialect as JSON under "mel_spec" in the metadata), here or in
            object storage ("s3://bucket/a.npy").

    Returns:
        The mel (n_mels, frames) in float32, and its dialect where the file says it.

    Raises:
        MelError: Missing, damaged, hostile, or not one mel. Values are not judged: see `check_mel`.
    """
    stored = _stored(path)
    with _reading(stored.path):
        mel = stored.read(0, stored.shape[-1])
    return check_shape(mel, stored.spec, source=str(path))[0], stored.spec


def read_mel_info(path: str | os.PathLike[str]) -> MelInfo:
    """Read the header of one mel's file.

    Raises:
        MelError: As `read_mel`, for everything that shows without the values.
    """
    stored = _stored(path)
    n_mels, frames = stored.shape[-2:]
    return MelInfo(n_mels, frames, stored.spec)


def read_mel_pieces(path: str | os.PathLike[str], frames: int) -> tuple[Iterator[Tensor], MelSpec | None]:
    """Read one mel piece by piece, in memory that does not grow with its length.

    Args:
        path: As of `read_mel`.
        frames: Of a piece; the last may have fewer.

    Returns:
        Pieces (n_mels, n) in float32, and the mel's dialect where the file says it.

    Raises:
        MelError: As `read_mel`; of the values, when their piece is reached.
    """
    frames = whole(frames, "frames", 1, None, MelError)
    stored = _stored(path)
    return _pieces(stored, frames), stored.spec


def write_mel(path: str | os.PathLike[str], mel: Values, spec: MelSpec | str, *, overwrite: bool = False) -> None:
    """Write one mel (n_mels, frames) or (1, n_mels, frames) in float32; the extension decides the format.

    >>> import torch
    >>> write_mel("mel.safetensors", torch.zeros(80, 12), MelSpec.preset("coqui"))
    >>> mel, spec = read_mel("mel.safetensors")
    >>> mel.shape, spec.name
    (torch.Size([80, 12]), 'coqui')

    Only `.safetensors` keeps the dialect.

    Raises:
        MelError: Neither `.npy` nor `.safetensors`, or not one mel of `spec.n_mels` bands.
        OutputError: The file exists and `overwrite` is false, or it cannot be written.
    """
    path, spec = as_place(path, "path", MelError), as_spec(spec, "spec")
    _require_known(path)
    mel = check_shape(mel, spec, source=f"{path}: mel").detach().cpu()
    if len(mel) != 1:
        raise MelError(f"{path}: one mel per file, got a batch of {len(mel)}")
    with atomic_write(path, overwrite=overwrite) as temporary:
        if path.suffix.lower() == ".npy":
            with open(temporary, "wb") as file:
                np.save(file, mel[0].numpy(), allow_pickle=False)
        else:
            from safetensors.torch import save

            dialect = {_SPEC_KEY: json.dumps(spec.to_dict())}
            # Written here rather than by save_file, whose failures (a full disk) are no OSError.
            temporary.write_bytes(save({_TENSOR_KEY: mel[0].contiguous()}, metadata=dialect))


def not_a_mel(path: Place) -> str:
    """What is to be said of a file that is no mel by its name: what it may hold, and how it becomes one."""
    how = _CONVERTING.get(path.suffix.lower(), "convert it to one of these")
    return f"a mel is kept in a .npy or .safetensors file; {how}"


def _require_known(path: Place) -> None:
    if path.suffix.lower() not in MEL_SUFFIXES:
        raise MelError(f"{path}: {not_a_mel(path)}")


def _stored(path: str | os.PathLike[str]) -> "_Stored":
    """One mel in a file, its header checked."""
    path = as_place(path, "path", MelError)
    if path == Path("-") and not path.exists():
        raise MelError(f"{path}: standard input is not read; write it to a file and name that")
    _require_known(path)
    if isinstance(path, Path) and not path.is_file():
        raise MelError(f"{path}: no such file; give a .npy or .safetensors file")
    with _reading(path):
        stored: _Stored = _Npy(path) if path.suffix.lower() == ".npy" else _Safetensors(path)
    check_dimensions(stored.shape, stored.spec, source=str(path))
    if len(stored.shape) == 3 and stored.shape[0] != 1:
        raise MelError(f"{path}: holds a batch of {stored.shape[0]}; write one mel per file")
    return stored


def _pieces(stored: "_Stored", frames: int) -> Iterator[Tensor]:
    total = stored.shape[-1]
    for first in range(0, total, frames):
        with _reading(stored.path):
            piece = stored.read(first, min(frames, total - first))
        yield check_shape(piece, stored.spec, source=f"{stored.path}, from frame {first}")[0]


@contextlib.contextmanager
def _reading(path: Place) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        raise MelError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from error
    except SafetensorError as error:
        message = " ".join(str(error).split())  # it quotes the header
        raise MelError(f"{path}: not a whole .safetensors file ({message:.200}); copy it again") from error


class _Stored:
    """One mel in a file, of which frames are read where they lie.

    Not through a memory map, which kills the process where the file has become shorter and whose pages count as memory.
    """

    path: Place
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int  # of the values [bytes]
    fortran_order = False
    spec: MelSpec | None = None

    def read(self, first: int, count: int) -> np.ndarray:
        """Frames (n_mels, count)."""
        bands, frames = self.shape[-2:]
        with self.path.open("rb") as file:
            if self.fortran_order:
                return self._values(file, first * bands, count * bands).reshape(count, bands).T
            if count == frames:
                return self._values(file, 0, bands * frames).reshape(bands, frames)
            return np.stack([self._values(file, band * frames + first, count) for band in range(bands)])

    def _values(self, file: io.BufferedReader, first: int, count: int) -> np.ndarray:
        file.seek(self.start + first * self.dtype.itemsize)
        values = np.empty(count, self.dtype)
        if file.readinto(values.data) != values.nbytes:
            raise MelError(f"{self.path}: has become shorter while it was read; copy it again")
        return values


class _Npy(_Stored):
    def __init__(self, path: Place) -> None:
        self.path = path
        with path.open("rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                self.shape, self.fortran_order, self.dtype = readers[version](file)
            except OSError:
                raise
            except Exception as error:  # the header is a Python literal: its parser can raise nearly anything
                raise MelError(f"{path}: not a .npy file of plain numbers; save it with numpy.save") from error
            self.start = file.tell()
            held = file.seek(0, os.SEEK_END) - self.start
        if self.dtype.kind != "f":
            raise MelError(f"{path}: holds {self.dtype} values; a mel holds floats (16, 32 or 64 bit), never pickles")
        claimed = math.prod(self.shape) * self.dtype.itemsize
        if min(self.shape, default=1) < 0 or claimed != held:
            raise MelError(
                f"{path}: its header claims {claimed} bytes of shape {self.shape}, the file holds {held}; copy it again"
            )


class _Safetensors(_Stored):
    def __init__(self, path: Place) -> None:
        from safetensors import safe_open

        self.path = path
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if header_bytes > _MAX_HEADER_BYTES:
                what = f"its header claims {header_bytes} bytes, over {_MAX_HEADER_BYTES}"
                raise MelError(f"{path}: {what}; not a mel file")
            # Which compares the header with the file's size.
            with _header_alone(path, file, 8 + header_bytes) as name, safe_open(name, framework="pt") as tensors:
                if list(tensors.keys()) != [_TENSOR_KEY]:
                    raise MelError(f"{path}: does not hold one tensor named {_TENSOR_KEY!r}; write it with write_mel")
                stored = tensors.get_slice(_TENSOR_KEY)
                self.shape, self.name = tuple(stored.get_shape()), stored.get_dtype()
                metadata = tensors.metadata() or {}
        if self.name not in _FLOATS:
            raise MelError(f"{path}: holds {self.name} values; a mel holds floats (16, 32 or 64 bit)")
        self.dtype = np.dtype(_FLOATS[self.name])
        self.start = 8 + header_bytes
        self.spec = _parse_spec(metadata[_SPEC_KEY], path) if _SPEC_KEY in metadata else None

    def _values(self, file: io.BufferedReader, first: int, count: int) -> np.ndarray:
        values = super()._values(file, first, count)
        if self.name == "BF16":  # the upper half of a float32
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values


@contextlib.contextmanager
def _header_alone(path: Place, file: io.BufferedReader, header_bytes: int) -> Iterator[Path]:
    """A local file with the header and the size of another, which may be in object storage; itself if it is local."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        file.seek(0)
        copy.write_bytes(file.read(header_bytes))
        os.truncate(copy, file.seek(0, os.SEEK_END))  # what is behind the header takes no room
        yield copy


def _parse_spec(text: str, path: Place) -> MelSpec:
    try:
        return MelSpec.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise MelError(f"{path}: its {_SPEC_KEY} is not JSON ({error}); write the file again") from error
    except ConfigError as error:
        raise MelError(f"{path}: {error}; write the file again") from error
