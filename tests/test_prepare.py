"""Corpora, the scan and `wavediff prepare`."""

import hashlib
import json
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import soundfile
from clips import write_clip

from wavediff.cli.main import main
from wavediff.data.corpora import CORPORA
from wavediff.data.corpora.folder import Folder
from wavediff.data.corpora.ljspeech import LJSpeech
from wavediff.data.manifest import Clip, read_manifest, scan
from wavediff.errors import AudioError, DataError


def write_ljspeech(root: Path, ids: list[str]) -> Path:
    for clip_id in ids:
        write_clip(root / "wavs" / f"{clip_id}.wav")
    lines = (f'{clip_id}|Dr. "A|Doctor "A of {clip_id}\n' for clip_id in ids)
    (root / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return root


def ids_by_split(clips: list[Clip]) -> dict[str, set[str]]:
    return {split: {clip.path.stem for clip in clips if clip.split == split} for split in ("train", "valid", "test")}


# LJ Speech


def test_ljspeech_follows_the_published_lists_of_its_folder(ljspeech: Path) -> None:
    splits = ids_by_split(LJSpeech(ljspeech).clips())
    listed = {name: set((ljspeech / f"{name}.txt").read_text().split()) for name in ("train", "test")}
    assert splits["test"] == listed["test"]
    assert splits["train"] | splits["valid"] == listed["train"]
    assert not splits["train"] & splits["valid"]
    assert len(splits["valid"]) == round(0.03 * len(listed["train"]))


def test_ljspeech_without_lists_tests_on_its_first_chapter_whole(tmp_path: Path) -> None:
    ids = [f"LJ{chapter:03}-{number:04}" for chapter in (1, 2, 3) for number in range(1, 21)]
    splits = ids_by_split(LJSpeech(write_ljspeech(tmp_path / "LJSpeech-1.1", ids)).clips())
    assert splits["test"] == set(ids[:20])
    lowest = sorted(ids[20:], key=lambda clip_id: hashlib.sha256(clip_id.encode()).hexdigest())[:4]
    assert splits["valid"] == set(lowest)
    assert splits["train"] == set(ids[20:]) - set(lowest)


def test_ljspeech_is_found_in_the_folder_it_was_unpacked_in(tmp_path: Path) -> None:
    write_ljspeech(tmp_path / "LJSpeech-1.1", [f"LJ002-{number:04}" for number in range(10)])
    assert len(LJSpeech(tmp_path).clips()) == 10


def test_ljspeech_gives_the_normalised_transcript_with_its_quotes(tmp_path: Path) -> None:
    root = write_ljspeech(tmp_path, [f"LJ002-{number:04}" for number in range(10)])
    assert LJSpeech(root).clips()[3].text == 'Doctor "A of LJ002-0003'


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("LJ002-0001\nLJ009-0009", "LJ002-0002", "LJ009-0009 is not in metadata.csv"),
        ("LJ002-0001", "LJ002-0001", "LJ002-0001 is in train.txt and in test.txt"),
    ],
)
def test_ljspeech_lists_that_disagree_are_refused(tmp_path: Path, train: str, test: str, message: str) -> None:
    root = write_ljspeech(tmp_path, [f"LJ002-{number:04}" for number in range(10)])
    (root / "train.txt").write_text(train)
    (root / "test.txt").write_text(test)
    with pytest.raises(DataError, match=message):
        LJSpeech(root).clips()


def test_a_folder_that_is_not_ljspeech_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metadata\.csv.*--download"):
        LJSpeech(tmp_path).clips()


def test_download_happens_only_when_asked_and_says_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def no_network(root: Path, download: bool) -> None:
        calls.append((root, download))
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchaudio.datasets.LJSPEECH", no_network)
    with pytest.raises(DataError, match="metadata"):
        LJSpeech(tmp_path).clips()
    assert not calls
    with pytest.raises(DataError, match=r"could not be downloaded.*Name or service not known"):
        LJSpeech(tmp_path, download=True).clips()
    assert calls == [(tmp_path, True)]


# Any folder


def test_folder_names_every_recording_once_and_the_first_level_is_the_speaker(tmp_path: Path) -> None:
    for name in ("a/1.wav", "a/deep/2.WAV", "b/3.flac", "4.ogg"):
        write_clip(tmp_path / name)
    for name in ("a/._1.wav", ".cache/5.wav", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)  # fault 21
    clips = Folder(tmp_path, valid_fraction=0, test_fraction=0).clips()
    assert {(str(clip.path.relative_to(tmp_path)), clip.speaker) for clip in clips} == {
        ("a/1.wav", "a"),
        ("a/deep/2.WAV", "a"),
        ("b/3.flac", "b"),
        ("4.ogg", None),
    }


def test_folder_splits_have_the_asked_size_and_do_not_move_when_clips_are_added(tmp_path: Path) -> None:
    def add(numbers: range) -> dict[str, set[str]]:
        for number in numbers:
            (tmp_path / f"{number}.wav").touch()
        return ids_by_split(Folder(tmp_path, valid_fraction=0.1, test_fraction=0.2).clips())

    before, after = add(range(500)), add(range(500, 1000))
    for split, size in (("train", 700), ("valid", 100), ("test", 200)):
        assert before[split] < after[split]
        assert abs(len(after[split]) - size) < 4 * (size * 0.9) ** 0.5  # binomial


def test_a_small_folder_still_has_a_clip_in_each_split(data_root: Path) -> None:
    splits = ids_by_split(Folder(data_root / "VCTK", valid_fraction=0.001, test_fraction=0.001).clips())
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [10, 1, 1]


def test_a_folder_with_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no audio file"):
        Folder(tmp_path).clips()
    with pytest.raises(AudioError, match="not a folder"):
        Folder(tmp_path / "nowhere").clips()
    with pytest.raises(DataError, match="sum below 1"):
        Folder(tmp_path, valid_fraction=0.7, test_fraction=0.3).clips()


# The scan


def test_scan_measures_real_recordings_as_soundfile_does(data_root: Path) -> None:
    paths = sorted((data_root / "LibriTTS").glob("*.flac"))
    splits, skipped = scan(Clip(path, "train") for path in paths)
    infos = [soundfile.info(path) for path in paths]
    assert not skipped
    assert [u.frames for u in splits["train"]] == [info.frames for info in infos]
    assert [u.sample_rate for u in splits["train"]] == [info.samplerate for info in infos]


def test_scan_leaves_broken_files_out_and_says_why(tmp_path: Path) -> None:
    clips = [Clip(write_clip(tmp_path / f"{number:02}.wav"), "train") for number in range(40)]
    clips[7].path.write_bytes(b"\x7fELF" + bytes(100))
    clips[9].path.write_bytes(clips[9].path.read_bytes()[:500])
    splits, skipped = scan(clips, skipped_path=tmp_path / "skipped.jsonl")
    assert len(splits["train"]) == 38
    rows = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(clips[7].path), str(clips[9].path)]
    assert [row["reason"] for row in rows] == [item.reason for item in skipped]


def test_scan_stops_when_more_than_five_percent_are_broken_and_still_lists_them(tmp_path: Path) -> None:
    clips = [Clip(write_clip(tmp_path / f"{number:02}.wav"), "train") for number in range(40)]
    for clip in clips[:3]:
        clip.path.unlink()
    with pytest.raises(DataError, match="3 of 40 files"):
        scan(clips, skipped_path=tmp_path / "skipped.jsonl")
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 3


def test_scan_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="names no audio file"):
        scan([])


# The command


def test_prepare_ljspeech_writes_what_training_reads(
    ljspeech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "ljspeech", str(ljspeech), "-o", str(tmp_path), "--quiet", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    splits = {split: read_manifest(tmp_path / f"{split}.jsonl") for split in ("train", "valid", "test")}
    assert {split: len(utterances) for split, utterances in splits.items()} == {"train": 165, "valid": 5, "test": 16}
    assert summary["sample_rates"] == {"22050": 186}
    assert summary["skipped"] == 0
    seconds = sum(soundfile.info(path).duration for path in (ljspeech / "wavs").iterdir())
    assert sum(summary[split]["hours"] for split in splits) == pytest.approx(seconds / 3600)
    assert (tmp_path / "skipped.jsonl").read_text() == ""
    assert splits["test"][0].text.startswith("Printing, in the only sense")  # type: ignore[union-attr]


def test_prepare_ends_before_the_work_when_an_output_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        write_clip(tmp_path / "in" / f"{number}.wav")
    command = ["prepare", "folder", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    shutil.rmtree(tmp_path / "in")  # not even looked at
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "already exists" in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    write_clip(tmp_path / "in" / "new.wav")
    for number in range(4):
        write_clip(tmp_path / "in" / f"{number}.wav")
    assert main([*command, "--overwrite"]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} != before


def test_prepare_pack_leaves_out_what_breaks_only_when_decoded(tmp_path: Path) -> None:
    for number in range(40):
        write_clip(tmp_path / "in" / f"{number:02}.wav")
    soundfile.write(tmp_path / "in" / "07.wav", np.full(800, np.nan), 8000, subtype="FLOAT")
    command = ["prepare", "folder", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--quiet", "--pack"]
    assert main(command) == 0
    manifests = [read_manifest(tmp_path / "out" / f"{split}.jsonl") for split in ("train", "valid", "test")]
    assert sum(map(len, manifests)) == 39
    (row,) = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    assert "NaN" in json.loads(row)["reason"]


def test_prepare_asks_for_a_rate_to_pack_at_when_the_clips_have_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        write_clip(tmp_path / "in" / f"{number}.wav", sample_rate=8000 if number % 2 else 16000)
    command = ["prepare", "folder", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--quiet"]
    assert main([*command, "--pack"]) == 2
    assert "8000, 16000 Hz" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--sample-rate", "8000"]) == 2
    assert "--pack" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--sample-rate", "8000", "--pack"]) == 0


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_corpus_of_the_registry_has_a_help_page(corpus: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["prepare", corpus, "--help"])
    assert stop.value.code == 0
    assert "ROOT" in capsys.readouterr().out


def test_a_failed_run_is_no_obstacle_to_the_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(8):
        soundfile.write(
            tmp_path / "clips" / f"{number}.wav", 0.1 * np.random.default_rng(number).normal(size=8000), 8000
        )
    (tmp_path / "clips" / "empty.wav").write_bytes(b"")
    for _ in range(2):
        assert main(["prepare", "folder", str(tmp_path / "clips"), "-o", str(tmp_path / "data"), "--quiet"]) == 2
        assert "cannot be used" in capsys.readouterr().err
    (tmp_path / "clips" / "empty.wav").unlink()
    assert main(["prepare", "folder", str(tmp_path / "clips"), "-o", str(tmp_path / "data"), "--quiet"]) == 0
