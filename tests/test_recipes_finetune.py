"""The recipes that go on from the bundled vocoder: they start from its weights and keep its plans."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
from test_paired_mels import SEGMENT, manifests, prepare, write_corpus
from test_training import QUIET, REPOSITORY

from wavediff.backbones import SpectralConfig
from wavediff.cli.main import main
from wavediff.data.manifest import read_manifest, write_manifest
from wavediff.diffusion import CosineSchedule
from wavediff.models.checkpoint import load_checkpoint
from wavediff.training import VocoderModule

RECIPES = REPOSITORY / "recipes" / "finetune"
BUNDLED = REPOSITORY / "wavediff" / "models" / "weights" / "vocoder.safetensors"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few recordings and their mels, also in manifests without these: `valid-plain.jsonl`."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, 8, SEGMENT)
    assert prepare(folder) == 0
    for split in ("train", "valid"):
        rows = read_manifest(folder / "data" / f"{split}.jsonl")
        plain = [dataclasses.replace(row, mel=None) for row in rows]
        write_manifest(folder / "data" / f"{split}-plain.jsonl", plain)
    return folder / "data"


def step(recipe: str, data: list[str], root: Path, *extra: str) -> int:
    values = {
        "model.init_from": BUNDLED,
        "model.compile": "false",
        "trainer.default_root_dir": root,
        "trainer.max_steps": 1,
        "trainer.limit_train_batches": 1,
        "trainer.val_check_interval": "null",
        "trainer.check_val_every_n_epoch": 1,
        "trainer.num_sanity_val_steps": 0,
        "trainer.log_every_n_steps": 1,
        "trainer.precision": "32-true",
        "data.segment_length": SEGMENT,
        "data.valid_segment_length": "null",
        "data.batch_size": 2,
    }
    config = ["--config", str(RECIPES / f"{recipe}.yaml")]
    return main(["train", *config, *data, *QUIET, *(f"--{key}={value}" for key, value in values.items()), *extra])


@pytest.mark.parametrize(("recipe", "kind"), [("voice", "-plain"), ("paired", "")])
def test_a_step_from_the_bundled_model_moves_its_weights_a_little_and_keeps_its_plans(
    recipe: str, kind: str, corpus: Path, tmp_path: Path
) -> None:
    assert step(recipe, manifests(corpus, kind), tmp_path) == 0
    before, after = load_checkpoint(BUNDLED), load_checkpoint(tmp_path / "best.safetensors")
    assert after.config == before.config
    assert after.config.plans
    moved = [not torch.equal(after.weights[name], weight.float()) for name, weight in before.weights.items()]
    assert any(moved)
    for name, weight in before.weights.items():
        torch.testing.assert_close(after.weights[name], weight.float(), rtol=0, atol=1e-3)


def test_the_paired_recipe_without_a_mel_or_with_augmentation_is_told_so(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = [f"--data.train_manifest={corpus / 'train.jsonl'}", f"--data.valid_manifest={corpus / 'valid-plain.jsonl'}"]
    assert step("paired", mixed, tmp_path) == 2
    assert "names no mel in its manifest" in capsys.readouterr().err
    assert step("paired", manifests(corpus, ""), tmp_path, "--data.augment.share=0.5") == 2
    assert "augment.share is 0.5" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))


def test_plans_come_along_only_where_the_process_is_the_same() -> None:
    config = load_checkpoint(BUNDLED).config
    backbone, prior = config.backbone, config.prior
    assert isinstance(backbone, SpectralConfig)
    module = functools.partial(VocoderModule, "hifigan", backbone, CosineSchedule(), "v", init_from=str(BUNDLED))
    assert module(prior=prior).config.plans == config.plans
    later = dataclasses.replace(prior, start_time=0.2)
    assert module(prior=later).config.plans == ()
