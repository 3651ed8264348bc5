"""A run that goes on where it stopped sees what an uninterrupted one sees."""

import contextlib
import functools
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from clips import RATE, write_manifests
from torch import Tensor

from wavediff.data.datamodule import AudioDataModule


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_manifests(tmp_path_factory.mktemp("corpus"))


class Recorder(pl.LightningModule):
    """Writes down what it is trained on; its one weight depends on all of it, in order."""

    def __init__(self, raise_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.raise_at = raise_at
        self.seen: list[tuple[Any, ...]] = []
        self.log_steps: list[int] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        if self.global_step == self.raise_at:
            raise InterruptedError
        position = (self.current_epoch, batch_idx, self.trainer.fit_loop.total_batch_idx)
        self.seen.append((*position, batch["index"].tolist(), batch["seed"].tolist()))
        self.log_steps.append(self.trainer.fit_loop.epoch_loop._batches_that_stepped)
        return ((self.weight - batch["waveform"].double().mean()) ** 2).sum()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.3)


class Stop(pl.Callback):
    """Saves at one step in one hook, then raises, as an interrupted run does; `none`: saves after the run."""

    def __init__(self, hook: str, step: int, path: Path) -> None:
        self.hook, self.step, self.path = hook, step, path

    def _save(self, trainer: pl.Trainer, hook: str) -> None:
        if hook == self.hook and trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)
            if hook != "exception":
                raise InterruptedError

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._save(trainer, "batch_end")

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._save(trainer, "validation_end")

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._save(trainer, "epoch_end")

    def on_exception(self, trainer: pl.Trainer, *args: Any) -> None:
        self._save(trainer, "exception")


def fit(
    manifests: tuple[str, str],
    num_workers: int = 0,
    stop: tuple[str, int, Path] | None = None,
    resume: Path | None = None,
    batch_size: int = 2,
    **limits: Any,
) -> Recorder:
    """One run, to its end or to `stop`."""
    hook, step, path = stop or (None, None, None)
    recorder = Recorder(raise_at=step if hook == "exception" else None)
    if hook == "max_steps":
        limits = {"max_steps": step}
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=[Stop(hook, step, path)] if hook and step is not None and path else [],
        **{"val_check_interval": 5} | limits,
    )
    module = AudioDataModule(*manifests, RATE, 300, batch_size, num_workers, seed=7)
    with contextlib.suppress(InterruptedError):
        trainer.fit(recorder, module, ckpt_path=resume, weights_only=True)
    if hook == "max_steps" and path:
        trainer.save_checkpoint(path)
    return recorder


def fit_with_stops(
    manifests: tuple[str, str], folder: Path, stops: list[tuple[str, int]], **options: Any
) -> tuple[list[tuple[Any, ...]], list[int], float]:
    """As many runs as it takes: all they saw, the steps they logged at, the weight they came to."""
    runs: list[Recorder] = []
    resume = None
    for number, (hook, step) in enumerate(stops):
        path = folder / f"{number}.ckpt"
        runs.append(fit(manifests, stop=(hook, step, path), resume=resume, **options))
        resume = path
    runs.append(fit(manifests, resume=resume, **options))
    seen, log_steps = [[item for run in runs for item in getattr(run, name)] for name in ("seen", "log_steps")]
    return seen, log_steps, runs[-1].weight.item()


@functools.cache
def uninterrupted(manifests: tuple[str, str], limit: str, value: int) -> tuple[list[tuple[Any, ...]], list[int], float]:
    run = fit(manifests, **{limit: value})  # type: ignore[arg-type]
    return run.seen, run.log_steps, run.weight.item()


STOPS = {
    "inside an epoch": [("batch_end", 3)],
    "where validation is due": [("batch_end", 15)],
    "while validating": [("validation_end", 5)],
    "while validating after an epoch": [("validation_end", 10)],
    "after the last batch of an epoch": [("batch_end", 10)],
    "at the end of an epoch": [("epoch_end", 10)],
    "by max_steps inside an epoch": [("max_steps", 13)],
    "twice": [("batch_end", 10), ("batch_end", 14)],
    "three times": [("epoch_end", 10), ("batch_end", 12), ("validation_end", 20)],
}
EXCEPTIONS = {
    "before the first step": [("exception", 0)],
    "inside an epoch": [("exception", 13)],
    "in the last batch of an epoch": [("exception", 9)],
    "then inside the epoch": [("exception", 4), ("batch_end", 8)],
    "then after it": [("exception", 7), ("validation_end", 10)],
    "before and after": [("epoch_end", 10), ("exception", 12), ("validation_end", 20)],
}
LIMITS = pytest.mark.parametrize("limit", [("max_epochs", 3), ("max_steps", 25)], ids=["epochs", "steps"])
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*num_workers")


@LIMITS
@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS.keys())
def test_a_resumed_run_sees_and_logs_what_an_uninterrupted_one_does(  # fault 53
    manifests: tuple[str, str], tmp_path: Path, stops: list[tuple[str, int]], limit: tuple[str, int]
) -> None:
    assert fit_with_stops(manifests, tmp_path, stops, **dict([limit])) == uninterrupted(manifests, *limit)


@LIMITS
@pytest.mark.parametrize("stops", EXCEPTIONS.values(), ids=EXCEPTIONS.keys())
def test_a_run_resumed_after_an_exception_repeats_that_batch_and_no_other(  # fault 53
    manifests: tuple[str, str], tmp_path: Path, stops: list[tuple[str, int]], limit: tuple[str, int]
) -> None:
    seen, _, weight = fit_with_stops(manifests, tmp_path, stops, **dict([limit]))
    expected, _, expected_weight = uninterrupted(manifests, *limit)
    assert (seen, weight) == (expected, expected_weight)


def test_a_run_of_one_batch_an_epoch_repeats_it_after_an_exception(manifests: tuple[str, str], tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 20, "max_epochs": 3, "val_check_interval": 1}
    seen, _, weight = fit_with_stops(manifests, tmp_path, [("exception", 1)], **options)
    run = fit(manifests, **options)
    assert len(run.seen) == 3
    assert (seen, weight) == (run.seen, run.weight.item())


def test_a_resumed_run_with_workers_sees_the_same(manifests: tuple[str, str], tmp_path: Path) -> None:  # fault 53
    resumed = fit_with_stops(manifests, tmp_path, [("batch_end", 7)], num_workers=2, max_steps=25)
    assert resumed == uninterrupted(manifests, "max_steps", 25)


def test_another_batch_size_is_warned_of_in_the_middle_of_an_epoch_only(
    manifests: tuple[str, str], tmp_path: Path
) -> None:
    for hook, step in (("batch_end", 3), ("batch_end", 10)):
        fit(manifests, stop=(hook, step, tmp_path / f"{step}.ckpt"), max_steps=11)
    with pytest.warns(UserWarning, match="batch_size 2 -> 1"):
        fit(manifests, resume=tmp_path / "3.ckpt", batch_size=1, max_steps=5)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*batch_size")
        fit(manifests, resume=tmp_path / "10.ckpt", batch_size=1, max_steps=11)
