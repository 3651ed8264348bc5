"""A diffusion model in one file: the denoiser's weights, its configuration with the mel contract, facts, SHA-256."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from wavediff.models.building import built
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.denoiser import Denoiser
from wavediff.models.file import below, parse_config, read_model_file, write_model_file


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
