"""The recipes for sounds: each runs for a step on small real data, and what it writes can be used."""

from pathlib import Path

import pytest
import torch
from sounds import AUTOENCODER
from test_training import QUIET

from wavediff import Generator, Vocoder
from wavediff.audio import read_audio
from wavediff.cli.main import main
from wavediff.data.manifest import Utterance, read_manifest, write_manifest
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import build_denoiser
from wavediff.pipelines.autoencoder import Autoencoder
from wavediff.training import DenoiserModule

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
STEP = [
    "--trainer.max_steps=1",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--trainer.val_check_interval=null",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.precision=32-true",
    "--data.batch_size=2",
    "--data.num_workers=0",
]


@pytest.fixture(autouse=True)
def heard_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged to be heard is sampled in one step: it takes most of the time."""
    monkeypatch.setattr("wavediff.training.sound_module.HEARD_STEPS", 1)


@pytest.fixture(scope="module")
def sfx(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of a few real sounds of each class."""
    folder = tmp_path_factory.mktemp("sfx")
    assert main(["prepare", "classes", str(data_root / "sfx"), "-o", str(folder), "--quiet"]) == 0
    for split in ("train", "valid"):
        utterances = read_manifest(folder / f"{split}.jsonl")
        few: dict[str, list[Utterance]] = {}
        for utterance in utterances:
            few.setdefault(str(utterance.label), []).append(utterance)
        chosen = [utterance for group in few.values() for utterance in group[:2]]
        write_manifest(folder / f"{split}.jsonl", chosen, overwrite=True)
    return folder


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained autoencoder's model file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("autoencoder") / "autoencoder.safetensors"
    save_checkpoint(path, AUTOENCODER, build_denoiser(AUTOENCODER).state_dict())
    return path


def step(recipe: str, data: Path, root: Path, *extra: str) -> Path:
    manifests = [f"--data.{split}_manifest={data / split}.jsonl" for split in ("train", "valid")]
    root_option = f"--trainer.default_root_dir={root}"
    config = str(RECIPES / f"{recipe}.yaml")
    assert main(["train", "--config", config, *manifests, *STEP, *QUIET, root_option, *extra]) == 0
    return root / "last.safetensors"


def test_the_vocoder_of_sounds(sfx: Path, tmp_path: Path) -> None:
    """Its weights come from the bundled vocoder of speech, on a mel of twice the width."""
    bundled = f"--model.init_from={RECIPES.parent / 'wavediff' / 'models' / 'weights' / 'vocoder.safetensors'}"
    extra = ["--model.compile=false", "--data.segment_length=4096", bundled]
    model = step("sfx/vocoder", sfx, tmp_path, "--data.valid_segment_length=4096", *extra)
    assert Vocoder.from_pretrained(model, "cpu").mel_spec.n_mels == 128


def test_the_autoencoder_trains_its_codec_and_nothing_else(sfx: Path, tmp_path: Path) -> None:
    bundled = RECIPES.parent / "wavediff" / "models" / "weights" / "vocoder.safetensors"
    model = step("sfx/autoencoder", sfx, tmp_path, f"--model.vocoder={bundled}", "--model.codec.layers=1")
    trained, before = load_checkpoint(model).weights, load_checkpoint(bundled).weights
    for name, weight in before.items():
        assert torch.equal(trained[name].half(), weight), name
    autoencoder = Autoencoder(load_checkpoint(model).build())
    assert autoencoder.encode(torch.randn(1, 3000)).shape == (1, 12 * 32)


def test_the_linear_autoencoder_is_fitted_to_real_sounds(sfx: Path, tmp_path: Path) -> None:
    """On the vocoder of the bundled generator, one step over a few clips: its mels come back within a nat."""
    bundled = RECIPES.parent / "wavediff" / "models" / "weights" / "generator.safetensors"
    batch = ["--data.batch_size=16", "--trainer.max_epochs=1"]
    model = step("sfx/linear", sfx, tmp_path, f"--model.vocoder={bundled}", *batch)
    checkpoint = load_checkpoint(model)
    autoencoder = Autoencoder(checkpoint.build())
    inner = load_checkpoint(bundled).pretransform
    assert inner is not None
    for name, weight in inner.weights.items():
        assert name.startswith("codec.") or torch.equal(checkpoint.weights[name].half(), weight), name
    waveform = read_audio(read_manifest(sfx / "train.jsonl")[0].path, 22050)[0][None, :8192]
    mel = autoencoder.transform(waveform)[..., :32]
    assert (autoencoder.mel(autoencoder.encode(waveform)) - mel).abs().mean() < 1


@pytest.mark.parametrize("recipe", ["sfx/latent", "sfx/unet", "sfx/unet_44k", "sc09/diffwave", "sc09/fsdd"])
@pytest.mark.parametrize("latent", [False, True])
def test_a_generator_of_waveforms_or_latents(
    recipe: str, latent: bool, sfx: Path, autoencoder: Path, tmp_path: Path
) -> None:
    """One key, `autoencoder`, switches; the small one here is of 8 kHz."""
    extra = [f"--model.labels={sfx / 'train.jsonl'}", "--data.segment_length=4096"]
    extra += (
        [f"--model.autoencoder={autoencoder}", "--model.sample_rate=8000"] if latent else ["--model.autoencoder=null"]
    )
    if recipe.startswith("sc09"):
        extra += ["--model.backbone.layers=2", "--model.backbone.channels=8"]
    elif recipe != "sfx/latent":  # whose attention needs its widths
        extra += ["--model.backbone.channels=16"]
    generator = Generator.from_pretrained(step(recipe, sfx, tmp_path, *extra), "cpu")
    assert len(generator.labels) == 12
    assert (generator.autoencoder is not None) == latent
    assert generator.facts["steps"] == 1
    assert generator.generate(1, label="glass", num_steps=2).shape == (1, 4096)


def test_flow_matching_is_a_schedule_and_a_prediction(sfx: Path, tmp_path: Path) -> None:
    flow = ["--model.schedule=wavediff.diffusion.FlowSchedule", "--model.prediction=velocity"]
    extra = ["--model.backbone.channels=16", "--data.segment_length=4096", *flow]
    generator = Generator.from_pretrained(step("sfx/unet", sfx, tmp_path, *extra), "cpu")
    assert generator.config.prediction == "velocity"
    sounds = [generator.generate(1, label="glass", num_steps=3, sampler=name) for name in ("euler", "ddim", "ddpm")]
    torch.testing.assert_close(sounds[0], sounds[1], rtol=0, atol=1e-4)  # the same on straight paths
    assert not torch.equal(sounds[1], sounds[2])


def test_the_autoencoder_of_a_generator_stays_as_it_was(sfx: Path, autoencoder: Path, tmp_path: Path) -> None:
    """Batch statistics in it too, which training mode would move."""
    extra = [f"--model.labels={sfx / 'train.jsonl'}", "--data.segment_length=4096", "--model.sample_rate=8000"]
    model = step("sfx/latent", sfx, tmp_path, f"--model.autoencoder={autoencoder}", *extra)
    weights = load_checkpoint(model).weights
    for name, weight in load_checkpoint(autoencoder).weights.items():
        assert torch.equal(weights[f"pretransform.{name}"], weight), name


def test_the_autoencoder_of_a_generator_is_not_in_training_mode_from_the_start(autoencoder: Path) -> None:
    """Lightning calls `train` of no module, it trains in the modes that it finds."""
    from wavediff.backbones import UNetConfig
    from wavediff.training import SoundModule

    module = SoundModule(8000, autoencoder=str(autoencoder), backbone=UNetConfig(8, (1,), (), 1, 0))
    for state in (module, module.train()):
        assert state.denoiser.backbone.training
        assert not any(part.training for part in state.denoiser.pretransform.modules())  # type: ignore[union-attr]


def test_a_label_is_dropped_as_often_as_asked(autoencoder: Path) -> None:
    from wavediff.backbones import UNetConfig
    from wavediff.training import SoundModule

    backbone = UNetConfig(8, (1,), (), 1, 0)
    module = SoundModule(8000, ["a", "b"], backbone=backbone, label_dropout=0.25)
    seen: list[torch.Tensor] = []
    module.denoiser.backbone.prepare = lambda cond: seen.append(cond.label)  # type: ignore[method-assign]
    batch = {"waveform": torch.randn(800, 16), "seed": torch.arange(800), "label": torch.ones(800, dtype=torch.int64)}
    module.loss(batch)
    assert (seen[0] == 2).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert set(seen[0].tolist()) == {1, 2}
    module.validation_losses(batch)
    assert (seen[1] == 1).all()
    assert isinstance(module, DenoiserModule)


@pytest.mark.parametrize("augmented", [True, False])
def test_a_network_is_told_of_variations_if_it_can_be(augmented: bool) -> None:
    from wavediff.backbones import UNetConfig
    from wavediff.training import SoundModule

    module = SoundModule(8000, backbone=UNetConfig(8, (1,), (), 1, 0, augmented=augmented))
    seen: list[torch.Tensor | None] = []
    module.denoiser.backbone.prepare = lambda cond: seen.append(cond.variation)  # type: ignore[method-assign]
    batch = {"waveform": torch.randn(2, 16), "seed": torch.arange(2), "variation": torch.ones(2, 6)}
    module.loss(batch)
    assert (seen[0] is batch["variation"]) == augmented
    module.validation_losses({name: value for name, value in batch.items() if name != "variation"})
    assert seen[1] is None
