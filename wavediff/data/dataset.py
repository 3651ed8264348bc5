"""Segments of utterances, as training and validation see them."""

import itertools
import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from wavediff.audio import read_audio, resample
from wavediff.data.augment import Augment, Variation
from wavediff.data.manifest import MAX_SKIPPED_SHARE, Utterance, class_of
from wavediff.data.packed import DecodedCorpus
from wavediff.data.paired import Mels
from wavediff.data.shuffling import derive_seed
from wavediff.errors import AudioError, ConfigError, DataError, MelError

_FILTER_SECONDS = 0.02
"""Audio read on both sides of a segment that is resampled, so that its edges equal those of the whole file."""


@dataclass(eq=False, repr=False)
class SegmentDataset(Dataset[dict[str, Any]]):
    """One segment of each utterance, read from disk when asked for; only the segment is decoded.

    An item is chosen by `(index, item_seed)`: everything random about it comes from `item_seed`, nothing from
    global state, so it is the same in any process and at any time. A plain `index` stands for
    `(index, derive_seed(seed, index))`.

    Each item is a dict:
        waveform: float32 (segment_length,); clips shorter than the segment are followed by zeros.
        length: how many of its samples are audio, 1 to `segment_length`.
        seed: the item's seed, for what else is random about it (the noise, the diffusion step).
        index: which utterance it is from; not the one asked for if that one's file turned out to be broken.
        label: index of the utterance's class in `labels`; absent where there are none.
        mel: float32 (n_mels, segment_length // hop_length), the frames of the segment from the utterance's mel file,
            followed by silence's; absent without `mels`.

    A file that breaks after the scan is replaced, by an utterance that `item_seed` chooses, and reported once.

    Args:
        source: the utterances of a manifest, or a decoded corpus.
        sample_rate: of the items [Hz]; files of another rate are resampled.
        segment_length: length of the items [samples].
        seed: decides the item seeds of plain indices.
        random: cut the segment at a random place; otherwise from the middle of the utterance, or from its start if
            `start_share` is above 0.
        augment: how the segments are varied; not at all by default.
        skipped_path: JSONL file to which broken files are appended (path, reason) as they are met.
        labels: the class names, in the order of their indices; none for models without classes.
        start_share: of the random items that begin where their utterance does, so that onsets are seen.
        mels: those that the utterances name; segments then begin at whole frames.
        level: peak to which each utterance is brought before it is varied [dBFS]; silence stays. None leaves levels as
            they are.

    Raises:
        DataError: `source` is empty, a decoded corpus of another sample rate, or an utterance's label is not in
            `labels`.
        ConfigError: `mels` with what they do not go with: augmentation, another sample rate, or segments that are
            not whole frames.
    """

    source: Sequence[Utterance] | DecodedCorpus
    sample_rate: int
    segment_length: int
    seed: int = 0
    random: bool = True
    skipped_path: str | os.PathLike[str] | None = None
    augment: Augment = Augment()  # noqa: RUF009  frozen
    labels: Sequence[str] = ()
    start_share: float = 0.0
    mels: Mels | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        source, mels = self.source, self.mels
        if len(source) == 0:
            raise DataError("the data set holds no utterance; prepare the corpus again")
        if isinstance(source, DecodedCorpus) and source.sample_rate != self.sample_rate:
            raise DataError(
                f"{source.path}: holds {source.sample_rate} Hz, {self.sample_rate} Hz are needed; "
                f"prepare it again with --sample-rate {self.sample_rate}"
            )
        if mels is not None:
            _check_paired(mels, self.sample_rate, self.segment_length, self.augment, self.level)
        self.grid = mels.spec.hop_length if mels is not None else 1  # where segments may begin [samples]
        self._gains: dict[int, float] = {}
        self.label_indices = _label_indices(source, self.labels) if self.labels else None
        # In shared memory: what one worker process finds broken, all know of.
        self._broken = torch.zeros(len(source), dtype=torch.bool, device="cpu").share_memory_()

    def __len__(self) -> int:
        return len(self.source)

    @property
    def skipped(self) -> list[int]:
        """Indices of the utterances whose files turned out to be broken, in any process so far."""
        return self._broken.nonzero().flatten().tolist()

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """One item.

        Raises:
            DataError: more than 5 % of the files have turned out to be broken.
        """
        index, item_seed = key if isinstance(key, tuple) else (key, derive_seed(self.seed, key))
        for attempt in itertools.count():
            if not self._broken[index]:
                try:
                    # A fresh generator for each attempt: what was known to be broken must not change the outcome.
                    generator = torch.Generator().manual_seed(item_seed)
                    variation = self.augment.draw(generator) if self.augment.share else Variation()
                    source_length = variation.source_length(self.segment_length)
                    start = self._start(self._frames(index), source_length, generator)
                    segment = self._gain(index) * self._segment(index, start, source_length)
                    waveform = variation.apply(segment, self.sample_rate)[: self.segment_length]
                    extra = self._extra(index, start)
                    if self.augment.share:
                        extra["variation"] = variation.told()
                except (AudioError, MelError) as error:
                    self._report(index, str(error))
                else:
                    length = len(waveform)
                    waveform = pad(waveform, (0, self.segment_length - length))
                    return {"waveform": waveform, "length": length, "seed": item_seed, "index": index, **extra}
            index = derive_seed(item_seed, attempt) % len(self)
        raise AssertionError("unreachable: _report stops the search")

    def _frames(self, index: int) -> int:
        """Samples of an utterance that segments are cut from, at the items' rate."""
        if self.mels is not None:
            return self.mels.frames[index] * self.mels.spec.hop_length
        source = self.source
        if isinstance(source, DecodedCorpus):
            return source.frames(index)
        return -(-source[index].frames * self.sample_rate // source[index].sample_rate)

    def _segment(self, index: int, start: int, length: int) -> Tensor:
        """(n,) with n at most `length`, from sample `start` at the items' rate."""
        source = self.source
        length = min(length, self._frames(index) - start)
        if isinstance(source, DecodedCorpus):
            return source.read(index, start, length)
        utterance = source[index]
        if utterance.sample_rate == self.sample_rate:
            return read_audio(utterance.path, start=start, frames=length)[0]
        return self._resampled_segment(utterance, start, length)

    def _gain(self, index: int) -> float:
        """Factor that brings an utterance to the level; read once."""
        if self.level is None:
            return 1.0
        if index not in self._gains:
            peak = self._segment(index, 0, self._frames(index)).abs().max().item()
            self._gains[index] = 10 ** (self.level / 20) / peak if peak > 0 else 1.0
        return self._gains[index]

    def _resampled_segment(self, utterance: Utterance, start: int, length: int) -> Tensor:
        # `step_in` samples of the file last as long as `step_out` of the item. Cut at whole steps, a part of the
        # file is resampled on the same grid as the whole.
        divisor = math.gcd(utterance.sample_rate, self.sample_rate)
        step_in, step_out = utterance.sample_rate // divisor, self.sample_rate // divisor
        margin = math.ceil(_FILTER_SECONDS * divisor)  # steps
        first = max(0, start // step_out - margin)
        last = math.ceil((start + length) / step_out) + margin
        begin, end = first * step_in, min(last * step_in, utterance.frames)
        waveform, rate = read_audio(utterance.path, start=begin, frames=end - begin)
        offset = start - first * step_out
        return resample(waveform, rate, self.sample_rate)[offset : offset + length]

    def _extra(self, index: int, start: int) -> dict[str, Any]:
        """What an item has besides its audio, if anything."""
        extra: dict[str, Any] = {}
        if self.label_indices is not None:
            extra["label"] = self.label_indices[index]
        if self.mels is not None:
            extra["mel"] = self.mels.read(index, start // self.grid, self.segment_length // self.grid)
        return extra

    def _start(self, frames: int, length: int, generator: torch.Generator) -> int:
        room = max(0, frames - length) // self.grid
        if not self.random:
            return 0 if self.start_share else room // 2 * self.grid
        if self.start_share and torch.rand((), generator=generator) < self.start_share:
            return 0
        return int(torch.randint(room + 1, (), generator=generator)) * self.grid

    def _report(self, index: int, reason: str) -> None:
        self._broken[index] = True
        num_broken = int(self._broken.sum())
        path = self.source.path if isinstance(self.source, DecodedCorpus) else self.source[index].path
        if self.skipped_path is not None:
            Path(self.skipped_path).parent.mkdir(parents=True, exist_ok=True)
            with Path(self.skipped_path).open("a", encoding="ascii") as file:
                file.write(json.dumps({"path": str(path), "reason": reason}) + "\n")
        if num_broken > MAX_SKIPPED_SHARE * len(self):
            raise DataError(
                f"{num_broken} of {len(self)} files broke since the corpus was prepared, more than "
                f"{MAX_SKIPPED_SHARE:.0%}; prepare it again. The last: {reason}"
            )
        warnings.warn(f"skipped from now on, another clip takes its place: {reason}", stacklevel=2)


def _label_indices(source: Sequence[Utterance] | DecodedCorpus, labels: Sequence[str]) -> list[int]:
    found = source.labels if isinstance(source, DecodedCorpus) else [utterance.label for utterance in source]
    index_of = {label: index for index, label in enumerate(labels)}
    names = [label if label in index_of else class_of(label) for label in found or [None] * len(source)]
    for number, label in enumerate(names):
        if label not in index_of:
            clip = f"{source.path}, utterance {number}" if isinstance(source, DecodedCorpus) else source[number].path
            what = "has no label" if label is None else f"has the label {label!r}"
            raise DataError(
                f"{clip}: {what}, the model knows {', '.join(list(labels)[:20])}; prepare the corpus with labels "
                "(`wavediff prepare classes`), or add it to model.labels"
            )
    return [index_of[label] for label in names if label is not None]


def _check_paired(mels: Mels, sample_rate: int, segment_length: int, augment: Augment, level: float | None) -> None:
    spec = mels.spec
    if level is not None:
        raise ConfigError(f"data.level is {level}, but the manifest names mels, which would not change; leave it out")
    if augment.share:
        raise ConfigError(
            f"data.augment.share is {augment.share}, but the manifest names mels ({mels.example}), which would not "
            "change with the audio; set it to 0"
        )
    if spec.sample_rate != sample_rate or segment_length % spec.hop_length:
        raise ConfigError(
            f"segments of {segment_length} samples at {sample_rate} Hz are not whole frames of the mels that the "
            f"manifest names, {spec.hop_length} samples at {spec.sample_rate} Hz; make data.segment_length (and "
            "valid_segment_length) a multiple"
        )
