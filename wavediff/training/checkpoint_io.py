"""Training checkpoints that a kill, a full disk or a read-only folder cannot destroy."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from wavediff.errors import CheckpointError
from wavediff.files import atomic_write, sweep_temporaries


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
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: does not exist; give the .ckpt file of a training run")
    try:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in zipfile.ZipFile(path).infolist()):
            raise CheckpointError(f"{path}: is compressed, which no training run writes; it is not loaded")
        return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile, pickle and torch each have their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as a training checkpoint ({reason}); use an earlier one"
        ) from error
