"""What a run says where no progress bar can be drawn."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from runs import arguments, recipe

from wavediff.cli import train_progress
from wavediff.cli.main import main
from wavediff.models.checkpoint import load_checkpoint

EVERY_TWO = "--trainer.val_check_interval=2"


def lines(config: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """The lines about the progress of a run of four steps that validates after two and four."""
    capsys.readouterr()
    assert main(arguments(config, EVERY_TWO, *options)) == 0
    return [line for line in capsys.readouterr().err.splitlines() if re.match(r"wavediff train: \d+ of", line)]


def test_each_validation_is_a_line_with_its_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = lines(recipe(tmp_path), capsys, "--trainer.enable_progress_bar=true")
    number = r"(\d+(?:\.\d+)?(?:e[+-]\d+)?)"
    losses = f"train/loss {number}, valid/loss {number}"
    facts = f"{losses}, {number} steps/s"
    assert re.fullmatch(rf"wavediff train: 2 of 4 steps \(50%\), epoch 0, {facts}, \d\d:\d\d to go", first)
    assert second.startswith("wavediff train: 4 of 4 steps (100%), ")
    assert "to go" not in second
    loss = load_checkpoint(tmp_path / "run" / "last.safetensors").facts["valid_loss"]
    assert f"valid/loss {loss:.4f}" in second


def test_a_run_ends_with_its_model_and_what_to_do_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = recipe(tmp_path)
    assert main(arguments(config, "--trainer.max_steps=2")) == 0
    done, following = capsys.readouterr().out.splitlines()
    model = done.removeprefix("done after 2 steps; the model is ")
    assert Path(model).is_file()
    assert following == f"next: wavediff vocode recording.wav -o speech.wav --checkpoint {model}"
    assert main(arguments(config, "--resume", "--json")) == 0
    assert json.loads(capsys.readouterr().out) == {"steps": 4, "folder": str(tmp_path / "run"), "model": model}


@pytest.mark.parametrize("quiet", [True, False])
def test_the_table_of_the_model_and_each_fact_are_said_once_on_standard_error(quiet: bool, tmp_path: Path) -> None:
    """In a process of its own, as Lightning makes its loggers and chooses its table when it is first imported."""
    shown = [f"--trainer.enable_{name}=true" for name in ("model_summary", "progress_bar")]
    words = arguments(recipe(tmp_path), "--json", *shown, "--trainer.max_steps=1", *(["--quiet"] if quiet else []))
    run = subprocess.run(
        [sys.executable, "-m", "wavediff.cli.main", *words], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout)["steps"] == 1
    said = run.stderr
    assert "transfer_batch_to_device" not in said
    assert "already configured" not in said
    assert (said.count("GPU available"), said.count("Trainable params")) == ((0, 0) if quiet else (1, 1))
    assert not quiet or said == ""


def test_without_a_validation_time_brings_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_progress, "INTERVAL", 0.0)
    options = ["--trainer.enable_progress_bar=true", "--trainer.limit_val_batches=0"]
    steps = [line.split(",")[0] for line in lines(recipe(tmp_path), capsys, *options)]
    assert steps == [f"wavediff train: {step} of 4 steps ({step / 4:.0%})" for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_said_beside_a_bar_or_where_silence_was_asked_for(
    terminal: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    bar = str(terminal).lower()  # on a terminal the bar says it all; elsewhere it was turned off
    assert lines(recipe(tmp_path), capsys, f"--trainer.enable_progress_bar={bar}") == []
