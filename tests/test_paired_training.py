"""Training on mels from files: the package's own give what computing them gives, and others are what is used."""

import dataclasses
from pathlib import Path

import pytest
import torch
from test_paired_mels import HOP, RATE, SEGMENT, SPEC, manifests, mel_of, prepare, write_corpus
from test_training import SMALL, options, scalars, tensors

from wavediff.backbones import SpectralConfig
from wavediff.cli.main import main
from wavediff.data.datamodule import AudioDataModule
from wavediff.data.manifest import read_manifest, write_manifest
from wavediff.diffusion import CosineSchedule, PriorConfig, SignalRegression
from wavediff.mel import write_mel
from wavediff.training import VocoderModule
from wavediff.training.guards import load_training_checkpoint


@pytest.fixture(scope="module")
def whole_segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings as long as a segment: mels from files are then those computed in training, edges and all."""
    folder = tmp_path_factory.mktemp("whole")
    write_corpus(folder, 26, SEGMENT)
    assert prepare(folder, "--valid-fraction", "0.1") == 0
    for split in ("train", "valid"):
        rows = read_manifest(folder / "data" / f"{split}.jsonl")
        write_manifest(folder / "data" / f"{split}-plain.jsonl", [dataclasses.replace(u, mel=None) for u in rows])
        louder = []
        for row in rows:
            mel = folder / "louder" / row.mel.name  # type: ignore[union-attr]
            mel.parent.mkdir(exist_ok=True)
            write_mel(mel, mel_of(row.path) + 0.5, SPEC, overwrite=True)
            louder.append(dataclasses.replace(row, mel=mel))
        write_manifest(folder / "data" / f"{split}-louder.jsonl", louder)
    return folder / "data"


def train(data: Path, kind: str, root: Path, max_steps: int, *extra: str) -> Path:
    more = {"data.segment_length": SEGMENT, "data.batch_size": 4, "model.learning_rate": 0.02, "model.warmup_steps": 0}
    more |= {"model.lr_scheduler": "constant", "trainer.callbacks": "[wavediff.training.FullState]"}
    arguments = options(manifests(data, kind), root, max_steps, **more)
    assert main(["train", "--config", str(SMALL), *arguments, *extra]) == 0
    return root


def test_the_packages_own_mels_in_files_train_as_if_they_were_computed(whole_segments: Path, tmp_path: Path) -> None:
    plain, paired, louder = (
        train(whole_segments, kind, tmp_path / (kind or "paired"), 7) for kind in ("-plain", "", "-louder")
    )
    for tag in ("train/loss", "valid/loss"):
        expected, same, other = ([e.value for e in scalars(root, tag)] for root in (plain, paired, louder))
        assert expected == pytest.approx(same, rel=1e-5)
        assert expected != pytest.approx(other, rel=1e-4), tag  # the files' mels are what is used
    states = [load_training_checkpoint(root / "last.ckpt")["state_dict"] for root in (plain, paired)]
    for name, expected in states[0].items():
        torch.testing.assert_close(states[1][name], expected, rtol=1e-5, atol=1e-6)


def test_a_batch_has_the_loss_that_computing_its_mel_has(whole_segments: Path) -> None:
    prior, objective = PriorConfig(power=0.85, start_time=0.3), SignalRegression()
    module = VocoderModule("hifigan", SpectralConfig(8, 8, 1), CosineSchedule(), "v", prior, objective)
    data = AudioDataModule(
        *(str(whole_segments / f"{split}.jsonl") for split in ("train", "valid")), RATE, SEGMENT, 4, mel_spec=SPEC
    )
    data.setup()
    batch = next(iter(data.train_dataloader()))
    plain = {key: value for key, value in batch.items() if key != "mel"}
    torch.testing.assert_close(module.mel(plain), batch["mel"], rtol=0, atol=1e-5)
    assert module.loss(batch).mean.item() == pytest.approx(module.loss(plain).mean.item(), rel=1e-6)
    other = module.loss(batch | {"mel": batch["mel"] + 1}).mean.item()
    assert other != pytest.approx(module.loss(plain).mean.item(), rel=1e-4)


def test_a_paired_run_stopped_and_resumed_has_the_weights_of_an_uninterrupted_one(  # fault 53
    tmp_path: Path,
) -> None:
    write_corpus(tmp_path, 26, 12 * HOP)
    assert prepare(tmp_path, "--valid-fraction", "0.1") == 0
    data = tmp_path / "data"
    whole = train(data, "", tmp_path / "whole", 9)
    train(data, "", tmp_path / "parts", 5)
    parts = train(data, "", tmp_path / "parts", 9, "--ckpt_path=last")
    expected, resumed = (load_training_checkpoint(root / "last.ckpt") for root in (whole, parts))
    for part in ("state_dict", "optimizer_states"):
        left, right = tensors(expected[part]), tensors(resumed[part])
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left), part


def test_the_fast_network_validates_on_the_files_mels_and_a_model_without_a_mel_refuses_them(
    whole_segments: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = SMALL.parent.parent
    values = ["--trainer.max_steps=1", "--trainer.precision=32-true", "--trainer.accelerator=cpu"]
    values += ["--data.batch_size=2", "--data.num_workers=0", "--trainer.num_sanity_val_steps=0"]
    values += ["--trainer.limit_train_batches=1"]
    tiny = ["--model.compile=false", "--model.backbone.layers=1", f"--data.segment_length={SEGMENT}"]
    tiny += ["--data.valid_segment_length=null", "--trainer.enable_progress_bar=false", "--model.learning_rate=1e-30"]
    losses = []
    for kind in ("", "-louder"):
        root = tmp_path / (kind or "paired")
        command = ["train", "--config", str(recipes / "ljspeech" / "fast.yaml"), *manifests(whole_segments, kind)]
        assert main([*command, *values, *tiny, f"--trainer.default_root_dir={root}"]) == 0
        losses.append([event.value for event in scalars(root, "valid/loss_of_1_steps")])
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    capsys.readouterr()
    command = ["train", "--config", str(recipes / "sfx" / "unet.yaml"), *manifests(whole_segments, ""), *values]
    command += ["--model.labels=[]", "--data.balance=0", f"--trainer.default_root_dir={tmp_path / 'sounds'}"]
    assert main(command) == 2
    assert "the model takes none" in capsys.readouterr().err
