"""Text files as editors of Windows save them: a byte order mark in front, lines that end in CR LF."""

import json
from pathlib import Path

import pytest
from test_prepare import write_clip, write_ljspeech

from wavediff.data.corpora.ljspeech import LJSpeech
from wavediff.data.corpora.sc09 import DIGITS, SC09
from wavediff.data.corpora.sharing import transcript
from wavediff.data.manifest import read_manifest
from wavediff.metrics.recordings import read_ids

MARK = "\ufeff".encode()


def resave(path: Path) -> None:
    """Save a text file again as such an editor does."""
    path.write_bytes(MARK + path.read_bytes().replace(b"\n", b"\r\n"))


def test_metadata_with_a_mark_names_the_same_clips(tmp_path: Path) -> None:
    root = write_ljspeech(tmp_path, [f"LJ002-{number:04}" for number in range(10)])
    plain = LJSpeech(root).clips()
    resave(root / "metadata.csv")
    assert LJSpeech(root).clips() == plain


@pytest.mark.parametrize("names", [["train.txt"], ["test.txt"], ["train.txt", "test.txt"]])
def test_lists_with_a_mark_name_the_same_splits(tmp_path: Path, names: list[str]) -> None:
    ids = [f"LJ002-{number:04}" for number in range(10)]
    root = write_ljspeech(tmp_path, ids)
    (root / "train.txt").write_text("\n".join(ids[:8]) + "\n")
    (root / "test.txt").write_text("\n".join(ids[8:]) + "\n")
    plain = LJSpeech(root).clips()
    for name in names:
        resave(root / name)
    assert LJSpeech(root).clips() == plain


def test_the_lists_of_speech_commands_may_have_a_mark(tmp_path: Path) -> None:
    for digit in DIGITS:
        for speaker in ("a", "b", "c"):
            write_clip(tmp_path / digit / f"{speaker}_nohash_0.wav")
    (tmp_path / "validation_list.txt").write_text("".join(f"{digit}/a_nohash_0.wav\n" for digit in DIGITS))
    (tmp_path / "testing_list.txt").write_text("".join(f"{digit}/b_nohash_0.wav\n" for digit in DIGITS))
    plain = SC09(tmp_path).clips()
    resave(tmp_path / "validation_list.txt")
    resave(tmp_path / "testing_list.txt")
    assert SC09(tmp_path).clips() == plain


def test_a_mark_is_no_part_of_a_transcript(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One two.\n")
    resave(tmp_path / "a.txt")
    assert transcript(tmp_path / "a.txt") == "One two."


def test_a_manifest_may_have_a_mark(tmp_path: Path) -> None:
    row = json.dumps({"path": "a.wav", "seconds": 1.5, "sample_rate": 16000})
    (tmp_path / "train.jsonl").write_text(row + "\n" + row + "\n")
    plain = read_manifest(tmp_path / "train.jsonl")
    resave(tmp_path / "train.jsonl")
    assert read_manifest(tmp_path / "train.jsonl") == plain


def test_a_list_of_stems_may_have_a_mark(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\nb\n")
    resave(tmp_path / "ids.txt")
    assert read_ids(tmp_path / "ids.txt") == ["a", "b"]
