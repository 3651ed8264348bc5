"""What a Lightning trainer draws its batches from."""

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from wavediff.arguments import check_bounds
from wavediff.data.augment import Augment
from wavediff.data.dataset import SegmentDataset
from wavediff.data.manifest import Utterance, read_manifest
from wavediff.data.packed import DecodedCorpus
from wavediff.data.paired import DecodedMels, Mels, PairedMels, mels_of
from wavediff.data.readers import LOOK, attended
from wavediff.data.resuming import settle
from wavediff.data.shards import open_decoded
from wavediff.data.shuffling import ResumableBatchSampler, derive_seed
from wavediff.errors import ConfigError, DataError
from wavediff.mel import MelSpec

WORKER_TIMEOUT = 120
"""Seconds without a batch after which the worker processes are taken to hang."""


Source = list[Utterance] | DecodedCorpus


@dataclass(eq=False, repr=False)
class AudioDataModule(LightningDataModule):
    """Batches of segments: dicts of waveform (B, segment_length), length (B,), seed (B,), index (B,), label (B,), and
    mel (B, n_mels, frames) where the manifests name mels or the shards hold them.

    The trainer must be made with `use_distributed_sampler=False`: the batches are shared out among devices here.
    A run resumed from a checkpoint, in the middle of an epoch too, sees the batches that an uninterrupted run
    would have seen, whatever the number of workers.

    Args:
        train_manifest: a `.jsonl` manifest, several of them, a packed corpus (`.safetensors`), or a corpus in shards (a
            folder, or "s3://bucket/corpus" at the endpoint and with the keys that the environment names).
        valid_manifest: likewise; every utterance of it is validated on, at its middle, with a seed of its own.
        sample_rate: of the batches [Hz].
        segment_length: of training items [samples].
        batch_size: items in a batch of one device.
        num_workers: processes that read ahead; 0 reads in the training process.
        seed: decides the order of the utterances and the seed of each item.
        valid_segment_length: of validation items [samples]; as in training if None.
        repeats: how often an epoch visits each utterance; makes the epochs of a small corpus last.
        augment: how training segments are varied; not at all by default.
        pin_memory: copy batches to page-locked memory, from where a GPU fetches faster.
        labels: class names of a model with classes, in the order of their indices; batches then have `label`.
        start_share: of the training segments that begin where their utterance does; validation segments then do.
        balance: how far classes of few clips are visited more often: 0 not at all, 1 as often as the largest class, 0.5
            by the root of that.
        level: peak to which each utterance is brought [dBFS]; None leaves levels as they are.
        mel_spec: dialect that the mels named by the manifests must be of; None for a model that takes none.
    """

    train_manifest: str | list[str]
    valid_manifest: str | list[str]
    sample_rate: int
    segment_length: int
    batch_size: int
    num_workers: int = 0
    seed: int = 0
    valid_segment_length: int | None = None
    repeats: int = 1
    pin_memory: bool = False
    augment: Augment = Augment()  # noqa: RUF009  frozen
    labels: tuple[str, ...] = ()
    start_share: float = 0.0
    balance: float = 0.0
    level: float | None = None
    mel_spec: MelSpec | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._sources: tuple[Source, Source] | None = None
        counts = ("sample_rate", "segment_length", "batch_size", "repeats")
        check_bounds(self, "data", **dict.fromkeys(counts, (1, math.inf)), num_workers=(0, math.inf))
        check_bounds(self, "data", start_share=(0.0, 1.0), balance=(0.0, 1.0))
        if self.balance and not self.labels:
            raise ConfigError(f"balance is {self.balance}, but the model has no classes; give it labels, or leave it 0")
        optional = {"valid_segment_length": (1, math.inf), "level": (-100.0, 0.0)}
        check_bounds(self, "data", **{name: optional[name] for name in optional if getattr(self, name) is not None})

    def open(self) -> None:
        """Open the manifests, before there is a trainer; otherwise `setup` does.

        Raises:
            DataError, ConfigError: as `setup`, for what shows without the mels.
        """
        self._sources = _open(self.train_manifest), _open(self.valid_manifest)

    def setup(self, stage: str | None = None) -> None:
        """Make the data sets of the manifests; called by the trainer, in every process.

        Raises:
            DataError: a manifest is missing, damaged or empty, or names mels that do not fit.
            ConfigError: it names mels, and the model or another option does not go with them.
        """
        skipped_path = Path(self.trainer.default_root_dir) / "skipped.jsonl" if self.trainer else None
        if self._sources is None:
            self.open()
        train, valid = cast(tuple[Source, Source], self._sources)
        common: dict[str, Any] = {"labels": self.labels, "start_share": self.start_share, "level": self.level}
        common["skipped_path"] = skipped_path
        train_mels, valid_mels = self._mels(train, valid)
        self.train_dataset = SegmentDataset(
            train, self.sample_rate, self.segment_length, self.seed, augment=self.augment, mels=train_mels, **common
        )
        length = self.valid_segment_length or self.segment_length
        self.valid_dataset = SegmentDataset(
            valid, self.sample_rate, length, self.seed, random=False, mels=valid_mels, **common
        )

    def _mels(self, *sources: Sequence[Utterance] | DecodedCorpus) -> list[Mels | None]:
        lists = [source for source in sources if not isinstance(source, DecodedCorpus)]
        held = [source.mel_spec is not None for source in sources if isinstance(source, DecodedCorpus)]
        if not mels_of(lists) and not any(held):
            return [None for _ in sources]
        if self.mel_spec is None:
            raise ConfigError(f"{self.train_manifest}: names mels, the model takes none; prepare it without --mels")
        if not all(held) or (lists and not mels_of(lists)):
            raise ConfigError(
                "of the corpora to train and to validate on one has mels and the other none (a packed corpus holds no "
                "mels); prepare both with --mels, as manifests or as shards"
            )
        return [
            DecodedMels(source, self.mel_spec)
            if isinstance(source, DecodedCorpus)
            else PairedMels(source, self.mel_spec)
            for source in sources
        ]

    def train_dataloader(self) -> "ResumableLoader":
        """Starts at the batch the trainer is due.

        Raises:
            DataError: the utterances do not fill one batch.
        """
        rank, world_size = self._place()
        epoch, start_batch = settle(self.trainer.fit_loop) if self.trainer else (0, 0)
        items: int | list[int] = len(self.train_dataset)
        if self.balance and self.train_dataset.label_indices is not None:
            items = balanced(self.train_dataset.label_indices, self.balance)
        sampler = ResumableBatchSampler(
            items,
            self.batch_size,
            self.seed,
            rank,
            world_size,
            epoch=epoch,
            start_batch=start_batch,
            repeats=self.repeats,
        )
        return ResumableLoader(self.train_dataset, batch_sampler=sampler, **self._loader_arguments())

    def val_dataloader(self) -> "_Loader":
        """Every utterance once, in order; each device takes every `world_size`-th.

        All devices take equally many, for they wait for each other after each batch: where the number does not divide,
        the first utterances come once more.

        Raises:
            DataError: there is no utterance.
        """
        rank, world_size = self._place()
        number = len(self.valid_dataset)
        if number == 0:
            raise DataError("valid_manifest: names no utterance; give at least one, as `wavediff prepare` does")
        indices = [index % number for index in range(rank, -(-number // world_size) * world_size, world_size)]
        batches = [list(indices[first : first + self.batch_size]) for first in range(0, len(indices), self.batch_size)]
        return _Loader(self.valid_dataset, batch_sampler=batches, **self._loader_arguments())

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader_arguments(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "pin_memory": self.pin_memory,
            "persistent_workers": self.num_workers > 0,
            "timeout": min(LOOK, WORKER_TIMEOUT) if self.num_workers > 0 else 0,
            # A generator of its own: a loader otherwise draws from the global one each time it is started.
            "generator": torch.Generator().manual_seed(derive_seed(self.seed)),
        }


class _Loader(DataLoader[dict[str, Any]]):
    """A loader whose failures are errors of one line."""

    def __iter__(self) -> Any:
        batches = super().__iter__()  # now, and not in a generator: workers start at once
        cure = "check the memory and the storage; data.num_workers=0 reads without processes"
        return _one_line_errors(attended(batches, self.timeout, WORKER_TIMEOUT, cure))


class ResumableLoader(_Loader):
    """A loader that starts in the middle of an epoch.

    Lightning takes a loader with `state_dict` and `load_state_dict` for one that can. The place itself is in
    Lightning's own counters; the state here is what the order of the batches depends on besides.
    """

    def state_dict(self) -> dict[str, int]:
        """What decides the order of the batches."""
        names = ("num_items", "batch_size", "seed", "world_size", "repeats")
        return {name: getattr(self.batch_sampler, name) for name in names}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Warn if the epoch goes on in another order than it began in."""
        changed = [f"{name} {state[name]} -> {now}" for name, now in self.state_dict().items() if state[name] != now]
        if changed:
            warnings.warn(
                f"resumed with {', '.join(changed)}: this epoch goes on in another order, so some clips come twice "
                "and others not at all",
                stacklevel=2,
            )


def _one_line_errors(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        yield from batches
    except DataError as error:  # from a worker it arrives with a traceback in its message
        raise DataError(str(error).rpartition("wavediff.errors.DataError: ")[2].strip()) from error


def balanced(labels: Sequence[int], exponent: float) -> list[int]:
    """Indices of items, those of small classes several times: round((largest / own size) ** exponent) times each."""
    sizes = Counter(labels)
    largest = max(sizes.values())
    return [index for index, label in enumerate(labels) for _ in range(round((largest / sizes[label]) ** exponent))]


def _open(source: str | list[str]) -> Source:
    paths = [source] if isinstance(source, str) else source
    for path in paths:
        if (corpus := open_decoded(path)) is not None:
            if len(paths) == 1:
                return corpus
            what = "is packed or in shards, and such a corpus is trained on alone"
            raise ConfigError(f"{path}: {what}; give manifests (.jsonl), or prepare the corpora as one")
    return [utterance for path in paths for utterance in read_manifest(path)]
