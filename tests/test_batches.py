"""The order of batches, and the loaders that bring them."""

import os
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clips import RATE, write_manifests
from torch.utils.data import DataLoader

from wavediff.audio import read_audio
from wavediff.data import datamodule
from wavediff.data.datamodule import AudioDataModule, balanced
from wavediff.data.readers import attended
from wavediff.data.shuffling import ResumableBatchSampler, derive_seed
from wavediff.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_manifests(tmp_path_factory.mktemp("corpus"))


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


def test_loaders_give_equal_batches_with_and_without_workers_even_spawned_ones(manifests: tuple[str, str]) -> None:
    module = AudioDataModule(*manifests, RATE, 300, batch_size=2, seed=7)
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


def test_starting_a_loader_draws_nothing_from_the_global_generator(manifests: tuple[str, str]) -> None:
    module = AudioDataModule(*manifests, RATE, 300, batch_size=2)
    module.setup()
    state = torch.get_rng_state()
    next(iter(module.train_dataloader()))
    next(iter(module.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_sees_every_clip_once_with_fixed_seeds_shared_out_among_ranks(manifests: tuple[str, str]) -> None:
    seen = []
    for rank in (0, 1, 0, 1):
        module = AudioDataModule(*manifests, RATE, 300, batch_size=2, valid_segment_length=500)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2, default_root_dir=".")  # type: ignore[assignment]
        module.setup()
        batches = list(module.val_dataloader())
        assert batches[0]["waveform"].shape == (2, 500)
        whole, _ = read_audio(module.valid_dataset.source[rank].path)  # type: ignore[index]
        assert torch.equal(batches[0]["waveform"][0], whole[200:700])
        seen.append(
            [item for batch in batches for item in zip(batch["index"].tolist(), batch["seed"].tolist(), strict=True)]
        )
    assert seen[:2] == seen[2:]
    # Five clips on two devices: the first comes once more, or one device would wait for the other for ever.
    assert sorted(index for index, _ in seen[0] + seen[1]) == [0, *range(5)]
    assert len({seed for _, seed in seen[0] + seen[1]}) == 5


@pytest.mark.parametrize("clips", range(1, 9))
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_device_validates_as_many_batches(manifests: tuple[str, str], clips: int, world_size: int) -> None:
    module = AudioDataModule(*manifests, RATE, 300, batch_size=2, valid_segment_length=500)
    seen = []
    for rank in range(world_size):
        module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
        module.valid_dataset = [None] * clips  # type: ignore[assignment]
        seen.append([index for batch in module.val_dataloader().batch_sampler for index in batch])  # type: ignore[union-attr]
    assert {len(indices) for indices in seen} == {-(-clips // world_size)}
    assert {index for indices in seen for index in indices} == set(range(clips))


def test_a_validation_without_clips_is_refused(manifests: tuple[str, str]) -> None:
    module = AudioDataModule(*manifests, RATE, 300, batch_size=2, valid_segment_length=500)
    module.valid_dataset = []  # type: ignore[assignment]
    with pytest.raises(DataError, match="valid_manifest: names no utterance"):
        module.val_dataloader()


def test_several_manifests_are_one_corpus_and_a_packed_one_stands_alone(
    manifests: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, valid = manifests
    both = AudioDataModule([train, valid], valid, RATE, 300, 2)
    both.setup()
    one = AudioDataModule(train, valid, RATE, 300, 2)
    one.setup()
    assert len(both.train_dataset) == len(one.train_dataset) + len(one.valid_dataset)
    packed = {"x.safetensors": object()}
    monkeypatch.setattr("wavediff.data.datamodule.open_decoded", packed.get)
    with pytest.raises(ConfigError, match=r"^x\.safetensors: .*trained on alone"):
        AudioDataModule([train, "x.safetensors"], valid, RATE, 300, 2).setup()


@pytest.mark.parametrize("name", ["sample_rate", "segment_length", "batch_size", "repeats", "valid_segment_length"])
def test_a_size_below_one_is_refused(name: str) -> None:
    sizes: dict[str, Any] = {"sample_rate": RATE, "segment_length": 300, "batch_size": 2} | {name: 0}
    with pytest.raises(ConfigError, match=f"{name}: 0 is not"):
        AudioDataModule("train", "valid", **sizes)


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
        ("killed", "a process that reads files died"),  # fault 57
        ("hung", "no batch for 2 seconds"),  # fault 58
        ("raised", "^19 of 20 files broke$"),
    ],
)
def test_a_worker_that_fails_ends_the_run_with_one_line(
    manifests: tuple[str, str], monkeypatch: pytest.MonkeyPatch, failure: str, message: str
) -> None:
    monkeypatch.setattr(datamodule, "WORKER_TIMEOUT", 2)
    module = AudioDataModule(*manifests, RATE, 300, batch_size=2, num_workers=1)
    module.train_dataset = BrokenDataset(failure)  # type: ignore[assignment]
    monkeypatch.setattr(
        "torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2
    )  # patience with a hung worker, at the end
    loader = module.train_dataloader()
    with pytest.raises(DataError, match=message) as caught:
        next(iter(loader))
    assert "\n" not in str(caught.value)
    loader._iterator._shutdown_workers()  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["TimeoutError", "RuntimeError"])
def test_what_a_worker_raised_is_its_error_and_no_reason_to_wait(kind: str) -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise RuntimeError(f"Caught {kind} in DataLoader worker process 0: the storage timed out")

    given = attended(batches(), look=1, patience=600, cure="")
    assert next(given) == 1
    with pytest.raises(RuntimeError, match="the storage timed out"):
        next(given)


def test_balance_without_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="but the model has no classes"):
        AudioDataModule("a.jsonl", "b.jsonl", 8000, 100, 1, balance=0.5)


def test_small_classes_are_visited_more_often_and_exactly_as_often_as_told() -> None:
    labels = [0] * 16 + [1] * 4 + [2]
    for exponent, visits in ((0.0, (1, 1, 1)), (0.5, (1, 2, 4)), (1.0, (1, 4, 16))):
        items = balanced(labels, exponent)
        assert [items.count(index) for index in range(21)] == [visits[label] for label in labels]
    sampler = ResumableBatchSampler(balanced(labels, 0.5), 7, seed=0)
    seen = [index for batch in sampler for index, _ in batch]
    assert len(seen) == 28
    assert seen.count(20) == 4
    assert len(set(seen)) == 21
