"""Corpora that are nearly right: headers, ids with extensions, folders of other formats."""

from pathlib import Path

import pytest
from test_prepare import write_ljspeech

from wavediff.data.corpora.folder import Folder
from wavediff.data.corpora.ljspeech import LJSpeech
from wavediff.errors import DataError

IDS = [f"LJ002-{number:04}" for number in range(10)]


@pytest.mark.parametrize("header", ["id|text|normalized", "file_name|text", "Path|Transcript"])
def test_a_header_is_left_out_and_said(tmp_path: Path, header: str) -> None:
    root = write_ljspeech(tmp_path, IDS)
    plain = LJSpeech(root).clips()
    metadata = root / "metadata.csv"
    metadata.write_text(f"{header}\n{metadata.read_text()}")
    with pytest.warns(UserWarning, match=r"metadata\.csv: its first line is taken for a header"):
        assert LJSpeech(root).clips() == plain


def test_a_clip_that_is_named_as_a_header_would_be_is_kept(tmp_path: Path) -> None:
    assert len(LJSpeech(write_ljspeech(tmp_path, ["audio", *IDS])).clips()) == 11


def test_ids_may_end_in_the_extension(tmp_path: Path) -> None:
    root = write_ljspeech(tmp_path, IDS)
    (root / "train.txt").write_text("".join(f"{name}.wav\n" for name in IDS[:8]))
    (root / "test.txt").write_text("".join(f"{name}\n" for name in IDS[8:]))
    plain = LJSpeech(root).clips()
    assert all(clip.path.exists() for clip in plain)
    metadata = root / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("|", ".wav|", 1))
    assert LJSpeech(root).clips() == plain


def test_a_folder_of_other_formats_is_counted_by_extension(tmp_path: Path) -> None:
    for name in ("a.m4a", "b/c.M4A", "d.opus", "._e.m4a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"no audio file .*\(2 of \.m4a, 1 of \.opus\); convert"):
        Folder(tmp_path).clips()


def test_an_empty_folder_is_said_to_hold_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no audio file .*; name the folder"):
        Folder(tmp_path).clips()
