"""What a training run survives, and what ends it with one line: folders, kills, NaN, memory."""

import errno
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from runs import arguments, recipe
from torch import Tensor

from wavediff.backbones import DiffWaveConfig
from wavediff.cli.main import main
from wavediff.diffusion.losses import Loss
from wavediff.errors import TrainingError
from wavediff.models.checkpoint import load_checkpoint
from wavediff.training import AudioLogger, VocoderModule
from wavediff.training.guards import (
    LOCK,
    MAX_BAD_STEPS,
    keep_previous,
    load_training_checkpoint,
    memory_ran_out,
    occupied,
    state_to_resume,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:.*num_workers")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return recipe(tmp_path)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_training_checkpoint(folder / "last.ckpt")["state_dict"]


def refused(config: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The line of error of a run that ends in one."""
    capsys.readouterr()
    assert main(arguments(config, *options)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("wavediff train: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


# The folder of a run


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(  # fault 51
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VocoderModule, "training_step", lambda *_: pytest.fail("trained"))
    (tiny.parent / "file").touch()
    line = refused(tiny, capsys, f"--trainer.default_root_dir={tiny.parent / 'file'}")
    assert "cannot be written" in line
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to other users
        Path(folder).chmod(0o555)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            for root in (folder, f"{folder}/new"):
                assert "cannot be written" in refused_by_occupied(root)
        finally:
            if was_root:
                os.seteuid(0)
        Path(folder).chmod(0o755)


def refused_by_occupied(root: str) -> str:
    from wavediff.errors import OutputError

    with pytest.raises(OutputError) as caught, occupied(root):
        pass
    return str(caught.value)


def test_a_second_run_in_a_folder_is_refused_while_the_first_is_under_way(  # fault 62
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny.parent / "run"
    assert main(arguments(tiny, "--trainer.max_steps=1")) == 0  # leaves the file that is locked
    code = f"import fcntl, time\nfile = open({str(root / LOCK)!r}, 'a')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
    code += "print('held', flush=True)\ntime.sleep(300)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert "another run is under way there" in refused(tiny, capsys, "--ckpt_path=last")
    finally:
        holder.kill()  # and with it goes its hold
        holder.wait()
    assert main(arguments(tiny, "--ckpt_path=last", "--trainer.max_steps=2")) == 0
    assert lock_is_free_after(root)


def lock_is_free_after(root: Path) -> bool:
    code = f"import fcntl; fcntl.lockf(open({str(root / LOCK)!r}, 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", code]).returncode == 0


# Saved states

KILLED = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from wavediff.training.guards import AtomicCheckpointIO, load_training_checkpoint
path, rounds = sys.argv[1], int(sys.argv[2])
writer, state, newest = AtomicCheckpointIO(), torch.arange(300_000), 0
writer.save_checkpoint({"step": 0, "state": state}, path)
for number in range(rounds):
    child = os.fork()
    if child == 0:
        while True:
            newest += 1
            writer.save_checkpoint({"step": newest, "state": state + newest}, path)
    time.sleep(random.Random(number).uniform(0.005, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = load_training_checkpoint(path)
    assert found["step"] >= newest and torch.equal(found["state"], state + found["step"]), found["step"]
    newest = found["step"]
print(newest)
"""


def test_a_kill_while_saving_leaves_the_last_or_the_previous_state(tmp_path: Path) -> None:  # fault 49
    """Kills at any time; and `$TMPDIR`, where Lightning would write first, cannot be written at all."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "last.ckpt"), "40"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": "/dev/null"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_a_damaged_newest_state_is_left_out_loudly_for_the_one_before(  # fault 54
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny.parent / "run"
    assert main(arguments(tiny)) == 0  # saves after steps 2 and 4
    newest = root / "last.ckpt"
    assert load_training_checkpoint(root / "previous.ckpt")["global_step"] == 2
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    (root / ".last.ckpt.99.wavediff-tmp").write_bytes(whole[:1000])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert state_to_resume(newest) == root / "previous.ckpt"
    cut, damaged = (str(warning.message) for warning in caught)
    assert "a save of it was cut off and is left out" in cut
    assert "last.ckpt: " in damaged
    assert "going on from previous.ckpt" in damaged
    capsys.readouterr()
    assert main(arguments(tiny, "--ckpt_path=last", "--trainer.max_steps=3")) == 0
    assert "going on from previous.ckpt" in capsys.readouterr().err
    assert load_training_checkpoint(newest)["global_step"] == 3
    assert load_training_checkpoint(root / "previous.ckpt")["global_step"] == 2  # not the damaged one
    assert main(arguments(tiny, "--ckpt_path=last", "--trainer.max_steps=4")) == 0
    assert load_training_checkpoint(root / "previous.ckpt")["global_step"] == 3

    for name in ("last.ckpt", "previous.ckpt"):
        (root / name).write_bytes(whole[:1000])
    assert "previous.ckpt: " in refused(tiny, capsys, "--ckpt_path=last")  # and no start from zero
    for name in ("last.ckpt", "previous.ckpt"):
        (root / name).unlink()
    assert "nothing to resume" in refused(tiny, capsys, "--ckpt_path=last")


def test_a_previous_state_that_cannot_be_kept_is_warned_about(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"previous\.ckpt: could not be kept"):
        keep_previous(tmp_path / "nothing" / "last.ckpt")


# Steps that are none


class Breaking:
    """`VocoderModule.loss` that is spoilt in some steps, counted from 1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: set[int], kind: str) -> None:
        whole, self.count, self.training = VocoderModule.loss, 0, True
        self.indices: list[list[int]] = []

        def loss(module: VocoderModule, batch: dict[str, Tensor]) -> Loss:
            result = whole(module, batch)
            self.count += 1
            if self.count not in steps:
                return result
            self.indices.append(batch["index"].tolist())
            if kind == "gradient":  # of a loss that is finite: the root of 0 has none
                zero = (result.mean * 0.0).abs()
                return result._replace(mean=result.mean + zero.sqrt())
            return result._replace(mean=result.mean * float(kind))

        monkeypatch.setattr(VocoderModule, "loss", loss)


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
def test_a_step_without_a_finite_loss_is_left_out_and_its_files_are_named(  # fault 55
    kind: str, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Breaking(monkeypatch, {3, 4}, kind)
    assert main(arguments(tiny)) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "the step is left out" in line]
    assert len(warned) == 2
    for line, indices in zip(warned, broken.indices, strict=True):
        assert all(f"clips/train/{index:02}.wav" in line for index in indices)
    root = tiny.parent / "run"
    two, four = (load_training_checkpoint(root / name)["state_dict"] for name in ("previous.ckpt", "last.ckpt"))
    assert all(torch.equal(two[name], four[name]) for name in two)  # steps 3 and 4 moved nothing
    assert load_checkpoint(root / "last.safetensors").facts["steps"] == 4


def test_training_goes_on_after_a_bad_step_and_accumulates_around_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaking(monkeypatch, {2, 5}, "nan")
    assert main(arguments(tiny, "--trainer.accumulate_grad_batches=2")) == 0  # of 4 steps the first and third are bad
    assert all(weight.isfinite().all() for weight in weights(tiny.parent / "run").values())


def test_a_run_that_only_gives_nan_ends_and_keeps_the_last_good_state(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Breaking(monkeypatch, set(range(3, 100)), "nan")
    line = refused(tiny, capsys, "--trainer.max_steps=50")
    assert f"as in the {MAX_BAD_STEPS - 1} steps before" in line
    assert "lower model.learning_rate" in line
    assert ".wav" in line
    assert broken.count == 2 + MAX_BAD_STEPS
    assert all(weight.isfinite().all() for weight in weights(tiny.parent / "run").values())


def test_a_validation_loss_of_nan_is_never_the_best(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        VocoderModule, "validation_losses", lambda self, batch: {"loss_at_t1.0": torch.tensor(float("nan"))}
    )
    assert main(arguments(tiny, "--trainer.val_check_interval=2")) == 0
    assert load_checkpoint(tiny.parent / "run" / "last.safetensors").facts["valid_loss"] is None
    assert not (tiny.parent / "run" / "best.safetensors").exists()


# Memory


def test_memory_that_runs_out_is_one_line_that_tells_what_to_lower(  # fault 59
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refused(tiny, capsys, "--data.segment_length=1000000000000000")  # of the CPU's memory
    assert "out of memory" in line
    assert "lower --data.batch_size" in line

    def on_a_gpu(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")

    monkeypatch.setattr(VocoderModule, "loss", on_a_gpu)
    assert "--data.segment_length" in refused(tiny, capsys)


@pytest.mark.parametrize("file", [None, "run/config.yaml"])
def test_a_full_disk_is_told_of_the_run_and_not_of_standard_output(
    file: str | None, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fault 50
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr(VocoderModule, "loss", full)
    line = refused(tiny, capsys)
    assert f"{file or tiny.parent / 'run'}: could not be written (No space left on device); check free space" in line


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert memory_ran_out(RuntimeError("sizes do not match")) is None
    assert isinstance(memory_ran_out(MemoryError()), TrainingError)


def test_sounds_that_cannot_be_logged_are_warned_about_and_end_nothing() -> None:
    class Writer:
        def add_audio(self, *_: Any) -> None:
            raise OSError("no space left")

    module = VocoderModule(backbone=DiffWaveConfig(channels=4, layers=2, dilation_cycle=2))
    trainer = SimpleNamespace(
        logger=SimpleNamespace(experiment=Writer()), sanity_checking=False, is_global_zero=True, global_step=7
    )
    batch = {"waveform": torch.zeros(1, 1024), "length": torch.tensor([1024])}
    with pytest.warns(UserWarning, match=r"AudioLogger: no sounds at step 7 \(no space left\)"):
        AudioLogger(1).on_validation_batch_end(trainer, module, None, batch, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["segment_length", "valid_segment_length"])
def test_segments_are_whole_frames(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = recipe(tmp_path)
    assert main(arguments(config, f"--data.{name}=1001")) == 2
    assert f"data.{name}: 1001 is no multiple of the mel's hop" in capsys.readouterr().err.splitlines()[-1]
