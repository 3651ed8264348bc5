"""Manifests: what is written comes back, and a bad line is named."""

import os
import shutil
from pathlib import Path

import pytest

from wavediff.data.manifest import Utterance, read_manifest, write_manifest
from wavediff.errors import DataError, OutputError


def test_manifest_gives_back_what_was_written_whatever_the_names(tmp_path: Path) -> None:
    names = ["plain.wav", "with space.wav", "-lead.wav", "zwei\nzeilen.wav", "日本.wav", os.fsdecode(b"\xff\xfe.wav")]
    utterances = [
        Utterance(tmp_path / name, 7.019546485260771, 22050, text="ü | \u2028 ends" if number else None, speaker="p1")
        for number, name in enumerate(names)
    ]
    write_manifest(tmp_path / "m.jsonl", utterances)
    assert read_manifest(tmp_path / "m.jsonl") == utterances  # fault 19


def test_manifest_moves_with_the_corpus_around_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "corpus" / "wavs" / "1.wav", tmp_path / "elsewhere" / "2.wav"
    write_manifest(tmp_path / "corpus" / "m.jsonl", [Utterance(path, 1.0, 8000) for path in (inside, outside)])
    shutil.move(tmp_path / "corpus", tmp_path / "moved")
    paths = [utterance.path for utterance in read_manifest(tmp_path / "moved" / "m.jsonl")]
    assert paths == [tmp_path / "moved" / "wavs" / "1.wav", outside]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "a list, not an object"),
        ('{"path": "a", "seconds": 1}', "has no 'sample_rate'"),
        ('{"path": "a", "seconds": NaN, "sample_rate": 8000}', "seconds is nan"),
        ('{"path": "a", "seconds": 0, "sample_rate": 8000}', "seconds is 0"),
        ('{"path": "a", "seconds": 1e400, "sample_rate": 8000}', "seconds is inf"),
        ('{"path": "a", "seconds": true, "sample_rate": 8000}', "seconds is True"),
        ('{"path": "a", "seconds": 1, "sample_rate": "8000"}', "sample_rate is '8000'"),
        ('{"path": 3, "seconds": 1, "sample_rate": 8000}', "path is 3"),
        ('{"path": "s3://b/a.wav", "seconds": 1, "sample_rate": 8000}', "path is the address 's3://b/a.wav'"),
        ('{"path": "a", "seconds": 1, "sample_rate": 8000, "speker": "x"}', "unknown key 'speker'"),
    ],
)
def test_a_bad_line_of_a_manifest_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"path": "a", "seconds": 1, "sample_rate": 8000}\n\n' + line + "\n")
    with pytest.raises(DataError, match=f"m.jsonl, line 3: .*{message}"):
        read_manifest(path)


def test_a_manifest_missing_empty_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for name, message in (("empty", "no utterance"), ("binary", "not UTF-8"), ("nowhere", "No such file")):
        with pytest.raises(DataError, match=f"{name}.jsonl.*{message}"):
            read_manifest(tmp_path / f"{name}.jsonl")


def test_a_manifest_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    first, second = ([Utterance(tmp_path / name, 1.0, 8000)] for name in "ab")
    write_manifest(tmp_path / "m.jsonl", first)
    with pytest.raises(OutputError, match="already exists"):
        write_manifest(tmp_path / "m.jsonl", second)
    assert read_manifest(tmp_path / "m.jsonl") == first
    write_manifest(tmp_path / "m.jsonl", second, overwrite=True)
    assert read_manifest(tmp_path / "m.jsonl") == second
