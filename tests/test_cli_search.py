"""`wavediff search`: what it writes, what `vocode` makes of it, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from test_search import make_vocoder, speech

from wavediff.audio import read_audio, write_audio
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.data.manifest import Utterance, write_manifest
from wavediff.diffusion import Plan
from wavediff.models.checkpoint import load_checkpoint
from wavediff.models.file import digest
from wavediff.pipelines.vocoder import Vocoder

FEW = ["--trials", "6", "--clips", "1", "--seconds", "0.5", "--budgets", "1,3", "--quiet", "--device", "cpu"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_vocoder("diffwave").save(tmp_path / "model.safetensors", half=True)
    (tmp_path / "held-out").mkdir()
    for seed in range(2):
        write_audio(tmp_path / "held-out" / f"{seed}.wav", speech(1.0, seed), 22050)
    return tmp_path


def found(folder: Path, *options: str) -> int:
    paths = [str(folder / "model.safetensors"), str(folder / "held-out"), "-o", str(folder / "out")]
    return main(["search", *paths, *FEW, *options])


def test_the_model_that_is_written_takes_the_plans_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "model.safetensors").read_bytes()
    assert found(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["evaluations", "sampler", "times"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "3"]
    assert (folder / "model.safetensors").read_bytes() == before
    out = folder / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "curve.json",
        "curve.png",
        "model.safetensors",
        "trials.jsonl",
    ]
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    curve = json.loads((out / "curve.json").read_text())
    assert [entry["evaluations"] for entry in curve["curve"]] == [1, 3]
    plans = [plan for _, plan in Vocoder.from_pretrained(out, "cpu").config.plans]
    assert [entry["sampler"] for entry in curve["curve"]] == [plan.sampler for plan in plans]
    assert [tuple(entry["times"]) for entry in curve["curve"]] == [plan.times for plan in plans]
    searched = Vocoder.from_pretrained(out, "cpu")
    assert searched.plan(3) == plans[1]
    assert searched.plan(2) == plans[1].resampled(2)
    assert searched.plan(6) == make_vocoder("diffwave").plan(6)
    assert searched.plan(3, sampler="ddim") == make_vocoder("diffwave").plan(3, sampler="ddim")

    source = folder / "held-out" / "0.wav"
    assert main(["vocode", str(source), "-o", str(folder / "a.wav"), "--checkpoint", str(out), "--num-steps", "3"]) == 0
    mel = searched.mel(*read_audio(source))
    expected = searched.with_plans([(3, plans[1])]).decode(mel, 3)[0]
    torch.testing.assert_close(read_audio(folder / "a.wav")[0], expected, rtol=0, atol=1e-4)


def test_info_tells_the_plans(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "planned.safetensors"
    make_vocoder("diffwave").with_plans([(3, Plan("heun", (0.9, 0.125, 0.0)))]).save(path)
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plans"] == {"3": "heun at 0.9 0.125"}


def test_weights_stay_as_they_are_and_half(folder: Path) -> None:
    assert found(folder, "--update") == 0
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert all(file.get_tensor(name).dtype == torch.float16 for name in file.keys())  # noqa: SIM118  not a dict
    updated, written = load_checkpoint(folder / "model.safetensors"), load_checkpoint(folder / "out/model.safetensors")
    assert digest(updated.weights, {}) == digest(written.weights, {})
    assert updated.config == written.config
    assert len(updated.config.plans) == 2
    assert updated.facts["search"]["metrics"] == ["mr_stft"]


def test_the_same_command_measures_nothing_twice(folder: Path) -> None:
    assert found(folder) == 0
    diary, curve = (folder / "out" / "trials.jsonl").read_bytes(), (folder / "out" / "curve.json").read_bytes()
    assert found(folder, "--json") == 0
    assert (folder / "out" / "trials.jsonl").read_bytes() == diary
    assert (folder / "out" / "curve.json").read_bytes() == curve


def test_a_model_that_no_search_wrote_is_not_replaced_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "out" / "model.safetensors"
    make_vocoder("spectral").save(path)
    before = path.read_bytes()
    assert found(folder) == 2
    assert "model.safetensors: already exists" in capsys.readouterr().err
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before
    assert found(folder, "--overwrite") == 0
    assert path.read_bytes() != before


def test_a_folder_with_another_search_is_refused_unless_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(folder) == 0
    assert found(folder, "--metric", "log_mel_l1") == 2
    assert "metrics" in capsys.readouterr().err
    assert found(folder, "--metric", "log_mel_l1", "--overwrite") == 0


def test_test_sets_and_other_bad_input_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(folder / "test.jsonl", [Utterance(folder / "held-out" / "0.wav", 1.0, 22050)])
    empty = folder / "empty"
    empty.mkdir()
    model = str(folder / "model.safetensors")
    for arguments, cause in (
        ([model, str(folder / "test.jsonl")], "is a test set"),
        ([model, str(empty)], "holds no recordings"),
        ([model, str(folder / "held-out"), "--budgets", "one"], "whole numbers"),
        ([model, str(folder / "held-out"), "--budgets", "51"], "1 to 50"),
        ([model, str(folder / "held-out"), "--metric", "beauty"], "beauty"),
        ([str(folder / "none.safetensors"), str(folder / "held-out")], "does not exist"),
        ([model, str(folder / "held-out"), "-o", model], "names a folder"),
    ):
        assert main(["search", *arguments[:2], "--quiet", "-o", str(folder / "o"), *arguments[2:]]) == 2
        err = capsys.readouterr().err
        assert cause in err, err
        assert err.count("\n") == 1


def test_plans_for_other_numbers_stay(tmp_path: Path) -> None:
    stored = ((1, Plan("ddim", (0.3, 0.0))), (5, Plan("ddim", (0.4, 0.2, 0.0))))
    vocoder = make_vocoder("spectral").with_plans(stored)
    path = tmp_path / "model.safetensors"
    vocoder.save(path)
    options = ["--budgets", "1", "--trials", "4", "--clips", "1", "--seconds", "1", "--draws", "1", "--minutes", ".1"]
    assert main(["search", str(path), str(CLIP), "-o", str(tmp_path / "found"), *options, "--quiet", "--update"]) == 0
    for written in (path, tmp_path / "found" / "model.safetensors"):
        plans = dict(load_checkpoint(written).config.plans)
        assert set(plans) == {1, 5}
        assert plans[5] == stored[1][1]
    curve = json.loads((tmp_path / "found" / "curve.json").read_text())["curve"]
    assert "stored" in curve[0]["references"]
