"""A corpus in shards: what is written, what is read from a folder and from object storage, and what is refused."""

import importlib.util
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from clips import RATE, write_clips
from object_storage import served
from test_resume import fit, fit_with_stops

from wavediff.cli.main import main
from wavediff.data.dataset import SegmentDataset
from wavediff.data.manifest import Utterance
from wavediff.data.packed import PackedAudio, write_packed
from wavediff.data.shards import ShardedAudio, write_shards
from wavediff.errors import ConfigError, DataError, MissingExtraError, OutputError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("litdata") is None, reason="needs the extra shards")
COUNT = {"train": 21, "valid": 5}  # as those of clips.write_manifests


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and both splits of them in shards of a few clips each, and packed."""
    folder = tmp_path_factory.mktemp("shards")
    method = multiprocessing.get_start_method()
    for split, count in COUNT.items():
        clips = write_clips(folder / "clips" / split, count)
        processes = 2 if split == "train" else 1
        written, skipped = write_shards(str(folder / split), clips, RATE, processes=processes, shard_bytes="8KB")
        assert (written, skipped) == (clips, [])
        write_packed(folder / f"{split}.safetensors", clips, RATE)
    assert multiprocessing.get_start_method() == method  # litdata sets it
    return folder


@pytest.fixture(scope="module")
def bucket(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of both splits in object storage."""
    with served(tmp_path_factory.mktemp("storage"), "corpora"):
        import boto3

        client = boto3.client("s3")
        for split in COUNT:
            for path in (corpus / split).iterdir():
                client.upload_file(str(path), "corpora", f"ramps/{split}/{path.name}")
        yield "s3://corpora/ramps"


def both(folder: str | Path) -> tuple[str, str]:
    return f"{folder}/train", f"{folder}/valid"


def test_shards_hold_every_utterance_in_order_bit_for_bit(corpus: Path) -> None:
    shards, packed = ShardedAudio(corpus / "train"), PackedAudio(corpus / "train.safetensors")
    assert len(list((corpus / "train").glob("*.bin"))) > 4
    assert (len(shards), shards.sample_rate) == (len(packed), packed.sample_rate) == (21, RATE)
    for index in range(21):
        assert shards.frames(index) == packed.frames(index)
        for start, frames in ((0, 900), (37, 100), (850, 100)):
            assert torch.equal(shards.read(index, start, frames), packed.read(index, start, frames))
    data = [SegmentDataset(source, RATE, 300) for source in (shards, packed)]
    assert all(torch.equal(data[0][index]["waveform"], data[1][index]["waveform"]) for index in range(21))


@pytest.mark.parametrize(("storage", "workers"), [("folder", 0), ("bucket", 1)])
def test_a_run_from_shards_resumes_in_mid_epoch_as_if_it_was_not_interrupted(
    storage: str, workers: int, corpus: Path, bucket: str, tmp_path: Path
) -> None:
    source = both(corpus if storage == "folder" else bucket)
    packed = (str(corpus / "train.safetensors"), str(corpus / "valid.safetensors"))
    whole = fit(packed, max_steps=8)
    resumed = fit_with_stops(source, tmp_path, [("batch_end", 4)], num_workers=workers, max_steps=8)
    assert resumed == (whole.seen, whole.log_steps, whole.weight.item())


def test_of_object_storage_nothing_is_kept_but_the_index(corpus: Path, bucket: str) -> None:
    shards, here = ShardedAudio(f"{bucket}/train"), ShardedAudio(corpus / "train")
    assert all(torch.equal(shards.read(index, 5, 400), here.read(index, 5, 400)) for index in range(21))
    kept = {path.name for path in Path(os.environ["LITDATA_CACHE_DIR"]).rglob("*") if path.is_file()}
    assert kept == {"index.json", "index.json.lock"}


def test_prepare_writes_them_to_object_storage_and_notes_what_it_leaves_out(
    corpus: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(corpus / "clips" / "train", clips)
    data = (clips / "03.wav").read_bytes()
    (clips / "03.wav").write_bytes(data[:-100])  # its header is whole, so the scan takes it
    command = ["prepare", "folder", str(clips), "-o", str(tmp_path / "data"), "--shards", f"{bucket}/voice", "--json"]
    assert main([*command, "--valid-fraction", "0", "--test-fraction", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 1
    assert len(ShardedAudio(f"{bucket}/voice/train")) == 20
    manifest = (tmp_path / "data" / "train.jsonl").read_text().splitlines()
    assert len(manifest) == 20


def test_what_is_there_is_not_replaced(corpus: Path, tmp_path: Path) -> None:
    clips: list[Utterance] = write_clips(tmp_path, 2)
    shutil.copytree(corpus / "valid", tmp_path / "valid")
    with pytest.raises(OutputError, match=r"valid: the shards could not be written .*--overwrite"):
        write_shards(str(tmp_path / "valid"), clips, RATE)
    assert len(ShardedAudio(tmp_path / "valid")) == 5


@pytest.mark.long
def test_what_is_there_is_replaced_if_that_is_said(corpus: Path, tmp_path: Path) -> None:
    clips: list[Utterance] = write_clips(tmp_path, 2)
    shutil.copytree(corpus / "valid", tmp_path / "valid")
    write_shards(str(tmp_path / "valid"), clips, RATE, overwrite=True)
    assert len(ShardedAudio(tmp_path / "valid")) == 2


def test_a_shard_that_is_cut_costs_its_clips_and_then_the_run(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus / "train", tmp_path / "train")
    shard = sorted((tmp_path / "train").glob("*.bin"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1000])
    data = SegmentDataset(ShardedAudio(tmp_path / "train"), RATE, 300, skipped_path=tmp_path / "skipped.jsonl")
    with pytest.warns(
        UserWarning, match=r"skipped from now on.*train, utterance 20: cannot be read .*write the shards again"
    ):
        assert data[20]["index"] != 20
    with pytest.raises(DataError, match="files broke since the corpus was prepared"):
        [data[index] for index in range(21)]


def test_what_cannot_be_read_is_one_line(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="train: is packed at 8000 Hz, 22050 Hz are needed; prepare it again"):
        SegmentDataset(ShardedAudio(corpus / "train"), 22050, 100)
    shutil.copytree(corpus / "valid", tmp_path / "valid")
    (tmp_path / "valid" / "index.json").unlink()
    with pytest.raises(
        DataError, match=r"valid: not a corpus in shards .*prepare --shards` writes one, its index.json"
    ):
        ShardedAudio(tmp_path / "valid")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL: http://localhost:9000 is not encrypted; give it as https"):
        ShardedAudio("s3://corpora/x")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"reading shards needs litdata: pip install 'wavediff\[shards\]'"):
        ShardedAudio(corpus / "train")
