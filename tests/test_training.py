"""Training with Lightning on real speech: it learns, resumes exactly, and every shipped recipe runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from wavediff.backbones import DiffWaveConfig
from wavediff.cli.main import main
from wavediff.errors import CheckpointError, OutputError
from wavediff.models.checkpoint import load_checkpoint
from wavediff.training.guards import AtomicCheckpointIO, load_training_checkpoint

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parent.parent
SPEECH = ("libritts", "ljspeech", "universal", "vctk")  # others: test_sound_recipes.py, test_recipes_finetune.py
RECIPES = sorted(path for corpus in SPEECH for path in (REPOSITORY / "recipes" / corpus).glob("*.yaml"))
SMALL = REPOSITORY / "recipes" / "ljspeech" / "diffwave_small.yaml"
TINY = ["--model.backbone.channels=4", "--model.backbone.layers=3", "--model.backbone.dilation_cycle=3"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@pytest.fixture(scope="module")
def manifests(ljspeech: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that point a recipe at the prepared corpus."""
    folder = tmp_path_factory.mktemp("ljspeech")
    assert main(["prepare", "ljspeech", str(ljspeech), "-o", str(folder), "--quiet"]) == 0
    return [f"--data.train_manifest={folder / 'train.jsonl'}", f"--data.valid_manifest={folder / 'valid.jsonl'}"]


def options(manifests: list[str], root: Path, max_steps: int, **more: object) -> list[str]:
    """A run of seconds: 165 training clips in batches of 20 are 8 steps an epoch."""
    values = {
        "trainer.max_steps": max_steps,
        "trainer.default_root_dir": root,
        "trainer.precision": "32-true",
        "trainer.accelerator": "cpu",
        "trainer.log_every_n_steps": 1,
        "trainer.limit_val_batches": 1,
        "data.segment_length": 2048,
        "data.batch_size": 20,
        "data.repeats": 1,
        "data.num_workers": 0,
    } | more
    return [*manifests, *TINY, *QUIET, *(f"--{key}={value}" for key, value in values.items())]


def scalars(path: Path, tag: str) -> list:
    """What TensorBoard shows of a run's folder, or of one of its files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(path)).Reload().Scalars(tag)


def train(manifests: list[str], root: Path, max_steps: int, *extra: str, **more: object) -> None:
    assert main(["train", "--config", str(SMALL), *options(manifests, root, max_steps, **more), *extra]) == 0


def tensors(state: object, at: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a training checkpoint by its place in it."""
    if isinstance(state, torch.Tensor):
        return {at: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {name: tensor for key, value in items for name, tensor in tensors(value, f"{at}/{key}").items()}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_runs_for_a_step(
    recipe: Path, manifests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = recipe.stem.endswith("adversarial")  # with the network of a file
    small = [] if recipe == SMALL or goes_on else ["--model.backbone.layers=2"]  # the width is the recipe's
    monkeypatch.chdir(REPOSITORY)  # where files that recipes name are found
    values = [
        f"--trainer.default_root_dir={tmp_path}",
        "--trainer.max_steps=1",
        "--trainer.limit_train_batches=1",
        "--trainer.limit_val_batches=1",
        "--trainer.val_check_interval=null",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.num_sanity_val_steps=0",
        "--trainer.accelerator=cpu",
        "--trainer.devices=1",
        "--trainer.precision=32-true",
        "--data.batch_size=1",
        "--data.num_workers=0",
        f"--data.segment_length={3840 if recipe.stem == 'adapter' else 2048}",  # whole frames
    ]
    inverts = recipe.stem in ("inversion", "adapter")  # all that learns is small, and is not compiled
    network = [] if inverts else ["--model.compile=false", *small]
    assert main(["train", "--config", str(recipe), *manifests, *QUIET, *network, *values]) == 0
    facts = load_checkpoint(tmp_path / "last.safetensors").facts
    assert facts["steps"] == 1
    assert facts["valid_loss"] is not None


@pytest.mark.parametrize(
    ("name", "channels", "layers", "num_steps"),
    [("diffwave_base", 64, 30, 50), ("diffwave_large", 128, 30, 200), ("diffwave_small", 32, 20, 50)],
)
def test_the_recipes_have_the_sizes_they_are_named_for(name: str, channels: int, layers: int, num_steps: int) -> None:
    import yaml

    model = yaml.safe_load((SMALL.parent / f"{name}.yaml").read_text())["model"]["init_args"]
    backbone, schedule = (model[part]["init_args"] for part in ("backbone", "schedule"))
    assert (backbone["channels"], backbone["layers"], schedule["num_steps"]) == (channels, layers, num_steps)


def test_the_loss_falls_and_the_exported_model_vocodes(
    manifests: list[str], ljspeech: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(manifests, tmp_path, 40, **{"model.learning_rate": 0.01, "model.warmup_steps": 5})
    events = EventAccumulator(str(tmp_path)).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert sum(losses[:5]) / 5 > 0.9
    assert sum(losses[-5:]) / 5 < 0.75
    tags = events.Tags()
    assert {"valid/loss", "valid/loss_at_t0.1", "valid/loss_at_t1.0"} <= set(tags["scalars"])
    assert {"clip0/reference", "clip0/synthesised"} <= set(tags["audio"])
    assert "clip0/spectrogram" in tags["images"]

    exported = tmp_path / "exported.safetensors"
    assert main(["export", str(tmp_path / "last.ckpt"), "-o", str(exported), "--half"]) == 0
    assert "after 40 steps" in capsys.readouterr().out
    clip = ljspeech / "wavs" / "LJ001-0002.wav"
    for model in (exported, tmp_path / "best.safetensors"):
        output = tmp_path / f"{model.stem}.wav"
        assert main(["vocode", str(clip), "-o", str(output), "--checkpoint", str(model), "--quiet"]) == 0
        assert output.exists()
    assert main(["info", str(tmp_path / "last.ckpt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["step"] == 40


def test_the_exported_weights_are_the_average_that_was_validated(manifests: list[str], tmp_path: Path) -> None:
    train(manifests, tmp_path, 8)
    state = load_training_checkpoint(tmp_path / "last.ckpt")
    exported = load_checkpoint(tmp_path / "last.safetensors").weights
    for name, tensor in exported.items():
        assert torch.equal(tensor, state["state_dict"][f"denoiser.{name}"])
    moved = [
        name for name in exported if not torch.equal(exported[name], state["current_model_state"][f"denoiser.{name}"])
    ]
    assert moved  # the average lags behind the raw weights


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stopped_in_mid_epoch_and_resumed_has_the_weights_of_an_uninterrupted_one(  # fault 53
    workers: int, manifests: list[str], tmp_path: Path
) -> None:
    """Bit for bit: weights, average, optimiser, schedule; stopped inside the second epoch of eight steps."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = {"data.num_workers": workers, "model.lr_scheduler": "constant"}
    train(manifests, whole, 20, **more)
    train(manifests, parts, 11, **more)
    first = set(parts.glob("events*"))
    train(manifests, parts, 20, "--ckpt_path=last", **more)
    (second,) = set(parts.glob("events*")) - first
    assert [event.step for event in scalars(second, "train/loss")] == list(range(11, 20))
    expected = load_training_checkpoint(whole / "last.ckpt")
    resumed = load_training_checkpoint(parts / "last.ckpt")
    assert resumed["global_step"] == expected["global_step"] == 20
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        left, right = tensors(expected[part]), tensors(resumed[part])
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left), part
    assert expected["lr_schedulers"] == resumed["lr_schedulers"]


def test_the_full_state_is_not_saved_after_the_average_has_taken_its_place(
    manifests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    recipe = SMALL.read_text()
    state = "    - class_path: wavediff.training.FullState\n      init_args: {every_n_steps: 200}\n"
    assert state in recipe
    turned = tmp_path / "turned.yaml"
    turned.write_text(recipe.replace(state, "") + state)
    assert main(["train", "--config", str(turned), *options(manifests, tmp_path / "run", 1)]) == 2
    assert "FullState before" in capsys.readouterr().err


def test_a_second_run_in_the_same_folder_and_a_resumption_of_nothing_are_refused(
    manifests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train(manifests, tmp_path, 1)
    again = ["train", "--config", str(SMALL), *options(manifests, tmp_path, 2)]
    assert main(again) == 2
    assert "--resume" in capsys.readouterr().err
    nothing = ["train", "--config", str(SMALL), *options(manifests, tmp_path / "none", 2), "--ckpt_path=last"]
    assert main(nothing) == 2
    assert "nothing to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        ((b"  accelerator: cpu", b"  accelerator: cp\xff"), "UnicodeDecodeError"),
        ((b"  accelerator: cpu", b"  accelerator: cqu"), "invalid accelerator name"),
    ],
)
def test_a_damaged_recipe_is_one_line(
    damage: tuple[bytes, bytes], cause: str, manifests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    recipe = SMALL.read_bytes()
    assert damage[0] in recipe
    (tmp_path / "damaged.yaml").write_bytes(recipe.replace(*damage))
    assert main(["train", "--config", str(tmp_path / "damaged.yaml"), *manifests]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("wavediff train: "))
    assert cause in line


def spawn(arguments: list[str], **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "wavediff.cli.main", "train", "--config", str(SMALL), *arguments],
        env=os.environ | environment,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_state_and_exits(  # fault 52
    signum: signal.Signals, status: int, manifests: list[str], tmp_path: Path
) -> None:
    process = spawn(options(manifests, tmp_path, 100_000))
    logs = lambda: list(tmp_path.glob("events*"))  # noqa: E731
    deadline = time.monotonic() + 120
    while not (logs() and logs()[0].stat().st_size > 3000) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    assert load_training_checkpoint(tmp_path / "last.ckpt")["global_step"] >= 1


def test_two_processes_train_as_one_with_the_same_global_batch(manifests: list[str], tmp_path: Path) -> None:
    curves = []
    for devices, batch_size in ((1, 20), (2, 10)):
        root = tmp_path / str(devices)
        more = {"trainer.devices": devices, "data.batch_size": batch_size, "trainer.num_sanity_val_steps": 0}
        strategy = ["--trainer.strategy=ddp"] if devices > 1 else []
        process = spawn([*options(manifests, root, 6, **more), *strategy], OMP_NUM_THREADS="1")
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        weights = load_training_checkpoint(root / "last.ckpt")["current_model_state"]
        curves.append((weights, [event.value for event in scalars(root, "train/loss")]))
    (one, one_losses), (two, two_losses) = curves
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=2e-5)
    # Each process logs the loss of its own half: the curves agree in level, the weights agree in value.
    assert one_losses == pytest.approx(two_losses, rel=0.1)


def test_accumulated_batches_train_as_the_whole_batch(manifests: list[str], tmp_path: Path) -> None:
    weights = []
    for accumulate, batch_size in ((1, 20), (2, 10)):
        root = tmp_path / str(accumulate)
        more = {"trainer.accumulate_grad_batches": accumulate, "data.batch_size": batch_size}
        train(manifests, root, 4, **more)
        weights.append(load_training_checkpoint(root / "last.ckpt")["state_dict"])
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-3, atol=2e-5)


def test_a_training_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, writer = tmp_path / "last.ckpt", AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1}, path)
    (tmp_path / ".last.ckpt.1.wavediff-tmp").write_bytes(b"left by a killed writer")

    def disk_full(state: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OutputError, match=r"last\.ckpt"):  # fault 50
        writer.save_checkpoint({"step": 2}, path)
    assert writer.load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_hostile_or_damaged_training_checkpoint_is_refused(tmp_path: Path) -> None:
    import zipfile

    class Canary:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return Path.touch, (tmp_path / "canary",)

    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": Canary()}, path)
    with pytest.raises(CheckpointError, match=r"x\.ckpt"):  # fault 38
        load_training_checkpoint(path)
    assert not (tmp_path / "canary").exists()
    torch.save({"a": torch.zeros(100)}, path)
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(tmp_path / "y.ckpt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match="compressed"):  # fault 39
        load_training_checkpoint(tmp_path / "y.ckpt")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CheckpointError, match=r"x\.ckpt"):  # fault 36
        load_training_checkpoint(path)


def test_the_default_backbone_of_the_recipes_is_the_papers_base() -> None:
    assert DiffWaveConfig() == DiffWaveConfig(channels=64, layers=30, dilation_cycle=10)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPUs")
def test_a_compiled_network_trains_and_exports_like_a_plain_one(manifests: list[str], tmp_path: Path) -> None:
    weights = []
    for compiled in ("false", "true"):
        root = tmp_path / compiled
        train(manifests, root, 2, **{"model.compile": compiled, "model.backbone.layers": 1, "data.batch_size": 4})
        weights.append(load_checkpoint(root / "last.safetensors").weights)
    assert weights[0].keys() == weights[1].keys()
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-3, atol=1e-5)


def test_training_can_start_from_a_model_file(
    manifests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train(manifests, tmp_path / "first", 2)
    model = tmp_path / "first" / "last.safetensors"
    # A learning rate that changes nothing shows the weights that training started from.
    still = {
        "model.init_from": model,
        "model.learning_rate": 1e-30,
        "trainer.callbacks": "[wavediff.training.ModelExport]",
    }
    train(manifests, tmp_path / "second", 1, **still)
    before, after = load_checkpoint(model), load_checkpoint(tmp_path / "second" / "last.safetensors")
    for name, weight in before.weights.items():
        torch.testing.assert_close(after.weights[name], weight, rtol=0, atol=1e-6)
    wider = options(manifests, tmp_path / "third", 1, **{"model.init_from": model, "model.backbone.channels": 8})
    capsys.readouterr()
    assert main(["train", "--config", str(SMALL), *wider]) == 2
    assert "wavediff train: model.init_from" in capsys.readouterr().err.splitlines()[-1]
