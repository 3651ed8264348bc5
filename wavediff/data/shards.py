"""A corpus in shards, by litdata: files of a bounded size in a folder or in object storage.

A shard is one of litdata's chunks. Each record has a field, int16 (n,), named "samples at 22050 Hz": a corpus keeps
its rate with its samples. Where mels are written too, the samples are cut to whole frames, int16 (frames, hop_length),
and beside them is "mel {...}", float32 (frames, n_mels), named by its dialect. `index.json` says where each utterance
lies and how long it is. `labels.json`, where every utterance has a label, is a list of them, written last.

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
from wavediff.data.manifest import Skipped, Utterance
from wavediff.data.packed import SCALE, DecodedCorpus, PackedAudio, check_labels, quantised
from wavediff.data.paired import PairedMels
from wavediff.errors import AudioError, DataError, MelError, OutputError, require_packages
from wavediff.files import write_text
from wavediff.mel import MelSpec
from wavediff.places import check_endpoint, is_remote, place

SHARD_BYTES = "64MB"
LABELS = "labels.json"
_FIELD = re.compile(r"samples at (\d+) Hz")


def write_shards(
    path: str,
    utterances: Sequence[Utterance],
    sample_rate: int,
    *,
    mel_spec: MelSpec | None = None,
    processes: int = 1,
    overwrite: bool = False,
    shard_bytes: str = SHARD_BYTES,
) -> tuple[list[Utterance], list[Skipped]]:
    """Decode `utterances` into shards, in several processes; the memory of each stays flat however large the corpus.

    Args:
        path: a folder, or "s3://bucket/corpus" at the endpoint and with the keys that the environment names.
        utterances: to write; they keep their order.
        sample_rate: of the shards [Hz].
        mel_spec: dialect of the mels that all utterances name, to write them too; None leaves them out.
        processes: that decode at the same time.
        overwrite: replace a corpus that is there.
        shard_bytes: size of a shard, as "64MB".

    Returns:
        The utterances that were written, in order, and the files that could not be decoded.

    Raises:
        MissingExtraError: litdata is not installed.
        OutputError: a corpus is there and `overwrite` is false, or the shards cannot be written.
        DataError: the mels are of another rate than the shards.
    """
    if mel_spec is not None and mel_spec.sample_rate != sample_rate:
        what = f"shards of {sample_rate} Hz hold no mels of {mel_spec.sample_rate} Hz"
        raise DataError(f"{path}: {what}; write them at that rate")
    require_packages(["litdata"], "shards", f"{path}: writing shards")
    from litdata import TemporalArrayLoader, optimize

    labels_file = place(path) / LABELS
    if overwrite and isinstance(labels_file, Path):  # in object storage litdata removes all that is there
        labels_file.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes.jsonl"
        notes.touch()
        method = multiprocessing.get_start_method(allow_none=True)  # litdata sets it for the whole process
        try:
            optimize(
                functools.partial(_records, sample_rate=sample_rate, mel_spec=mel_spec, notes=notes),
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
    written = [utterance for utterance in utterances if str(utterance.path) not in reasons]
    labels = [utterance.label for utterance in written]
    if None not in labels:
        write_text(labels_file, json.dumps(labels), overwrite=True)
    return written, skipped


def _records(utterance: Utterance, *, sample_rate: int, mel_spec: MelSpec | None, notes: Path) -> Any:
    """The record of an utterance; none, and a note, of a file that cannot be decoded."""
    note: dict[str, Any] = {}
    try:
        waveform, _ = read_audio(utterance.path, sample_rate)
        mel = None if mel_spec is None else PairedMels([utterance], mel_spec).whole(0)
    except (AudioError, DataError, MelError) as error:
        note = {"path": str(utterance.path), "reason": str(error)}
    else:
        samples, beyond = quantised(waveform)
        if mel is not None and mel_spec is not None:
            hop, frames = mel_spec.hop_length, mel.shape[1]
            samples = samples[: hop * frames].reshape(frames, hop)
            name = f"mel {json.dumps(mel_spec.to_dict())}"
            yield {f"samples at {sample_rate} Hz": samples, name: mel.T.contiguous().numpy()}
        else:
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
            first = self._open().read_window(0, 0, 1)
            self._samples, *mels = first
            self.sample_rate = int(_FIELD.fullmatch(self._samples)[1])  # type: ignore[index]
            self._hop = first[self._samples].size  # samples of a row
            if mels:
                (self._mel,) = mels
                self.mel_spec = MelSpec.from_dict(json.loads(self._mel.removeprefix("mel ")))
            labels = place(self.path) / LABELS
            if labels.exists():
                with labels.open("rb") as file:
                    self.labels = json.loads(file.read())
        except Exception as error:  # litdata lets through whatever its backends raise
            reason = " ".join(str(error).split())
            raise DataError(
                f"{path}: not a corpus in shards ({type(error).__name__}: {reason}); `wavediff prepare --shards` "
                "writes one"
            ) from error
        check_labels(self.labels, self)

    def __len__(self) -> int:
        return len(self._lengths)

    def frames(self, index: int) -> int:
        return int(self._lengths[index]) * self._hop

    def read(self, index: int, start: int, frames: int) -> Tensor:
        frames = min(frames, self.frames(index) - start)
        first, last = start // self._hop, -(-(start + frames) // self._hop)
        rows = self._rows(self._samples, index, first, last - first)
        return rows.reshape(-1)[start - first * self._hop :][:frames].float() / SCALE

    def read_mel(self, index: int, start: int, frames: int) -> Tensor:
        return self._rows(self._mel, index, start, frames).T

    def _rows(self, field: str, index: int, start: int, count: int) -> Tensor:
        try:
            (rows,) = self._open().read_window(int(index), start, count, [field]).values()
        except Exception as error:
            reason = " ".join(str(error).split())
            raise AudioError(
                f"{self.path}, utterance {index}: cannot be read ({reason}); write the shards again"
            ) from error
        return torch.from_numpy(rows)

    def _open(self) -> Any:
        if self._shards is None:
            from litdata import StreamingDataset, TemporalArrayLoader

            cache = os.environ.get("LITDATA_CACHE_DIR")  # takes the index of what is in object storage
            self._shards = StreamingDataset(self.path, cache, TemporalArrayLoader())
        return self._shards

    def __getstate__(self) -> dict[str, Any]:
        # Open maps and connections do not travel to a worker process; they are opened there anew.
        return self.__dict__ | {"_shards": None}


def open_decoded(path: str) -> DecodedCorpus | None:
    """The corpus that was decoded beforehand into a file or into shards; None of a manifest, or of what is none.

    Raises:
        DataError, MissingExtraError: as `PackedAudio` and `ShardedAudio`.
    """
    if Path(path).suffix == ".safetensors":
        return PackedAudio(path)
    return ShardedAudio(path) if is_remote(path) or Path(path).is_dir() else None
