"""Segments, packed corpora, batch order, and a run that goes on where it stopped."""

import contextlib
import functools
import json
import os
import pickle
import signal
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from wavediff.audio import read_audio, read_info
from wavediff.data import datamodule
from wavediff.data.datamodule import SpeechDataModule
from wavediff.data.dataset import SegmentDataset
from wavediff.data.manifest import Utterance, write_manifest
from wavediff.data.packed import PackedAudio, write_packed
from wavediff.data.sampler import ResumableBatchSampler, derive_seed
from wavediff.errors import ConfigError, DataError

RATE = 8000


def utterance_of(path: Path) -> Utterance:
    info = read_info(path)
    return Utterance(path, info.seconds, info.sample_rate)


def write_clips(folder: Path, count: int, frames: int = 900) -> list[Utterance]:
    """16-bit clips, each sample of which is found in one clip alone and there only once."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        ramp = np.arange(frames, dtype=np.int16) + np.int16(number * frames - 2**15)
        soundfile.write(folder / f"{number:02}.wav", ramp, RATE)
    return [utterance_of(folder / f"{number:02}.wav") for number in range(count)]


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return torch.equal(a["waveform"], b["waveform"]) and all(a[key] == b[key] for key in ("length", "seed", "index"))


# One item


def test_a_segment_is_a_piece_of_its_file_and_lies_anywhere_in_it(ljspeech: Path) -> None:
    paths = sorted((ljspeech / "wavs").iterdir())[:2]
    dataset = SegmentDataset([utterance_of(path) for path in paths], 22050, 8192)
    for index, path in enumerate(paths):
        whole = soundfile.read(path, dtype="float32")[0]
        windows = np.lib.stride_tricks.sliding_window_view(whole, 8192)
        starts = []
        for item_seed in range(40):
            item = dataset[index, item_seed]
            (found,) = np.flatnonzero((windows[:, :8] == item["waveform"][:8].numpy()).all(axis=1))[:1]
            assert np.array_equal(windows[found], item["waveform"].numpy())
            starts.append(found / (len(windows) - 1))
        assert min(starts) < 0.2
        assert max(starts) > 0.8
        assert abs(np.mean(starts) - 0.5) < 4 / np.sqrt(12 * 40)  # uniform


def test_an_item_depends_on_its_seed_alone_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    dataset = SegmentDataset(write_clips(tmp_path, 2), RATE, 300)
    state = torch.get_rng_state()
    first = dataset[1, 99]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    np.random.default_rng(1)
    assert same(dataset[1, 99], first)
    assert not torch.equal(dataset[1, 100]["waveform"], first["waveform"])
    assert first["seed"] == 99


def test_without_random_the_segment_is_the_middle_whatever_the_seed(tmp_path: Path) -> None:
    (utterance,) = write_clips(tmp_path, 1, frames=901)
    dataset = SegmentDataset([utterance], RATE, 300, random=False)
    whole = torch.from_numpy(soundfile.read(utterance.path, dtype="float32")[0])
    assert torch.equal(dataset[0, 1]["waveform"], whole[300:600])
    assert torch.equal(dataset[0, 2]["waveform"], whole[300:600])


def test_a_clip_shorter_than_the_segment_is_followed_by_zeros(tmp_path: Path) -> None:  # fault 61
    (utterance,) = write_clips(tmp_path, 1, frames=250)
    item = SegmentDataset([utterance], RATE, 400)[0, 5]
    assert item["length"] == 250
    assert torch.equal(item["waveform"][:250], torch.from_numpy(soundfile.read(utterance.path, dtype="float32")[0]))
    assert item["waveform"].shape == (400,)
    assert not item["waveform"][250:].any()


@pytest.mark.parametrize(
    ("corpus", "sample_rate"), [("LibriTTS", 22050), ("LibriSpeech", 22050), ("sfx", 22050), ("LibriTTS", 16000)]
)
def test_a_resampled_segment_equals_that_part_of_the_resampled_whole(
    data_root: Path, corpus: str, sample_rate: int
) -> None:
    path = max((data_root / corpus).rglob("*.*a*"), key=lambda path: path.stat().st_size)
    utterance = utterance_of(path)
    whole, _ = read_audio(path, sample_rate)
    for length in (4096, len(whole), len(whole) + 7):
        dataset = SegmentDataset([utterance], sample_rate, length)
        for item_seed in range(6 if length == 4096 else 1):
            item = dataset[0, item_seed]
            room = max(0, len(whole) - length)
            start = int(torch.randint(room + 1, (), generator=torch.Generator().manual_seed(item_seed)))
            expected = whole[start : start + length]
            assert item["length"] == len(expected)
            torch.testing.assert_close(item["waveform"][: len(expected)], expected, atol=1e-6, rtol=0)


# Files that break after the scan


def test_broken_files_are_replaced_and_reported_once(tmp_path: Path) -> None:  # fault 24, fault 56
    utterances = write_clips(tmp_path / "wavs", 40)
    dataset = SegmentDataset(utterances, RATE, 300, skipped_path=tmp_path / "run" / "skipped.jsonl")
    utterances[3].path.unlink()
    utterances[5].path.write_bytes(utterances[5].path.read_bytes()[:600])
    sampler = ResumableBatchSampler(40, 8, seed=0, repeats=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = list(DataLoader(dataset, batch_sampler=sampler))
    assert [len(batch["waveform"]) for batch in batches] == [8] * 10
    assert not {3, 5} & {index for batch in batches for index in batch["index"].tolist()}
    assert dataset.skipped == [3, 5]
    rows = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert sorted(row["path"] for row in rows) == [str(utterances[number].path) for number in (3, 5)]
    assert sorted(str(warning.message).count(".wav") > 0 for warning in caught) == [True, True]


def test_the_replacement_is_the_same_whether_or_not_the_file_was_known_to_be_broken(tmp_path: Path) -> None:
    utterances = write_clips(tmp_path, 40)
    utterances[3].path.unlink()
    dataset = SegmentDataset(utterances, RATE, 300)
    with pytest.warns(UserWarning, match="03.wav"):
        first = dataset[3, 77]
    assert same(dataset[3, 77], first)
    assert first["index"] != 3
    assert first["seed"] == 77


def test_too_many_broken_files_end_the_run(tmp_path: Path) -> None:
    utterances = write_clips(tmp_path, 40)
    dataset = SegmentDataset(utterances, RATE, 300)
    for utterance in utterances[:3]:
        utterance.path.unlink()
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(DataError, match="3 of 40 files"):
        [dataset[index] for index in range(3)]


def test_what_one_worker_finds_broken_the_training_process_knows(tmp_path: Path) -> None:
    utterances = write_clips(tmp_path / "wavs", 40)
    utterances[3].path.unlink()
    dataset = SegmentDataset(utterances, RATE, 300, skipped_path=tmp_path / "skipped.jsonl")
    loader = DataLoader(dataset, batch_sampler=ResumableBatchSampler(40, 4, 0, repeats=3), num_workers=2)
    assert {len(batch["seed"]) for batch in loader} == {4}
    assert dataset.skipped == [3]


# Packed corpora


def test_packed_items_equal_streamed_ones_bit_for_bit(ljspeech: Path, tmp_path: Path) -> None:
    utterances = [utterance_of(path) for path in sorted((ljspeech / "wavs").iterdir())[:3]]
    packed, skipped = write_packed(tmp_path / "p.safetensors", utterances, 22050)
    assert (packed, skipped) == (utterances, [])
    for random in (True, False):
        streamed = SegmentDataset(utterances, 22050, 8192, random=random)
        mapped = SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), 22050, 8192, random=random)
        assert all(same(streamed[index, seed], mapped[index, seed]) for index in range(3) for seed in range(5))
    longer = SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), 22050, 400_000)[1, 0]
    assert longer["length"] == utterances[1].frames


def test_a_packed_corpus_is_a_plain_safetensors_file_of_the_samples(tmp_path: Path) -> None:
    utterances = write_clips(tmp_path, 3, frames=333)
    write_packed(tmp_path / "p.safetensors", utterances, RATE)
    tensors = load_file(tmp_path / "p.safetensors")
    assert tensors["offsets"].tolist() == [0, 333, 666, 999]
    whole = np.concatenate([soundfile.read(utterance.path, dtype="int16")[0] for utterance in utterances])
    assert np.array_equal(tensors["samples"][:999].numpy(), whole)


def test_packing_warns_of_samples_it_clips(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.array([0.5, 1.5, -1.5, -1.0] * 20), RATE, subtype="FLOAT")
    with pytest.warns(UserWarning, match="40 samples .* clipped"):
        write_packed(tmp_path / "p.safetensors", [utterance_of(tmp_path / "loud.wav")], RATE)
    samples = load_file(tmp_path / "p.safetensors")["samples"]
    assert samples[:4].tolist() == [2**14, 2**15 - 1, -(2**15), -(2**15)]


def test_a_packed_corpus_of_another_rate_is_refused(tmp_path: Path) -> None:
    write_packed(tmp_path / "p.safetensors", write_clips(tmp_path, 1), RATE)
    with pytest.raises(DataError, match="packed at 8000 Hz, 22050 Hz are needed"):
        SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), 22050, 100)


@pytest.mark.parametrize(
    ("offsets", "samples", "metadata"),
    [
        (torch.tensor([0, 5, 11]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "8000"}),
        (torch.tensor([0, 7, 5]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "8000"}),
        (torch.tensor([-2, 5]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "8000"}),
        (torch.tensor([0]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "8000"}),
        (torch.tensor([0, 5]), torch.zeros(10), {"sample_rate": "8000"}),
        (torch.tensor([0, 5]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "fast"}),
        (torch.tensor([0, 5]), torch.zeros(10, dtype=torch.int16), None),
    ],
)
def test_a_packed_file_that_does_not_add_up_is_refused(
    tmp_path: Path, offsets: Tensor, samples: Tensor, metadata: dict[str, str] | None
) -> None:
    save_file({"offsets": offsets, "samples": samples}, tmp_path / "p.safetensors", metadata)
    with pytest.raises(DataError, match=r"p\.safetensors"):
        PackedAudio(tmp_path / "p.safetensors")


def test_a_cut_packed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_packed(path, write_clips(tmp_path, 2), RATE)
    whole = path.read_bytes()
    for size in (0, 5, 500, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="not a packed corpus"):
            PackedAudio(path)


# The order of batches


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_out_each_global_batch_and_one_epoch_visits_every_clip(world_size: int) -> None:
    ranks = [list(ResumableBatchSampler(24, 8 // world_size, 3, rank, world_size)) for rank in range(world_size)]
    whole = list(ResumableBatchSampler(24, 8, 3))
    for number, batch in enumerate(whole):
        assert sorted(item for rank in ranks for item in rank[number]) == sorted(batch)
    assert sorted(index for batch in whole for index, _ in batch) == list(range(24))


def test_epochs_are_shuffled_otherwise_and_no_item_seed_comes_twice() -> None:
    sampler = ResumableBatchSampler(24, 8, 3, repeats=2)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append([item for batch in sampler for item in batch])
    assert len({tuple(index for index, _ in epoch) for epoch in epochs}) == 3
    assert all(sorted(index for index, _ in epoch) == sorted([*range(24), *range(24)]) for epoch in epochs)
    seeds = [seed for epoch in epochs for _, seed in epoch]
    assert len(set(seeds)) == 3 * 48
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_sampler_started_late_gives_the_rest_of_the_epoch_then_whole_epochs() -> None:
    whole = ResumableBatchSampler(24, 4, 3, epoch=5)
    late = ResumableBatchSampler(24, 4, 3, epoch=5, start_batch=2)
    assert len(late) == len(whole) == 6
    late.set_epoch(5)  # as Lightning does again for the resumed epoch
    assert list(late) == list(whole)[2:]
    for sampler in (whole, late):
        sampler.set_epoch(6)
    assert list(late) == list(whole)


def test_an_iteration_keeps_the_epoch_it_was_started_in() -> None:
    sampler = ResumableBatchSampler(24, 4, 3)
    expected = list(sampler)
    started = iter(sampler)
    sampler.set_epoch(1)
    assert list(started) == expected


def test_seeds_differ_in_order_and_number_of_their_parts() -> None:
    parts = [(1, 2), (2, 1), (12,), (1, 2, 0), (-1, 2), (1, 2**70)]
    assert len({derive_seed(*numbers) for numbers in parts}) == len(parts)


def test_fewer_clips_than_a_batch_are_refused_unless_repeated() -> None:  # fault 60
    with pytest.raises(DataError, match="7 clips do not fill one batch of 4 on 2 device"):
        ResumableBatchSampler(7, 4, 0, world_size=2)
    assert len(ResumableBatchSampler(7, 4, 0, world_size=2, repeats=2)) == 1


# Loaders


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """10 batches of 2 in an epoch, the last clip left over; 5 clips to validate on."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, count in (("train", 21), ("valid", 5)):
        write_manifest(folder / f"{split}.jsonl", write_clips(folder / split, count))
    return str(folder / "train.jsonl"), str(folder / "valid.jsonl")


def test_loaders_give_equal_batches_with_and_without_workers_even_spawned_ones(manifests: tuple[str, str]) -> None:
    module = SpeechDataModule(*manifests, RATE, 300, batch_size=2, seed=7)
    module.setup()
    expected = list(module.train_dataloader())
    assert len(expected) == 10
    assert expected[0]["waveform"].shape == (2, 300)
    assert expected[0]["seed"].dtype == torch.int64
    dataset = module.train_dataset
    spawned = DataLoader(
        dataset, batch_sampler=ResumableBatchSampler(21, 2, 7), num_workers=1, multiprocessing_context="spawn"
    )
    for batch, other in zip(expected, spawned, strict=True):  # fault 86
        assert all(torch.equal(batch[key], other[key]) for key in batch)


def test_a_packed_dataset_in_use_travels_to_another_process(tmp_path: Path) -> None:
    write_packed(tmp_path / "p.safetensors", write_clips(tmp_path, 3), RATE)
    dataset = SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), RATE, 300)
    item = dataset[2, 5]
    assert same(pickle.loads(pickle.dumps(dataset))[2, 5], item)  # noqa: S301


def test_starting_a_loader_draws_nothing_from_the_global_generator(manifests: tuple[str, str]) -> None:
    module = SpeechDataModule(*manifests, RATE, 300, batch_size=2)
    module.setup()
    state = torch.get_rng_state()
    next(iter(module.train_dataloader()))
    next(iter(module.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_sees_every_clip_once_with_fixed_seeds_shared_out_among_ranks(manifests: tuple[str, str]) -> None:
    seen = []
    for rank in (0, 1, 0, 1):
        module = SpeechDataModule(*manifests, RATE, 300, batch_size=2, valid_segment_length=500)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2, default_root_dir=".")  # type: ignore[assignment]
        module.setup()
        batches = list(module.val_dataloader())
        assert batches[0]["waveform"].shape == (2, 500)
        seen.append(
            [item for batch in batches for item in zip(batch["index"].tolist(), batch["seed"].tolist(), strict=True)]
        )
    assert seen[:2] == seen[2:]
    assert sorted(index for index, _ in seen[0] + seen[1]) == list(range(5))
    assert len({seed for _, seed in seen[0] + seen[1]}) == 5


@pytest.mark.parametrize("name", ["sample_rate", "segment_length", "batch_size", "repeats", "valid_segment_length"])
def test_a_size_below_one_is_refused(name: str) -> None:
    sizes: dict[str, Any] = {"sample_rate": RATE, "segment_length": 300, "batch_size": 2} | {name: 0}
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        SpeechDataModule("train", "valid", **sizes)


class BrokenDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Items fail from the fifth on, each in the way asked for."""

    def __init__(self, failure: str) -> None:
        self.failure = failure

    def __len__(self) -> int:
        return 20

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        if self.failure == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.failure == "hung":
            time.sleep(600)
        raise DataError("19 of 20 files broke")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("killed", "a worker process died"),  # fault 57
        ("hung", "no batch for 2 s"),  # fault 58
        ("raised", "^19 of 20 files broke$"),
    ],
)
def test_a_worker_that_fails_ends_the_run_with_one_line(
    manifests: tuple[str, str], monkeypatch: pytest.MonkeyPatch, failure: str, message: str
) -> None:
    monkeypatch.setattr(datamodule, "WORKER_TIMEOUT", 2)
    module = SpeechDataModule(*manifests, RATE, 300, batch_size=2, num_workers=1)
    module.train_dataset = BrokenDataset(failure)  # type: ignore[assignment]
    monkeypatch.setattr(
        "torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2
    )  # patience with a hung worker, at the end
    loader = module.train_dataloader()
    with pytest.raises(DataError, match=message) as caught:
        next(iter(loader))
    assert "\n" not in str(caught.value)
    loader._iterator._shutdown_workers()  # type: ignore[union-attr]


# A run that goes on where it stopped


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
