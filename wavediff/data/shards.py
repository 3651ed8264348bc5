"""A corpus in shards, by litdata: files of a bounded size in a folder or in object storage.

A shard is one of litdata's chunks. Each record has one field, int16 (n,), named "samples at 22050 Hz": a corpus keeps
its rate with its samples. `index.json`, written last, says where each utterance lies and how long it is.

A segment is read as a range of bytes, from a memory map or by one request. So nothing is kept but the index, and the
order of a run is that of `ResumableBatchSampler`: it does not depend on the shards, nor on who reads them.
"""

import functools
import json
import multiprocessing
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavediff.audio import read_audio
from wavediff.data.decoded import SCALE, DecodedCorpus, quantised
from wavediff.data.manifest import Skipped, Utterance
from wavediff.errors import AudioError, DataError, OutputError, require_packages
from wavediff.places import check_endpoint, is_remote

SHARD_BYTES = "64MB"
_FIELD = re.compile(r"samples at (\d+) Hz")


def write_shards(
    path: str,
    utterances: Sequence[Utterance],
    sample_rate: int,
    *,
    processes: int = 1,
    overwrite: bool = False,
    shard_bytes: str = SHARD_BYTES,
) -> tuple[list[Utterance], list[Skipped]]:
    """Decode `utterances` into shards, in several processes; the memory of each stays flat however large the corpus.

    Args:
        path: a folder, or "s3://bucket/corpus" at the endpoint and with the keys that the environment names.
        utterances: to write; they keep their order.
        sample_rate: of the shards [Hz].
        processes: that decode at the same time.
        overwrite: replace a corpus that is there.
        shard_bytes: size of a shard, as "64MB".

    Returns:
        The utterances that were written, in order, and the files that could not be decoded.

    Raises:
        MissingExtraError: litdata is not installed.
        OutputError: a corpus is there and `overwrite` is false, or the shards cannot be written.
    """
    require_packages(["litdata"], "shards", f"{path}: writing shards")
    from litdata import TemporalArrayLoader, optimize

    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes.jsonl"
        notes.touch()
        method = multiprocessing.get_start_method(allow_none=True)  # litdata sets it for the whole process
        try:
            optimize(
                functools.partial(_records, sample_rate=sample_rate, notes=notes),
                list(utterances),
                path,
                num_workers=min(processes, len(utterances)),
                chunk_bytes=shard_bytes,
                item_loader=TemporalArrayLoader(),
                mode="overwrite" if overwrite else None,
                keep_data_ordered=True,
                reorder_files=False,
                start_method="spawn",
                verbose=False,
            )
        except Exception as error:  # those of its processes and of its backends are of no common kind
            reason = " ".join(str(error).split())
            cure = "choose another folder, pass --overwrite, or check space, keys and permissions"
            raise OutputError(f"{path}: the shards could not be written ({reason}); {cure}") from error
        finally:
            multiprocessing.set_start_method(method, force=True)
        rows = [json.loads(line) for line in notes.read_text(encoding="ascii").splitlines()]
    if beyond := sum(row.get("beyond", 0) for row in rows):
        warnings.warn(f"{path}: {beyond} samples beyond +-1 were clipped", stacklevel=2)
    reasons = {row["path"]: row["reason"] for row in rows if "reason" in row}
    skipped = [Skipped(u.path, reasons[str(u.path)]) for u in utterances if str(u.path) in reasons]
    return [utterance for utterance in utterances if str(utterance.path) not in reasons], skipped


def _records(utterance: Utterance, *, sample_rate: int, notes: Path) -> Any:
    """The record of an utterance; none, and a note, of a file that cannot be decoded."""
    note: dict[str, Any] = {}
    try:
        waveform, _ = read_audio(utterance.path, sample_rate)
    except AudioError as error:
        note = {"path": str(utterance.path), "reason": str(error)}
    else:
        samples, beyond = quantised(waveform)
        yield {f"samples at {sample_rate} Hz": samples}
        note = {"beyond": beyond} if beyond else {}
    if note:
        with notes.open("a", encoding="ascii") as file:  # in one piece, because several processes may be writing
            file.write(json.dumps(note) + "\n")


class ShardedAudio(DecodedCorpus):
    """A corpus of `write_shards`.

    Raises:
        MissingExtraError: litdata is not installed.
        ConfigError: the endpoint of object storage is not encrypted.
        DataError: no shards are there, or not those of a corpus.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        require_packages(["litdata"], "shards", f"{path}: reading shards")
        if is_remote(path):
            check_endpoint()
        self._shards: Any = None
        try:
            self._lengths = torch.tensor(self._open().frame_counts, dtype=torch.int64)
            (field,) = self._open().read_window(0, 0, 1)
            self.sample_rate = int(_FIELD.fullmatch(field)[1])  # type: ignore[index]
        except Exception as error:  # litdata lets through whatever its backends raise
            reason = " ".join(str(error).split())
            raise DataError(
                f"{path}: not a corpus in shards ({type(error).__name__}: {reason}); `wavediff prepare --shards` "
                "writes one, its index.json last"
            ) from error

    def __len__(self) -> int:
        return len(self._lengths)

    def frames(self, index: int) -> int:
        return int(self._lengths[index])

    def read(self, index: int, start: int, frames: int) -> Tensor:
        frames = min(frames, self.frames(index) - start)
        try:
            (samples,) = self._open().read_window(int(index), start, frames).values()
        except Exception as error:
            reason = " ".join(str(error).split())
            raise AudioError(
                f"{self.path}, utterance {index}: cannot be read ({reason}); write the shards again"
            ) from error
        return torch.from_numpy(samples).float() / SCALE

    def _open(self) -> Any:
        if self._shards is None:
            from litdata import StreamingDataset, TemporalArrayLoader

            cache = os.environ.get("LITDATA_CACHE_DIR")  # takes the index of what is in object storage
            self._shards = StreamingDataset(self.path, cache, TemporalArrayLoader())
        return self._shards

    def __getstate__(self) -> dict[str, Any]:
        # Open maps and connections do not travel to a worker process; they are opened there anew.
        return self.__dict__ | {"_shards": None}
