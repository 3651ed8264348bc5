"""What is wrong with a configuration is one line: the file or the option, the key, the cause and the cure."""

import re
from pathlib import Path

import pytest
import torch
from clips import write_manifests
from conftest import REPOSITORY

from wavediff.cli.main import main

RECIPE = REPOSITORY / "recipes" / "ljspeech" / "diffwave_small.yaml"

# What is changed in the recipe, and what is said of it.
FILES = {
    ("batch_size: 4", "batch_sise: 4"): "bad.yaml: data.batch_sise is no key .*did you mean data.batch_size",
    ("max_steps: 3200", "max_stepz: 3200"): "bad.yaml: trainer.max_stepz is no key .*did you mean trainer.max_steps",
    ("trainer:", "trainr:"): r"bad.yaml: trainr\.\w+ is no key .*did you mean trainer",
    ("channels: 32", "chanels: 32"): "bad.yaml: .*chanels is no key .*did you mean channels",
    ("warmup_steps: 200", "warmup_step: 200"): "bad.yaml: .*warmup_step is no key .*did you mean .*warmup_steps",
    ("learning_rate: 0.001", "learning_rate: fast"): "bad.yaml: .*learning_rate: expected float, got fast",
    ("batch_size: 4", "batch_size: four"): "bad.yaml: data.batch_size: expected int, got four",
    (
        "VocoderModule",
        "VocoderModul",
    ): "bad.yaml: class_path .*VocoderModul: .*did you mean wavediff.training.VocoderModule",
    ("data:\n", "data: [\n"): "bad.yaml: is no YAML .* line 1",
}
OPTIONS = {
    "--data.batch_sise=8": "--data.batch_sise.*: is no option .*did you mean data.batch_size",
    "--model.backbone.chanels=8": "options: chanels is no key .*did you mean channels",
    "--data.batch_size=x": "options: data.batch_size: expected int, got x",
    "--confg=x": "--confg.*: is no option .*did you mean config",
    "--model.learning_rat=1": "options: .*learning_rat is no key .*did you mean .*learning_rate",
    "--config=missing.yaml": "missing.yaml: no such file",
}


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["train", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()  # nothing of Lightning
    return line


@pytest.mark.parametrize("change", FILES)
def test_a_slip_in_a_recipe_is_one_line_with_file_key_and_cure(
    change: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = RECIPE.read_text(encoding="utf-8")
    assert change[0] in text
    Path("bad.yaml").write_text(text.replace(*change), encoding="utf-8")
    line = said(["--config", "bad.yaml"], capsys)
    assert re.search(FILES[change], line), line


@pytest.mark.parametrize("option", OPTIONS)
def test_a_slip_in_an_option_is_one_line(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = said(["--config", str(RECIPE), option], capsys)
    assert re.search(OPTIONS[option], line), line


def with_data(folder: Path) -> list[str]:
    train, valid = write_manifests(folder)
    return ["--data.train_manifest", train, "--data.valid_manifest", valid]


def test_without_data_one_line_is_said_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = with_data(tmp_path)
    before = set(tmp_path.rglob("*"))
    missing = said(["--config", str(RECIPE), *options[:2], "--data.valid_manifest", "gone.jsonl"], capsys)
    assert re.search("gone.jsonl: No such file.*`wavediff prepare` writes manifests", missing)
    assert set(tmp_path.rglob("*")) == before


def test_a_run_that_cannot_be_resumed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--config", str(RECIPE), *with_data(tmp_path), "--trainer.default_root_dir", "run"]
    assert re.search("last.ckpt: does not exist, nothing to resume", said([*options, "--resume"], capsys))
    Path("run/last.ckpt").touch()
    assert "run: holds a run already; go on with --resume" in said(options, capsys)


def test_a_command_without_a_recipe_and_one_for_a_device_that_is_not_there_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "data.train_manifest" in said([], capsys)
    if not torch.cuda.is_available():
        line = said(["--config", str(RECIPE), *with_data(tmp_path), "--trainer.accelerator", "gpu"], capsys)
        assert "trainer.accelerator" in line
        assert "choose cpu or auto" in line
