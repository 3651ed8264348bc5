"""Training checkpoints that a kill, a full disk or a read-only folder cannot destroy."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from wavediff.errors import CheckpointError, ConfigError
from wavediff.files import atomic_write, sweep_temporaries
from wavediff.models.config import ModelConfig
from wavediff.models.file import below
from wavediff.models.torch_load import load_restricted

CONFIG_KEY = "wavediff_config"  # where a training checkpoint keeps its ModelConfig


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary beside the target, flushes, renames; reads without running pickled code.

    Lightning's own goes through `$TMPDIR`, where the last step is a copy whenever that is another filesystem.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Replace `path` by the new checkpoint, or leave it as it was and raise OutputError."""
        sweep_temporaries(Path(path).parent)
        with atomic_write(path, overwrite=True) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # how torch's zip writer reports a full disk
                raise OSError(str(error)) from error

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Tensors and plain data only, whatever `weights_only` says.

        Raises:
            CheckpointError: missing, damaged, or holding more than tensors and plain data.
        """
        return load_training_checkpoint(path)


def load_training_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a full training state by torch's restricted loader.

    Raises:
        CheckpointError: missing, damaged, compressed, or holding more than tensors and plain data.
    """
    return load_restricted(path, "training checkpoint")


def trained_model(path: str | os.PathLike[str]) -> tuple[ModelConfig, dict[str, Tensor], dict[str, Any]]:
    """Configuration, averaged weights and facts of a training checkpoint.

    Raises:
        CheckpointError: not a training checkpoint of wavediff.
    """
    state = load_training_checkpoint(path)
    try:
        # WeightAveraging keeps the average under "state_dict" and the raw weights elsewhere.
        weights = below(state["state_dict"], "denoiser.")
        config = ModelConfig.from_dict(state[CONFIG_KEY])
        return config, weights, {"steps": state["global_step"], "epochs": state["epoch"]}
    except (KeyError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"{path}: is not a training checkpoint of wavediff ({error}); give one it wrote"
        ) from error
