"""What TensorBoard lets one hear of each kind of model, and that every recipe of one does."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from conftest import REPOSITORY
from sounds import AUTOENCODER, LABELS, RATE, UNET, small_generator

from wavediff.backbones import DiffWaveConfig
from wavediff.models.checkpoint import save_checkpoint
from wavediff.models.config import build_denoiser
from wavediff.training import AudioLogger, AutoencoderModule, DenoiserModule, SoundModule, VocoderModule

RECIPES = sorted((REPOSITORY / "recipes").glob("*/*.yaml"))
LENGTH = 2048


class Writer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def add_audio(self, name: str, clip: torch.Tensor, step: int, rate: int) -> None:
        self.told[name] = (clip, rate)

    def add_figure(self, name: str, figure: Any, step: int) -> None:
        self.told[name] = figure


def logged(module: DenoiserModule, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    writer = Writer()
    logger = SimpleNamespace(experiment=writer)
    trainer: Any = SimpleNamespace(logger=logger, sanity_checking=False, is_global_zero=True, global_step=7)
    AudioLogger(2).on_validation_batch_end(trainer, module.eval(), None, batch, 0)
    return writer.told


@pytest.fixture
def autoencoder(tmp_path: Path) -> str:
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "autoencoder.safetensors", AUTOENCODER, build_denoiser(AUTOENCODER).state_dict())
    return str(tmp_path / "autoencoder.safetensors")


@pytest.mark.parametrize("kind", ["vocoder", "generator", "generator of latents", "autoencoder"])
def test_a_model_is_heard_beside_the_clips(kind: str, autoencoder: str) -> None:
    vocoder = DiffWaveConfig(channels=4, layers=2, dilation_cycle=2)
    module: DenoiserModule = {
        "vocoder": lambda: VocoderModule(backbone=vocoder),
        "generator": lambda: SoundModule(RATE, list(LABELS), backbone=UNET),
        "generator of latents": lambda: SoundModule(RATE, list(LABELS), autoencoder, backbone=UNET),
        "autoencoder": lambda: AutoencoderModule(autoencoder),
    }[kind]()
    if kind == "generator":
        module.denoiser.load_state_dict(small_generator("unet").denoiser.state_dict())
    batch = {"waveform": torch.rand(3, LENGTH) - 0.5, "length": torch.tensor([LENGTH] * 3)}
    told = logged(module, batch | {"label": torch.tensor([1, 0, 2])})
    names = {f"clip{index}/{name}" for index in (0, 1) for name in ("reference", "synthesised", "spectrogram")}
    assert set(told) == names
    for index in (0, 1):
        (clip, rate), (made, same) = (told[f"clip{index}/{name}"] for name in ("reference", "synthesised"))
        assert (rate, same, len(made)) == (module.sample_rate, module.sample_rate, LENGTH)
        assert torch.equal(clip, batch["waveform"][index])
        assert made.isfinite().all()
    if kind == "generator":
        own = small_generator("unet").generate(2, LENGTH / RATE, [LABELS[1], LABELS[0]], num_steps=20)
        torch.testing.assert_close(torch.stack([told[f"clip{i}/synthesised"][0] for i in (0, 1)]), own)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_recipe_of_a_model_that_sounds_logs_audio(recipe: Path) -> None:
    config = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    callbacks = [callback["class_path"].rpartition(".")[2] for callback in config["trainer"]["callbacks"]]
    assert "logger" not in config["trainer"]  # TensorBoard's, unless a recipe names another
    silent = config["model"]["class_path"].endswith("ClassifierModule")
    assert ("AudioLogger" in callbacks) != silent
