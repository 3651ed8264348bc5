"""One `.safetensors` file = weights + configuration + mel contract + facts + SHA-256.

Loading executes nothing: safetensors and literal JSON, sizes bounded before anything is built, keys and
shapes strict, every byte that matters under the hash.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wavediff.denoiser import Denoiser
from wavediff.errors import CheckpointError, ConfigError
from wavediff.files import atomic_write
from wavediff.model import ModelConfig, build_denoiser
from wavediff.version import __version__

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 10_000


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds.

    Attributes:
        config: how to build the model.
        weights: name -> tensor, of the denoiser.
        facts: how it came about (data, steps, hardware, metrics ...); JSON literals, for people to read.
        path: where it was read from.
    """

    config: ModelConfig
    weights: Mapping[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def build(self) -> Denoiser:
        """The denoiser with these weights, in evaluation mode, float32, on the CPU."""
        with torch.device("meta"):  # shapes only: a configuration larger than its weights claims no memory
            expected = build_denoiser(self.config).state_dict()
        _check_weights(self.weights, expected, self.path)
        denoiser = build_denoiser(self.config)
        denoiser.load_state_dict({name: tensor.float() for name, tensor in self.weights.items()})
        return denoiser.eval().requires_grad_(False)


def save_checkpoint(
    path: str | os.PathLike[str],
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    facts: dict[str, Any] | None = None,
    *,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a model file, atomically.

    Args:
        path: `.safetensors`.
        config: how to build the model.
        weights: state of the denoiser.
        facts: JSON literals.
        half: store float16.
        overwrite: replace an existing file.

    Raises:
        CheckpointError: a weight is NaN or infinite.
        OutputError: the file exists or cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: a model file ends in .safetensors; rename it")
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous().clone() for name, tensor in weights.items()}
    _check_finite(tensors, path)
    text = json.dumps({"config": config.to_dict(), "facts": facts or {}}, sort_keys=True, allow_nan=False)
    metadata = {
        "format": "wavediff",
        "format_version": str(FORMAT_VERSION),
        "wavediff_version": __version__,
        "model": text,
    }
    metadata["sha256"] = _digest(tensors, metadata)
    with atomic_write(path, overwrite=overwrite) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify a model file.

    Raises:
        CheckpointError: missing, not a wavediff model file, truncated, changed since it was written, of a newer
            format, or with NaN weights.
    """
    path = Path(path)
    metadata = _read_metadata(path)
    _check_format(path, metadata)
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises its own type, OSError or ValueError alike
        raise CheckpointError(f"{path}: cannot be read ({error}); fetch or train it again") from error
    if metadata.get("sha256") != _digest(tensors, metadata):
        raise CheckpointError(f"{path}: its SHA-256 does not match, the file is damaged; fetch or train it again")
    _check_finite(tensors, path)
    try:
        model = json.loads(metadata["model"])
        config, facts = ModelConfig.from_dict(model["config"]), model["facts"]
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its configuration is not readable ({error}); fetch it again") from error
    return Checkpoint(config, tensors, facts, path)


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
            if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
                raise CheckpointError(
                    f"{path}: is a pickle, which could run code and is not loaded; convert it with `wavediff import`"
                )
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if len(start) < 8 or not 2 <= length <= size - 8:
                raise CheckpointError(f"{path}: is not a safetensors file, or cut short; fetch it again")
            if length > MAX_HEADER_BYTES:
                raise CheckpointError(f"{path}: its header claims {length} bytes, at most {MAX_HEADER_BYTES} are read")
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


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, and over the metadata but the hash itself."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    sha.update(json.dumps({k: v for k, v in metadata.items() if k != "sha256"}, sort_keys=True).encode())
    return sha.hexdigest()


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise CheckpointError(f"{path}: weights are NaN or infinite in {', '.join(bad[:5])}; use an earlier checkpoint")


def _check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path | None) -> None:
    missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or extra:
        raise CheckpointError(
            f"{path}: weights and configuration disagree: {len(missing)} missing ({', '.join(missing[:5])}), "
            f"{len(extra)} unexpected ({', '.join(extra[:5])}); use the configuration it was trained with"
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the configuration gives "
                f"{tuple(expected[name].shape)}; check {_field_behind(name)} in its configuration"
            )


def _field_behind(name: str) -> str:
    """The configuration field that sets a weight's shape."""
    if "upsampler" in name:
        return "mel.hop_length"
    if "mel_projection" in name:
        return "mel.n_mels and backbone.channels"
    if "label" in name:
        return "labels"
    return "backbone.channels"
