"""A run that goes on where it stopped sees what an uninterrupted one sees."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from clips import RATE, write_manifests
from torch import Tensor

from wavediff.data.datamodule import SpeechDataModule


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

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        if self.global_step == self.raise_at:
            raise InterruptedError
        position = (self.current_epoch, batch_idx, self.trainer.fit_loop.total_batch_idx)
        self.seen.append((*position, batch["index"].tolist(), batch["seed"].tolist()))
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
) -> tuple[list[tuple[Any, ...]], float]:
    """One run, to its end or to `stop`: what it saw, and the weight it came to."""
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
        val_check_interval=5,
        callbacks=[Stop(hook, step, path)] if hook and step is not None and path else [],
        **limits,
    )
    module = SpeechDataModule(*manifests, RATE, 300, batch_size, num_workers, seed=7)
    with contextlib.suppress(InterruptedError):
        trainer.fit(recorder, module, ckpt_path=resume, weights_only=True)
    if hook == "max_steps" and path:
        trainer.save_checkpoint(path)
    return recorder.seen, recorder.weight.item()


@functools.cache
def uninterrupted(manifests: tuple[str, str], limit: str, value: int) -> tuple[list[tuple[Any, ...]], float]:
    return fit(manifests, **{limit: value})  # type: ignore[arg-type]


STOPS = {
    "inside an epoch": [("batch_end", 3)],
    "by an exception": [("exception", 13)],
    "before the first step": [("exception", 0)],
    "while validating": [("validation_end", 5)],
    "while validating after an epoch": [("validation_end", 10)],
    "after the last batch of an epoch": [("batch_end", 10)],
    "at the end of an epoch": [("epoch_end", 10)],
    "by max_steps inside an epoch": [("max_steps", 13)],
    "twice, first by an exception": [("exception", 4), ("batch_end", 8)],
    "twice, first after an epoch": [("batch_end", 10), ("batch_end", 14)],
    "twice, then after an epoch": [("exception", 7), ("validation_end", 10)],
    "three times": [("epoch_end", 10), ("exception", 12), ("validation_end", 20)],
}


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*num_workers")
@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS.keys())
@pytest.mark.parametrize("limit", [("max_epochs", 3), ("max_steps", 25)], ids=["epochs", "steps"])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(  # fault 53
    manifests: tuple[str, str], tmp_path: Path, stops: list[tuple[str, int]], limit: tuple[str, int]
) -> None:
    seen: list[tuple[Any, ...]] = []
    limits: dict[str, Any] = dict([limit])
    resume = None
    for number, (hook, step) in enumerate(stops):
        path = tmp_path / f"{number}.ckpt"
        seen += fit(manifests, stop=(hook, step, path), resume=resume, **limits)[0]
        resume = path
    rest, weight = fit(manifests, resume=resume, **limits)
    assert (seen + rest, weight) == uninterrupted(manifests, *limit)


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*num_workers")
def test_a_resumed_run_with_workers_sees_the_same(manifests: tuple[str, str], tmp_path: Path) -> None:  # fault 53
    first, _ = fit(manifests, num_workers=2, stop=("batch_end", 7, tmp_path / "7.ckpt"), max_steps=25)
    rest, weight = fit(manifests, num_workers=2, resume=tmp_path / "7.ckpt", max_steps=25)
    assert (first + rest, weight) == uninterrupted(manifests, "max_steps", 25)


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*num_workers")
def test_resuming_an_epoch_with_another_batch_size_warns(manifests: tuple[str, str], tmp_path: Path) -> None:
    fit(manifests, stop=("batch_end", 3, tmp_path / "3.ckpt"), max_epochs=1)
    with pytest.warns(UserWarning, match="batch_size 2 -> 1"):
        fit(manifests, resume=tmp_path / "3.ckpt", batch_size=1, max_epochs=1)
