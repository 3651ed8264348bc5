"""One `.safetensors` file = weights + configuration + facts + SHA-256: what all kinds of model have in common; and
configurations from its literals, tables of known keys with the defaults of what older formats lack.

Loading executes nothing: safetensors and literal JSON, sizes bounded before anything is built, keys and
shapes strict, every byte that matters under the hash.
"""

import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wavediff.arguments import as_path
from wavediff.errors import CheckpointError, ConfigError
from wavediff.files import atomic_write
from wavediff.version import __version__

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 10_000

Config = TypeVar("Config")
Kind = Literal["diffusion", "classifier", "critics", "extension"]
# What a file of each kind is, and the commands that take it.
KINDS: dict[str, tuple[str, str]] = {
    "diffusion": ("diffusion model", "`wavediff vocode` and `wavediff generate` take it as --checkpoint"),
    "classifier": ("sound classifier", "`wavediff evaluate --generated` takes it as --classifier"),
    "critics": ("set of critics", "`wavediff train` takes it as model.critics_from"),
    "extension": ("band extension", "`wavediff generate --sample-rate 44100` has one built in"),
}


class Contents(NamedTuple):
    """What a model file holds: `config`, not yet checked, `weights` by name, and `facts` for people to read."""

    config: Any
    weights: dict[str, Tensor]
    facts: Any


def write_model_file(
    path: str | os.PathLike[str],
    kind: Kind,
    config: dict[str, Any],
    weights: Mapping[str, Tensor],
    facts: dict[str, Any] | None = None,
    *,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a model file, atomically.

    Args:
        path: `.safetensors`.
        kind: of the model.
        config: JSON literals that say how to build it.
        weights: its state.
        facts: JSON literals.
        half: store float16.
        overwrite: replace an existing file.

    Raises:
        CheckpointError: a weight is NaN or infinite.
        OutputError: the file exists or cannot be written.
    """
    path = as_path(path, "path", CheckpointError)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: a model file ends in .safetensors; rename it")
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous().clone() for name, tensor in weights.items()}
    check_finite(tensors, path)
    text = json.dumps({"config": config, "facts": facts or {}}, sort_keys=True, allow_nan=False)
    metadata = {
        "format": "wavediff",
        "format_version": str(FORMAT_VERSION),
        "wavediff_version": __version__,
        "model": text,
    }
    if kind != "diffusion":  # which files without a kind are
        metadata["kind"] = kind
    metadata["sha256"] = digest(tensors, metadata)
    with atomic_write(path, overwrite=overwrite) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(str(error)) from error


def read_model_file(path: str | os.PathLike[str], kind: str) -> Contents:
    """Read and verify a model file of one kind.

    Raises:
        CheckpointError: missing, not a wavediff model file, of another kind, truncated, changed since it was written,
            of a newer format, or with NaN weights.
    """
    path = as_path(path, "path", CheckpointError)
    metadata = _read_metadata(path)
    _check_format(path, metadata)
    _check_kind(path, metadata, kind)
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises its own type, OSError or ValueError alike
        # What it says quotes the header.
        message = " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be read ({message:.200}); fetch or train it again") from error
    if metadata.get("sha256") != digest(tensors, metadata):
        raise CheckpointError(f"{path}: its SHA-256 does not match, the file is damaged; fetch or train it again")
    check_finite(tensors, path)
    try:
        model = json.loads(metadata["model"])
        return Contents(model["config"], tensors, model["facts"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error


def kind_of(path: str | os.PathLike[str]) -> str:
    """The kind that a model file says it is, by its header alone.

    Raises:
        CheckpointError: missing, not a wavediff model file, or of a newer format.
    """
    path = as_path(path, "path", CheckpointError)
    metadata = _read_metadata(path)
    _check_format(path, metadata)
    return metadata.get("kind", "diffusion")


def parse_config(path: str | os.PathLike[str] | None, parse: Callable[[Any], Config], config: Any) -> Config:
    """`parse(config)`, its errors with the file's name.

    Raises:
        CheckpointError: the configuration is none.
    """
    try:
        return parse(config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin so, without that beginning: those of a part."""
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, and over the metadata but the hash itself."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    sha.update(json.dumps({k: v for k, v in metadata.items() if k != "sha256"}, sort_keys=True).encode())
    return sha.hexdigest()


def _read_metadata(path: Path) -> dict[str, str]:
    """The `__metadata__` of a safetensors header, after bounding the header."""
    if not path.exists():
        raise CheckpointError(f"{path}: does not exist; give a .safetensors model file")
    if not path.is_file():
        raise CheckpointError(f"{path}: is not a file; give a .safetensors model file")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            start = file.read(8)
            # A header of 128 bytes and a multiple of 256 begins with the byte of a pickle, but goes on with "{".
            if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and file.read(1) != b"{"):
                raise CheckpointError(
                    f"{path}: is a pickle, which could run code and is not loaded; convert a checkpoint of `wavediff "
                    "train` with `wavediff export`, one of another project with `wavediff import`"
                )
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if len(start) < 8 or not 2 <= length <= size - 8:
                raise CheckpointError(f"{path}: is not a safetensors file, or cut short; fetch it again")
            if length > MAX_HEADER_BYTES:
                raise CheckpointError(f"{path}: its header claims {length} bytes, at most {MAX_HEADER_BYTES} are read")
            file.seek(8)
            header = json.loads(file.read(length))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not JSON, the file is damaged; fetch it again") from error
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise CheckpointError(f"{path}: its header does not list 1 to {MAX_TENSORS} tensors; fetch it again")
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: carries no wavediff configuration; convert it with `wavediff import`")
    return metadata


def _check_format(path: Path, metadata: dict[str, str]) -> None:
    version = metadata.get("format_version", "")
    if metadata.get("format") != "wavediff" or not version.isdecimal() or "model" not in metadata:
        raise CheckpointError(f"{path}: carries no wavediff configuration; convert it with `wavediff import`")
    if int(version) > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format {version}, this is wavediff {__version__} which reads up to {FORMAT_VERSION}; "
            f"needs wavediff >= {metadata.get('wavediff_version', 'a newer one')}: pip install -U wavediff"
        )


def _check_kind(path: Path, metadata: dict[str, str], wanted: str) -> None:
    kind = metadata.get("kind", "diffusion")
    if kind == wanted:
        return
    what, use = KINDS.get(
        kind, (f"model of the unknown kind {kind!r}", "a newer wavediff may: pip install -U wavediff")
    )
    raise CheckpointError(f"{path}: is a {what}, a {KINDS[wanted][0]} is needed here; {use}")


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError where weights are NaN or infinite."""
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise CheckpointError(f"{path}: weights are NaN or infinite in {', '.join(bad[:5])}; use an earlier checkpoint")


def _unreadable(path: str | os.PathLike[str] | None, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: its configuration is not readable ({error}); fetch it again")


# What files written before there were these lack; they mean the defaults.
_LATER_FIELDS = {
    "adapters",
    "augmented",
    "causal_layers",
    "codec",
    "consistency",
    "default_length",
    "direct",
    "fold",
    "harmonics",
    "inversion",
    "n_fft",
    "partials",
    "phase_octaves",
    "plans",
    "pretransform",
    "reach",
}

# What files hold that were written while there were these; with another value they are of no use any more.
_FORMER_FIELDS = {"harmonic": False, "halving": None}


def completed(cls: Any, data: Any) -> Any:
    """`data` with the defaults of fields that its format did not have yet."""
    if not isinstance(data, dict):
        return data
    data = {name: value for name, value in data.items() if (name, value) not in _FORMER_FIELDS.items()}
    return {f.name: f.default for f in dataclasses.fields(cls) if f.name in _LATER_FIELDS} | data


def check_keys(name: str, data: Any, known: set[str]) -> None:
    """Refuse what is no table, or has other keys than `known`.

    Raises:
        ConfigError: it is, or has; `name` says where.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: is a {type(data).__name__}, not a table of keys")
    unknown, missing = sorted(set(data) - known), sorted(known - set(data))
    if unknown or missing:
        raise ConfigError(f"{name}: unknown keys {unknown[:5]}, missing keys {missing[:5]}")


def build(name: str, cls: Any, data: Any) -> Any:
    """A dataclass `cls` from a table of its fields.

    Raises:
        ConfigError: a key is unknown or missing, or its value no number of the field's kind.
    """
    data = completed(cls, data)
    check_keys(name, data, {f.name for f in dataclasses.fields(cls) if f.init})
    for f in dataclasses.fields(cls):
        if f.init and f.type in (int, float) and not is_number(data[f.name], f.type):
            raise ConfigError(f"{name}.{f.name}: {data[f.name]!r} is not a number of the right kind")
    return cls(**data)


def is_number(value: Any, kind: type) -> bool:
    """Whether a literal is a number of that kind, int or float; true and false are none."""
    return not isinstance(value, bool) and isinstance(value, int if kind is int else int | float)
