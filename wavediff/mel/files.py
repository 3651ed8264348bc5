"""Mels in files: `.npy`, which other projects write, and `.safetensors`, which also says the dialect."""

import json
import math
import os
from pathlib import Path

import numpy as np
from torch import Tensor

from wavediff.errors import ConfigError, MelError
from wavediff.files import atomic_write
from wavediff.mel.check import check_shape
from wavediff.mel.spec import MelSpec

_TENSOR_KEY = "mel"
_SPEC_KEY = "mel_spec"
# A mel's header is a few KiB; the parser of a larger one can need sixty times its size in memory.
_MAX_HEADER_BYTES = 1 << 20


def read_mel(path: str | os.PathLike[str]) -> tuple[Tensor, MelSpec | None]:
    """Read one mel.

    Args:
        path: `.npy` (an array (n_mels, frames) or (1, n_mels, frames) of floats; pickles are refused) or
            `.safetensors` (the tensor "mel" likewise, its dialect as JSON under "mel_spec" in the metadata).

    Returns:
        The mel (n_mels, frames) in float32, and its dialect where the file says it.

    Raises:
        MelError: Missing, damaged, hostile, or not one mel. Values are not judged: see `check_mel`.
    """
    path = Path(path)
    _require_known(path)
    if not path.is_file():
        raise MelError(f"{path}: no such file; give a .npy or .safetensors file")
    mel: Tensor | np.ndarray
    spec: MelSpec | None = None
    try:
        if path.suffix.lower() == ".npy":
            mel = _read_npy(path)
        else:
            mel, spec = _read_safetensors(path)
    except OSError as error:
        raise MelError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from error
    batch = check_shape(mel, spec, source=str(path))
    if len(batch) != 1:
        raise MelError(f"{path}: holds a batch of {len(batch)}; write one mel per file")
    return batch[0], spec


def write_mel(path: str | os.PathLike[str], mel: Tensor, spec: MelSpec, *, overwrite: bool = False) -> None:
    """Write one mel (n_mels, frames) or (1, n_mels, frames) in float32; the extension decides the format.

    Only `.safetensors` keeps the dialect.

    Raises:
        MelError: Neither `.npy` nor `.safetensors`, or not one mel of `spec.n_mels` bands.
        OutputError: The file exists and `overwrite` is false, or it cannot be written.
    """
    path = Path(path)
    _require_known(path)
    mel = check_shape(mel.detach().cpu(), spec, source=str(path))
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


def _require_known(path: Path) -> None:
    if path.suffix.lower() not in (".npy", ".safetensors"):
        raise MelError(f"{path}: mels are kept in .npy or .safetensors files; convert it to one of these")


def _read_npy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran_order, dtype = reader(file)
        except Exception as error:  # the header is a Python literal: its parser can raise nearly anything
            raise MelError(f"{path}: not a .npy file of plain numbers; save it with numpy.save") from error
        if dtype.kind != "f":
            raise MelError(f"{path}: holds {dtype} values; a mel holds floats (16, 32 or 64 bit), never pickles")
        held = path.stat().st_size - file.tell()
        claimed = math.prod(shape) * dtype.itemsize
        if min(shape, default=1) < 0 or claimed != held:
            raise MelError(
                f"{path}: its header claims {claimed} bytes of shape {shape}, the file holds {held}; copy it again"
            )
        array = np.fromfile(file, dtype=dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")


def _read_safetensors(path: Path) -> tuple[Tensor, MelSpec | None]:
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise MelError(f"{path}: its header claims {header_bytes} bytes, over {_MAX_HEADER_BYTES}; not a mel file")
    try:
        with safe_open(path, framework="pt") as file:
            if list(file.keys()) != [_TENSOR_KEY]:
                raise MelError(f"{path}: does not hold one tensor named {_TENSOR_KEY!r}; write it with write_mel")
            mel = file.get_tensor(_TENSOR_KEY)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise MelError(f"{path}: not a whole .safetensors file ({error}); copy it again") from error
    return mel, _parse_spec(metadata[_SPEC_KEY], path) if _SPEC_KEY in metadata else None


def _parse_spec(text: str, path: Path) -> MelSpec:
    try:
        return MelSpec.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise MelError(f"{path}: its {_SPEC_KEY} is not JSON ({error}); write the file again") from error
    except ConfigError as error:
        raise MelError(f"{path}: {error}; write the file again") from error
