"""A corpus in shards: what is written, what is read from a folder and from object storage, and what is refused."""

import dataclasses
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
from forks import forking
from object_storage import served
from test_paired_mels import HOP, SEGMENT, SPEC, prepare, write_corpus
from test_resume import fit, fit_with_stops

from wavediff.audio import read_audio
from wavediff.cli.main import main
from wavediff.data.datamodule import AudioDataModule
from wavediff.data.dataset import SegmentDataset
from wavediff.data.manifest import Utterance, read_manifest, write_manifest
from wavediff.data.packed import PackedAudio, write_packed
from wavediff.data.paired import DecodedMels, PairedMels
from wavediff.data.shards import ShardedAudio, write_shards
from wavediff.errors import ConfigError, DataError, MissingExtraError, OutputError
from wavediff.mel import MelSpec
from wavediff.training.module import labels_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("litdata") is None, reason="needs the extra shards"),
]
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
    with pytest.raises(DataError, match="train: holds 8000 Hz, 22050 Hz are needed; prepare it again"):
        SegmentDataset(ShardedAudio(corpus / "train"), 22050, 100)
    shutil.copytree(corpus / "valid", tmp_path / "valid")
    (tmp_path / "valid" / "index.json").unlink()
    with pytest.raises(DataError, match=r"valid: not a corpus in shards .*prepare --shards` writes one"):
        ShardedAudio(tmp_path / "valid")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL: http://localhost:9000 is not encrypted; give it as https"):
        ShardedAudio("s3://corpora/x")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"reading shards needs litdata: pip install 'wavediff\[shards\]'"):
        ShardedAudio(corpus / "train")


# Labels and mels


def test_clips_carry_their_labels_and_a_corpus_without_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "forkserver" in multiprocessing.get_all_start_methods():
        forking(monkeypatch)  # quick, but deaf to variables that are set later, such as the keys of storage
    clips = write_clips(tmp_path / "clips", 4)
    (tmp_path / "clips" / "02.wav").write_bytes(b"RIFF")
    labels = ["wood", "glass", "gone", "wood"]
    with_labels = [dataclasses.replace(clip, label=label) for clip, label in zip(clips, labels, strict=True)]
    written, skipped = write_shards(str(tmp_path / "s"), with_labels, RATE)
    assert (len(written), len(skipped)) == (3, 1)
    shards = ShardedAudio(tmp_path / "s")
    assert shards.labels == ["wood", "glass", "wood"]
    assert labels_of(str(tmp_path / "s")) == ("glass", "wood")
    dataset = SegmentDataset(shards, RATE, 100, labels=("glass", "metal", "wood"))
    assert [dataset[index]["label"] for index in range(3)] == [2, 0, 2]
    (tmp_path / "s" / "labels.json").write_text('["wood"]')
    with pytest.raises(DataError, match=r"s: its labels are not one name an utterance; write the corpus again"):
        ShardedAudio(tmp_path / "s")
    write_shards(str(tmp_path / "s"), clips[:1], RATE, overwrite=True)
    with pytest.raises(DataError, match=r"s, utterance 0: has no label, the model knows wood; prepare the corpus with"):
        SegmentDataset(ShardedAudio(tmp_path / "s"), RATE, 100, labels=("wood",))


def test_labels_and_mels_come_from_object_storage_as_they_were_paired(bucket: str, tmp_path: Path) -> None:
    write_corpus(tmp_path, 6, 40 * HOP + 77)
    shards = f"{bucket}/pairs"
    assert prepare(tmp_path, "--shards", shards, "--test-fraction", "0", "--valid-fraction", "0") == 0
    found = read_manifest(tmp_path / "data" / "train.jsonl")
    source = ShardedAudio(f"{shards}/train")
    assert (source.mel_spec, source.frames(0), source.labels) == (SPEC, 40 * HOP, None)
    manifest, held = PairedMels(found, SPEC), DecodedMels(source, SPEC)
    data = [
        SegmentDataset(kind, SPEC.sample_rate, SEGMENT, mels=mels) for kind, mels in ((found, manifest), (source, held))
    ]
    for index in range(len(found)):
        for item_seed in range(5):
            one, other = (of[index, item_seed] for of in data)
            assert one.keys() == other.keys()
            assert torch.equal(one["mel"], other["mel"])
            assert torch.equal(one["waveform"], other["waveform"])
    assert torch.equal(held.read(0, 30, 20), manifest.read(0, 30, 20))  # silence behind the end
    assert torch.equal(source.read(0, HOP - 3, 7), read_audio(found[0].path)[0][HOP - 3 : HOP + 4])

    def refused(error: type[Exception], message: str, valid: str, spec: MelSpec | None = SPEC) -> None:
        with pytest.raises(error, match=message):
            AudioDataModule(f"{shards}/train", valid, SPEC.sample_rate, SEGMENT, 1, mel_spec=spec).setup()

    refused(ConfigError, "names mels, the model takes none", f"{shards}/train", None)
    refused(
        DataError, "train: its mels are hifigan.*, needed is tacotron2", f"{shards}/train", MelSpec.preset("tacotron2")
    )
    plain = tmp_path / "plain.jsonl"
    write_manifest(plain, [dataclasses.replace(found[0], mel=None)])
    refused(ConfigError, "of the corpora to train and to validate on one has mels and the other none", str(plain))
    module = AudioDataModule(
        f"{shards}/train", str(tmp_path / "data" / "train.jsonl"), SPEC.sample_rate, SEGMENT, 1, mel_spec=SPEC
    )
    module.setup()
    assert module.valid_dataset[0]["mel"].shape == (80, 8)


def test_mels_of_another_rate_than_the_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shards of 8000 Hz hold no mels of 22050 Hz; write them at that rate"):
        write_shards(str(tmp_path / "s"), write_clips(tmp_path, 1), RATE, mel_spec=SPEC)


def test_a_corpus_in_shards_is_called_so_where_it_cannot_be_one_of_several(corpus: Path) -> None:
    module = AudioDataModule([str(corpus / "train"), "x.jsonl"], "y.jsonl", RATE, 300, 1)
    with pytest.raises(
        ConfigError, match=r"train: is packed or in shards, and such a corpus is trained on alone; give"
    ):
        module.setup()
