"""`wavediff export`: which options lead to which file, and what is refused."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sounds import small_generator
from vocoders import untrained

from wavediff.backbones import DiffWaveConfig
from wavediff.cli.main import main
from wavediff.diffusion import Plan
from wavediff.exporting import FACTS
from wavediff.mel import MelSpec
from wavediff.models.checkpoint import load_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.pipelines.vocoder import Vocoder

CONFIG = ModelConfig(DiffWaveConfig(channels=4, layers=1, dilation_cycle=1), mel=MelSpec.preset("hifigan"))


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return untrained(CONFIG)


@pytest.fixture
def model(vocoder: Vocoder, tmp_path: Path) -> str:
    path = tmp_path / "model.safetensors"
    vocoder.save(path)
    return str(path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the exporters are called with, instead of their work."""
    calls: list[dict[str, Any]] = []

    def recorder(name: str) -> Any:
        def export(vocoder: Vocoder, path: Path, what: str, plan: Plan | None, *, overwrite: bool) -> dict[str, str]:
            path.write_bytes(b"\0" * 1_500_000)
            calls.append({"name": name, "vocoder": vocoder, "what": what, "plan": plan, "overwrite": overwrite})
            return {"what": what, "draws": "2", "evaluations": "3"}

        return export

    for name in ("export_onnx", "export_torch"):
        monkeypatch.setattr(f"wavediff.exporting.{name}", recorder(name))
    return calls


@pytest.fixture
def training_checkpoint(vocoder: Vocoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One that trained_model reads as the vocoder."""
    weights = vocoder.denoiser.state_dict()
    facts = {"steps": 7}
    monkeypatch.setattr("wavediff.training.guards.trained_model", lambda path: (CONFIG, weights, facts))
    return str(tmp_path / "last.ckpt")


def test_a_program_of_torch_is_written_and_told_as_json(
    vocoder: Vocoder, model: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "vocoder.pt2"
    assert main(["export", model, "--format", "torch", "-o", str(path), "--num-steps", "1", "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    told = json.loads(captured.out)
    assert (told["output"], told["format"], told["bytes"]) == (str(path), "torch", path.stat().st_size)
    extra = {FACTS: ""}
    program = torch.export.load(path, extra_files=extra).module()
    assert json.loads(extra[FACTS]).items() <= told.items()
    mel, noise = torch.full((1, 80, 3), -5.0), torch.zeros(1, 1, 768)
    bound = vocoder.bind(mel)
    start = torch.tensor(vocoder.plan(1).times[:1], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(program(mel=mel, noise=noise), bound(noise[:, 0], start).clamp(-1, 1))


def test_a_step_is_written_as_onnx(model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("onnxscript", reason="the exporter is absent: pip install 'wavediff[onnx]'")
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "vocoder.onnx"
    assert main(["export", model, "--format", "onnx", "--what", "step", "-o", str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("MB, x_t, t, mel -> x_0\n")
    assert "tracing" in captured.err
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["x_t", "t", "mel"]
    assert [value.name for value in graph.output] == ["x_0"]


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_the_options_choose_the_plan(
    vocoder: Vocoder, model: str, tmp_path: Path, calls: list, capsys: pytest.CaptureFixture, form: str
) -> None:
    output = ["--format", form, "-o", str(tmp_path / f"vocoder.{'onnx' if form == 'onnx' else 'pt2'}")]
    assert main(["export", model, *output]) == 0
    assert "1.5 MB, mel, noise -> speech; 2 draws of noise, 3 evaluations" in capsys.readouterr().out
    assert main(["export", model, *output]) == 2
    output.append("--overwrite")
    assert (
        main(["export", model, *output, "--num-steps", "4", "--schedule", "quadratic", "--sampler", "ddim:eta=0.5"])
        == 0
    )
    assert main(["export", model, *output, "--schedule", "0.0001,0.01,0.2"]) == 0
    assert main(["export", model, *output, "--what", "step"]) == 0
    assert {call["name"] for call in calls} == {f"export_{form}"}
    assert [call["what"] for call in calls] == ["sampler"] * 3 + ["step"]
    assert [call["overwrite"] for call in calls] == [False, True, True, True]
    assert [call["plan"] for call in calls] == [
        vocoder.plan(),
        vocoder.plan(4, "quadratic", "ddim:eta=0.5"),
        vocoder.plan(None, [0.0001, 0.01, 0.2]),
        None,
    ]


def test_without_a_checkpoint_it_is_the_bundled_vocoder(tmp_path: Path, calls: list) -> None:
    assert main(["export", "--format", "onnx", "-o", str(tmp_path / "vocoder.onnx")]) == 0
    assert calls[0]["vocoder"].config == Vocoder.from_pretrained(device="cpu").config


def test_a_training_checkpoint_becomes_any_of_the_three(
    vocoder: Vocoder, training_checkpoint: str, tmp_path: Path, calls: list, capsys: pytest.CaptureFixture
) -> None:
    assert main(["export", training_checkpoint, "--format", "onnx", "-o", str(tmp_path / "vocoder.onnx")]) == 0
    exported = calls[0]["vocoder"].denoiser
    assert not exported.training
    for name, weight in vocoder.denoiser.state_dict().items():
        assert torch.equal(exported.state_dict()[name], weight), name
    capsys.readouterr()
    path = tmp_path / "again.safetensors"
    assert main(["export", training_checkpoint, "-o", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"output": str(path), "format": "model", "bytes": path.stat().st_size, "steps": 7}
    assert load_checkpoint(path).config == CONFIG
    assert main(["export", training_checkpoint, "-o", str(path), "--overwrite"]) == 0
    assert capsys.readouterr().out == f"{path}: {path.stat().st_size / 1e6:.1f} MB, after 7 steps\n"


ONNX = ["--format", "onnx"]
REFUSED = {
    "nothing to export": (["-o", "out.safetensors"], "CHECKPOINT"),
    "half": (["{model}", *ONNX, "-o", "out.onnx", "--half"], "--half: is for model files, not for --format onnx"),
    "what of a model": (["{model}", "-o", "out.safetensors", "--what", "step"], "--what: a model file holds"),
    "steps of a model": (["{model}", "-o", "out.safetensors", "--num-steps", "2"], "--num-steps: a model file holds"),
    "sampler of a step": (["{model}", *ONNX, "-o", "out.onnx", "--what", "step", "--sampler", "ddim"], "--sampler: a"),
    "no such sampler": (["{model}", *ONNX, "-o", "out.onnx", "--sampler", "best"], "best"),
    "too many steps": (["{model}", *ONNX, "-o", "out.onnx", "--num-steps", "51"], "51"),
    "another name": (["{model}", *ONNX, "-o", "out.pt2"], "out.pt2: a file of this format ends in .onnx"),
    "another name of torch's": (["{model}", "--format", "torch", "-o", "out.onnx"], "ends in .pt2"),
    "already there": (["{model}", *ONNX, "-o", "kept.onnx"], "kept.onnx: already exists"),
    "no such file": (["missing.safetensors", *ONNX, "-o", "out.onnx"], "missing.safetensors"),
    "a generator": (["{generator}", *ONNX, "-o", "out.onnx"], "takes no mel"),
    "classes": (["{labelled}", *ONNX, "-o", "out.onnx"], "without labels"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str],
    message: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept.onnx").write_bytes(b"mine")
    small_generator("latent").save(tmp_path / "generator.safetensors")
    labelled = dataclasses.replace(CONFIG, labels=("calm", "loud"))
    Vocoder(labelled, build_denoiser(labelled)).save(tmp_path / "labelled.safetensors")
    before = sorted(tmp_path.iterdir())
    names = {"model": model, "generator": "generator.safetensors", "labelled": "labelled.safetensors"}
    assert main(["export", *(argument.format(**names) for argument in arguments), "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("wavediff export: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert sorted(tmp_path.iterdir()) == before
    assert Path("kept.onnx").read_bytes() == b"mine"


def test_a_missing_exporter_is_one_line(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", model, *ONNX, "-o", str(tmp_path / "out.onnx"), "--quiet"]) == 2  # fault 84
    assert capsys.readouterr().err.endswith("needs onnxscript: pip install 'wavediff[onnx]'\n")
