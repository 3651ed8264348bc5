"""What keeps a run from losing its work: one run a folder, a state to go back to, and no step by NaN."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from wavediff.errors import CheckpointError, ConfigError, OutputError, TrainingError, lack_of_memory
from wavediff.files import TEMPORARY_SUFFIX, atomic_write, sweep_temporaries
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
                full = "unexpected pos" in str(error)
                raise OSError("no space left" if full else str(error)) from error

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
    if Path(path).suffix == ".safetensors":
        raise CheckpointError(
            f"{path}: is a model file already; give a training checkpoint (.ckpt), or use it as it is"
        )
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


LOCK = ".wavediff-run"
PREVIOUS = "previous.ckpt"
MAX_BAD_STEPS = 5
"""Steps in a row without a finite loss and gradient, after which a run is not going to recover."""


@contextlib.contextmanager
def occupied(root: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the folder of a run: made where it is missing, known to be writable, and no other run's meanwhile.

    The first process of a run holds it for all; a killed one lets go.

    Raises:
        OutputError: it cannot be written.
        TrainingError: another run holds it.
    """
    if getattr(rank_zero_only, "rank", None) not in (None, 0):
        yield
        return
    folder = Path(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "not permitted")
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); check its permissions, or choose another "
            "--trainer.default_root_dir"
        ) from error
    with file:
        _lock(file, folder)
        yield


def _lock(file: IO[str], folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows, where nothing holds
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise TrainingError(
            f"{folder}: another run is under way there; end it, or choose another --trainer.default_root_dir"
        ) from error
    except OSError as error:
        warnings.warn(
            f"{folder}: cannot be locked ({error.strerror or error}); start no second run there", stacklevel=2
        )


def keep_previous(path: Path) -> None:
    """Keep the state at `path`, which is about to be replaced, under the name `PREVIOUS` beside it."""
    previous = path.with_name(PREVIOUS)
    temporary = path.with_name(f".{PREVIOUS}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        temporary.unlink(missing_ok=True)
        os.link(path, temporary)
        temporary.replace(previous)
    except OSError as error:
        warnings.warn(f"{previous}: could not be kept ({error.strerror or error}); only {path.name} is", stacklevel=2)


def state_to_resume(path: Path) -> Path | None:
    """The state at `path`, or the one before it where that is damaged, with a warning; None if there is neither.

    Raises:
        CheckpointError: neither can be read.
    """
    if getattr(rank_zero_only, "rank", None) in (None, 0) and sweep_temporaries(path.parent, of=[path]):
        warnings.warn(f"{path}: a save of it was cut off and is left out", stacklevel=2)
    damaged: CheckpointError | None = None
    for candidate in (path, path.with_name(PREVIOUS)):
        if not candidate.exists():
            continue
        try:
            load_training_checkpoint(candidate)
        except CheckpointError as error:
            damaged = error
            continue
        if candidate != path:
            warnings.warn(f"{damaged or f'{path}: is missing'}; going on from {candidate.name}", stacklevel=2)
        return candidate
    if damaged is not None:
        raise damaged
    return None


class SkipBadSteps(Callback):
    """Leaves out each optimiser step whose loss or gradient is NaN or infinite, names its files, and ends the run
    after `MAX_BAD_STEPS` in a row. The weights are then those of the last good step.
    """

    def __init__(self) -> None:
        self.bad_steps = 0
        self._losses: list[Tensor] = []
        self._indices: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember which items the coming step is made of."""
        self._indices.append(batch["index"])

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Remember the loss, without waiting for it."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Drop a gradient that is none: the optimiser leaves weights without one alone.

        Raises:
            TrainingError: it was one too many.
        """
        parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        figures = torch.stack([loss.float() for loss in self._losses])
        if trainer.precision != "16-mixed":  # there the scaler makes infinite gradients, and leaves them out
            gradients = [weight.grad for weight in parameters if weight.grad is not None]
            figures = torch.cat([figures, torch.nn.utils.get_total_norm(gradients).float()[None]])
        bad = not figures.isfinite().all()
        bad = trainer.strategy.reduce_boolean_decision(bad, all=False)  # the devices must agree
        indices, self._indices, self._losses = self._indices, [], []
        if not bad:
            self.bad_steps = 0
            return
        for weight in parameters:
            weight.grad = None
        self.bad_steps += 1
        files = _names(trainer, torch.cat([index.flatten() for index in indices]).tolist())
        what = f"step {trainer.global_step + 1}: the loss or gradient of {files} is NaN or infinite"
        if self.bad_steps >= MAX_BAD_STEPS:
            raise TrainingError(
                f"{what}, as in the {MAX_BAD_STEPS - 1} steps before; lower model.learning_rate or take the files out, "
                "then --resume"
            )
        warnings.warn(f"{what}; the step is left out", stacklevel=1)


def _names(trainer: Trainer, indices: list[int], most: int = 8) -> str:
    source = getattr(getattr(getattr(trainer, "datamodule", None), "train_dataset", None), "source", None)
    names = [str(source[i].path) if isinstance(source, list) else f"item {i}" for i in dict.fromkeys(indices)]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def memory_ran_out(error: BaseException) -> TrainingError | None:
    """The error to show for one that says that there is no memory left; None for any other."""
    if not (reason := lack_of_memory(error)):
        return None
    return TrainingError(
        f"out of memory ({reason:.200}); lower --data.batch_size (and raise --trainer.accumulate_grad_batches) or "
        "--data.segment_length"
    )
