"""What all pipelines are: a model with its configuration, from a file and on a device."""

import os
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from wavediff.checkpoint import load_checkpoint, save_checkpoint
from wavediff.denoiser import Denoiser
from wavediff.errors import CheckpointError, ConfigError
from wavediff.model import ModelConfig

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
MODEL_FILE = "model.safetensors"


class Pipeline:
    """A denoiser and what is known of it.

    Args:
        config: of the model.
        denoiser: the model.
        facts: how it came about.
    """

    bundled: ClassVar[str]
    """File name of the model that comes with the package."""

    def __init__(self, config: ModelConfig, denoiser: Denoiser, facts: dict[str, Any] | None = None) -> None:
        self.config, self.denoiser, self.facts = config, denoiser, facts or {}

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str] | None = None, device: str = "auto") -> Self:
        """Load a model file.

        Args:
            source: a `.safetensors` file, or a folder that holds `model.safetensors`; None for the bundled model.
            device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

        Raises:
            CheckpointError: the file is missing or not a sound model file of this kind.
            ConfigError: the device is not there.
        """
        path = WEIGHTS / cls.bundled if source is None else Path(source)
        if source is None and not path.is_file():
            raise CheckpointError("no model is bundled with this version; train one and pass its file (--checkpoint)")
        checkpoint = load_checkpoint(path / MODEL_FILE if path.is_dir() else path)
        return cls(checkpoint.config, checkpoint.build(), checkpoint.facts).to(device)

    def to(self, device: str | torch.device) -> Self:
        """Move the model; "auto" takes a GPU where there is one.

        Raises:
            ConfigError: the device is not there.
        """
        self.denoiser.to(pick_device(device))
        return self

    def save(self, path: str | os.PathLike[str], *, half: bool = False, overwrite: bool = False) -> None:
        """Write a model file that `from_pretrained` reads; `half` stores float16."""
        save_checkpoint(path, self.config, self.denoiser.state_dict(), self.facts, half=half, overwrite=overwrite)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters()).device

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.config.sample_rate


def pick_device(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Raises:
        ConfigError: no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: {device!r} is not a device; choose auto, cpu or cuda") from error
    if target.type not in ("cpu", "cuda"):  # others have no float64, which schedules are computed in, or no data
        raise ConfigError(f"device: {device} is not supported; choose auto, cpu or cuda")
    if target.type == "cuda" and (not torch.cuda.is_available() or (target.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            f"device: {device} is not there, torch sees {torch.cuda.device_count()} GPUs; use auto or cpu"
        )
    return target
