"""`wavediff evaluate`: what is matched, what is printed and written, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavediff.cli.main import main
from wavediff.metrics import METRICS

RATE = 22050
FAST = ["--metrics", "log_mel_l1,peak", "--quiet"]


def noise(path: Path, seed: int = 0, level: float = 0.1, rate: int = RATE, samples: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, level * np.random.default_rng(seed).uniform(-1, 1, samples), rate)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """ref/{a,b}.wav, ref/c.wav without a partner; syn/a.flac, syn/deep/b.wav at half the level, syn/d.wav alone."""
    for seed, name in enumerate(["a.wav", "b.wav", "c.wav"]):
        noise(tmp_path / "ref" / name, seed)
    noise(tmp_path / "syn" / "a.flac", 0)
    noise(tmp_path / "syn" / "deep" / "b.wav", 1, level=0.05)
    noise(tmp_path / "syn" / "d.wav", 3)
    (tmp_path / "syn" / "notes.txt").write_text("not audio")
    return str(tmp_path / "ref"), str(tmp_path / "syn")


def test_folders_are_matched_by_stem_and_summarised_as_json(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *folders, *FAST, "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert list(report["files"]) == ["a", "b"]
    assert report["files"]["a"] == pytest.approx({"log_mel_l1": 0, "peak": 0.1}, abs=1e-3)
    assert report["files"]["b"]["log_mel_l1"] == pytest.approx(np.log(2), rel=1e-3)
    assert report["summary"]["log_mel_l1"]["mean"] == pytest.approx(np.log(2) / 2, rel=1e-3)
    assert report["summary"]["log_mel_l1"]["count"] == 2
    assert report["metrics"]["log_mel_l1"]["unit"] == "nat"
    assert report["metrics"]["log_mel_l1"]["higher_is_better"] is False
    assert (report["only_reference"], report["only_synthesised"]) == (["c"], ["d"])
    assert "1 without a counterpart" in err
    assert ": c\n" in err
    assert ": d\n" in err
    assert "%|" not in err


def test_tables_go_to_stdout_and_the_same_json_to_a_file_that_is_not_overwritten(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out" / "figures.json"
    assert main(["evaluate", *folders, *FAST, "-o", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["utterance", "log_mel_l1", "peak"]
    assert [line.split()[0] for line in lines[1:3]] == ["a", "b"]
    assert lines[4].split()[:4] == ["metric", "unit", "mean", "sd"]
    before = output.read_bytes()
    assert json.loads(before)["summary"]["peak"]["count"] == 2
    assert main(["evaluate", *folders, *FAST, "-o", str(output), "--overwrite"]) == 0
    monkeypatch.setattr("wavediff.metrics.evaluate_files", lambda *_: pytest.fail("computed in vain"))
    assert main(["evaluate", *folders, *FAST, "-o", str(output)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_ids_choose_the_utterances(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("\ufeffb\r\n \r\nz\r\n", encoding="utf-8")
    assert main(["evaluate", *folders, *FAST, "--json", "--ids", str(ids)]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (list(report["files"]), report["only_reference"]) == (["b"], ["z"])
    assert ": z\n" in err
    assert ": c\n" not in err
    ids.write_text("c\n")
    assert main(["evaluate", *folders, *FAST, "--ids", str(ids)]) == 2
    ids.write_text(" \n")
    assert main(["evaluate", *folders, *FAST, "--ids", str(ids)]) == 2
    ids.write_bytes(b"\xff\xfe\x00a")
    assert main(["evaluate", *folders, *FAST, "--ids", str(ids)]) == 2
    assert main(["evaluate", *folders, *FAST, "--ids", str(tmp_path / "absent.txt")]) == 2


def test_two_files_are_a_pair_whatever_their_names(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    reference, synthesised = Path(folders[0]), Path(folders[1])
    assert main(["evaluate", str(reference / "a.wav"), str(synthesised / "d.wav"), *FAST, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["files"]) == ["a"]
    assert main(["evaluate", str(reference / "b.wav"), str(synthesised), *FAST, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["files"]) == ["b"]


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that refuses the command."""
    assert main(["evaluate", *argv, *FAST]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_different_sample_rates_are_refused_with_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise(tmp_path / "a.wav")
    noise(tmp_path / "b.wav", rate=24000)
    line = refusal([str(tmp_path / "a.wav"), str(tmp_path / "b.wav")], capsys)
    assert "22050 Hz" in line
    assert "24000 Hz" in line
    assert "b.wav" in line


def test_different_lengths_are_refused_before_anything_is_computed(
    folders: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(Path(folders[1]) / "c.wav", 2, samples=RATE - 1000)
    monkeypatch.setattr("wavediff.metrics.evaluate_files", lambda *_: pytest.fail("computed"))
    line = refusal([*folders], capsys)
    assert "c.wav" in line
    assert "22050 and 21050 samples" in line


def test_a_clip_too_short_for_a_metric_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rate, samples in ((RATE, 2000), (192000, 2500)):  # the second is too short only after resampling
        for name in ("a.wav", "b.wav"):
            noise(tmp_path / name, rate=rate, samples=samples)
        assert "b.wav: " in refusal([str(tmp_path / "a.wav"), str(tmp_path / "b.wav")], capsys)


def test_what_cannot_be_matched_or_read_is_refused_in_one_line(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    noise(tmp_path / "other" / "x.wav")
    (tmp_path / "text" / "a.wav").parent.mkdir()
    (tmp_path / "text" / "a.wav").write_text("this is no sound")
    assert "no file has the stem" in refusal([folders[0], str(tmp_path / "other")], capsys)
    assert "empty" in refusal([folders[0], str(tmp_path / "empty")], capsys)
    assert "absent" in refusal([folders[0], str(tmp_path / "absent")], capsys)
    assert "a.wav" in refusal([folders[0], str(tmp_path / "text")], capsys)  # fault 15
    noise(Path(folders[1]) / "deep" / "a.wav")
    assert "same stem" in refusal([*folders], capsys)


def test_an_unknown_metric_lists_the_known(folders: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *folders, "--metrics", "mcd,beauty"]) == 2
    err = capsys.readouterr().err
    assert "beauty" in err
    assert "mr_stft" in err


def test_without_the_extra_the_default_says_what_it_leaves_out_and_an_explicit_wish_fails(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = {metric: METRICS[metric].package for metric in ("stoi", "pesq", "visqol", "distillmos", "dnsmos")}
    for package in packages.values():
        monkeypatch.setitem(sys.modules, str(package), None)
    pair = [str(Path(folders[0]) / "a.wav"), str(Path(folders[1]) / "a.flac")]
    assert main(["evaluate", *pair, "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["left_out"] == packages
    assert report["files"]["a"]["noise_floor"] is None  # noise has no silence
    assert "mcd" in report["summary"]
    assert "pesq is left out" in err
    assert "pip install 'wavediff[eval]'" in err
    assert main(["evaluate", *pair, "--metrics", "mcd,pesq"]) == 2  # fault 84
    assert "pip install 'wavediff[eval]'" in capsys.readouterr().err
