"""A diffusion model in one file: the denoiser's weights, its configuration with the mel contract, facts, SHA-256."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wavediff.errors import CheckpointError
from wavediff.libraries import OwnDraws
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.denoiser import Denoiser
from wavediff.models.file import below, parse_config, read_model_file, write_model_file

Network = TypeVar("Network", bound=nn.Module)


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

    @property
    def pretransform(self) -> "Checkpoint | None":
        """The autoencoder in whose latents the model works; None for a model of waveforms."""
        if self.config.pretransform is None:
            return None
        return Checkpoint(self.config.pretransform, below(self.weights, "pretransform."), self.facts, self.path)

    def build(self) -> Denoiser:
        """The denoiser with these weights, in evaluation mode, float32, on the CPU."""

        def make() -> Denoiser:
            return parse_config(self.path, build_denoiser, self.config)

        return built(make, self.weights, self.path, _field_behind)


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
    write_model_file(path, "diffusion", config.to_dict(), weights, facts, half=half, overwrite=overwrite)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify a model file.

    Raises:
        CheckpointError: missing, not a diffusion model of wavediff, truncated, changed since it was written, of a
            newer format, or with NaN weights.
    """
    contents = read_model_file(path, "diffusion")
    config = parse_config(path, ModelConfig.from_dict, contents.config)
    return Checkpoint(config, contents.weights, contents.facts, Path(path))


def _field_behind(name: str) -> str:
    """The configuration field that sets a weight's shape."""
    if "upsampler" in name:
        return "mel.hop_length"
    if "mel_projection" in name:
        return "mel.n_mels and backbone.channels"
    if "label" in name:
        return "labels"
    return "backbone.channels"


def built(
    make: Callable[[], Network],
    weights: Mapping[str, Tensor],
    path: str | os.PathLike[str] | None,
    field_behind: Callable[[str], str],
) -> Network:
    """A network with the weights of a file, in evaluation mode, float32, on the CPU.

    Args:
        make: makes the network of the file's configuration.
        weights, path, field_behind: as of `check_weights`.

    Raises:
        CheckpointError: as `check_weights`.
    """
    with shapes_only():  # a configuration larger than its weights claims no memory
        expected = make().state_dict()
    # What counts batches decides nothing, and a file may lack it.
    counters = {name for name in expected if name.endswith("num_batches_tracked")} - weights.keys()
    check_weights(weights, {name: expected[name] for name in expected.keys() - counters}, path, field_behind)
    with torch.device("cpu"), OwnDraws():  # on the CPU, whatever the caller's default device
        network = make().float()
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return network.eval().requires_grad_(False)


def check_weights(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    path: str | os.PathLike[str] | None,
    field_behind: Callable[[str], str],
) -> None:
    """Hold the weights of a file against those that its configuration needs.

    Args:
        weights: of the file.
        expected: of the same names and shapes, on any device.
        path: of the file.
        field_behind: name of a weight -> the configuration field that sets its shape.

    Raises:
        CheckpointError: a weight is missing, unexpected, or of another shape.
    """
    missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or extra:
        names, others = (", ".join(name[:80] for name in found[:5]) for found in (missing, extra))
        raise CheckpointError(
            f"{path}: weights and configuration disagree: {len(missing)} missing ({names}), {len(extra)} unexpected "
            f"({others}); use the configuration it was trained with"
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the configuration gives "
                f"{tuple(expected[name].shape)}; check {field_behind(name)} in its configuration"
            )


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Modules that are built here have shapes but no values: no configuration claims memory."""
    with torch.device("meta"), _Uninitialised():
        yield


class _Uninitialised(TorchFunctionMode):
    """Leaves out what draws weights: torch would load its compiler, for seconds, to find that there are no values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.randn, torch.eye) and not kwargs:
            return torch.empty(*args)
        target = args[0] if args else kwargs.get("tensor")
        if isinstance(target, Tensor) and target.is_meta:  # what has a device of its own has values, and may be kept
            by_number = func is Tensor.mul and len(args) == 2 and not isinstance(args[1], Tensor)
            if by_number or getattr(func, "__module__", None) == nn.init.__name__:
                return target
        return func(*args, **kwargs)
