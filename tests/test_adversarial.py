"""Critics, and a vocoder that goes on learning against them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clips import write_manifests
from runs import MEL, arguments, trainer
from torch import Tensor

from wavediff.backbones import SpectralConfig
from wavediff.cli.info import describe
from wavediff.cli.main import main
from wavediff.diffusion import CosineSchedule, PriorConfig
from wavediff.errors import CheckpointError, ConfigError
from wavediff.mel import MelSpec
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.file import write_model_file
from wavediff.training import AdversarialModule
from wavediff.training.critics import CriticConfig, Critics, SpectrumCritic
from wavediff.training.guards import load_training_checkpoint

SMALL = CriticConfig(windows=(256, 128), high_windows=(128,), high_from=1000.0, channels=4)


def signals(seed: int) -> tuple[Tensor, Tensor]:
    """Tones and noise (4, 2048) each."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(2048) / 8000
    pitch = 200 + 200 * torch.rand(4, 1, generator=generator)
    return torch.sin(2 * torch.pi * pitch * time), 0.5 * torch.randn(4, 2048, generator=generator)


def test_the_first_channels_are_the_spectrum_with_its_magnitude_compressed() -> None:
    critic, (_, noise) = SpectrumCritic(256, 4, first_bin=10), signals(0)
    real, imag, level = critic.spectrum(noise).unbind(1)
    X = torch.stft(noise, 256, 64, window=torch.hann_window(256), return_complex=True, normalized=True)
    expected = torch.polar(X.abs() ** 0.3, X.angle())[:, 10:].transpose(1, 2)
    torch.testing.assert_close(torch.complex(real, imag), expected, atol=5e-3, rtol=1e-3)  # of 1
    torch.testing.assert_close(level, 0.2 * X.abs()[:, 10:].transpose(1, 2).clamp(min=1e-4).log(), atol=0.08, rtol=1e-3)


def test_a_critic_of_high_frequencies_does_not_hear_low_ones() -> None:
    critic = Critics(CriticConfig(windows=(256,), high_windows=(256,), high_from=2000.0, channels=4), 8000)
    everything, high = (critic.critics[i].spectrum(signals(0)[0]) for i in (0, 1))
    assert (everything.shape[-1], high.shape[-1]) == (129, 129 - 64)
    assert everything[:, 2].max() > -0.5 > high[:, 2, 4:-4].max() + 0.1  # tones of 200 to 400 Hz


def test_critics_learn_to_tell_tones_from_noise() -> None:
    torch.manual_seed(0)
    critics = Critics(SMALL, 8000)
    optimizer = torch.optim.AdamW(critics.parameters(), 1e-2)
    for step in range(60):
        loss = critics.distinction(*signals(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    recorded, made = signals(1000)
    assert critics.distinction(recorded, made) < 0.5 < 2.0 < critics.distinction(made, recorded)
    score, _ = critics.persuasion(recorded, made)
    assert score > critics.persuasion(recorded, recorded)[0]  # what sounds recorded costs less


def test_the_features_of_equal_signals_match_and_lead_others_towards_them() -> None:
    critics, (recorded, made) = Critics(SMALL, 8000).requires_grad_(False), signals(0)
    assert critics.persuasion(recorded, recorded)[1] == 0
    made = made.clone().requires_grad_()
    _, distance = critics.persuasion(recorded, made)
    distance.backward()
    assert made.grad is not None
    closer = made.detach() - 0.1 * made.grad / made.grad.norm()
    assert critics.persuasion(recorded, closer)[1] < distance


@pytest.mark.parametrize("wrong", [{"windows": (), "high_windows": ()}, {"windows": (30,)}, {"channels": 0}])
def test_impossible_critics_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="critics"):
        CriticConfig(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny vocoder that starts from a guess."""
    spec = MelSpec(**MEL)  # type: ignore[arg-type]
    prior = PriorConfig(power=0.85, start_time=0.2, phase_iterations=2)
    backbone = SpectralConfig(bands=8, channels=8, layers=1)
    config = ModelConfig(backbone, CosineSchedule(), "v", prior, spec, spec.sample_rate)
    torch.manual_seed(0)
    path = tmp_path / "start.safetensors"
    save_checkpoint(path, config, build_denoiser(config).state_dict(), {})
    return path


def train(model: Path, folder: Path, steps: int, *options: str) -> int:
    manifests = folder.parent / "clips"
    train, valid = (
        write_manifests(manifests) if not manifests.exists() else (manifests / "train.jsonl", manifests / "valid.jsonl")
    )
    critics = {"windows": [256, 128], "high_windows": [128], "high_from": 1000.0, "channels": 4}
    start = {
        "guess_share": 1.0,
        "guess_time": 0.2,
        "least_guess_time": 0.1,
        "phase_iterations": 2,
        "least_phase_iterations": 0,
    }
    given = {"init_from": str(model), "critics": critics, "start": start, "critic_lead": 1, "warmup_steps": 0}
    callbacks = [
        {"class_path": "wavediff.training.FullState", "init_args": {"every_n_steps": 10}},
        {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}},
        {"class_path": "wavediff.training.ModelExport"},
    ]
    config = {
        "model": {
            "class_path": "wavediff.training.AdversarialModule",
            "init_args": given | {"learning_rate": 1e-3, "lr_scheduler": "constant"},
        },
        "data": {
            "train_manifest": str(train),
            "valid_manifest": str(valid),
            "segment_length": 2048,
            "batch_size": 2,
        },
        "trainer": trainer(folder, steps, *callbacks),
    }
    path = folder.parent / "tiny.yaml"
    path.write_text(json.dumps(config))
    return main(arguments(path, *options))


def test_training_moves_the_vocoder_and_resumes_with_its_critics_bit_for_bit(model: Path, tmp_path: Path) -> None:
    assert train(model, tmp_path / "whole", 4) == 0
    assert train(model, tmp_path / "parts", 2) == 0
    assert train(model, tmp_path / "parts", 4, "--ckpt_path", "last") == 0
    start, whole, parts = (
        load_checkpoint(path)
        for path in (model, tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")
    )
    assert whole.config == start.config
    before, after, resumed = (checkpoint.build().state_dict() for checkpoint in (start, whole, parts))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name, weight in after.items():
        torch.testing.assert_close(resumed[name], weight, atol=0, rtol=0)


def test_a_model_that_starts_from_noise_is_refused(tmp_path: Path) -> None:
    config = ModelConfig(mel=MelSpec())
    path = tmp_path / "noise.safetensors"
    save_checkpoint(path, config, build_denoiser(config).state_dict(), {})
    with pytest.raises(ConfigError, match="needs guesses alone"):
        AdversarialModule(str(path))


def test_info_says_what_critics_are_for(tmp_path: Path) -> None:
    critics = Critics(SMALL, 8000)
    write_model_file(tmp_path / "critics.safetensors", "critics", {}, critics.state_dict(), half=True)
    told = describe(tmp_path / "critics.safetensors")
    assert (told["kind"], told["parameters"]) == ("critics", sum(weight.numel() for weight in critics.parameters()))
    assert "model.critics_from" in told["use"]


def test_critics_of_an_earlier_run_go_on(model: Path, tmp_path: Path) -> None:
    assert train(model, tmp_path / "run", 3) == 0
    path = tmp_path / "run" / "critics.safetensors"
    torch.manual_seed(1)
    module = AdversarialModule(str(model), critics=SMALL, critics_from=str(path))
    state = load_training_checkpoint(tmp_path / "run" / "last.ckpt")["current_model_state"]
    for name, weight in module.critics.state_dict().items():
        trained = state[f"critics.{name}"]
        torch.testing.assert_close(weight, trained.half().float(), atol=2e-2, rtol=0)  # the average, or the last ones
        assert not any(parameter.requires_grad for parameter in module.critics.parameters())
    with pytest.raises(CheckpointError, match=r"critics\.safetensors: .*check critics"):
        AdversarialModule(str(model), critics=CriticConfig((256, 128), (128,), 1000.0, 8), critics_from=str(path))
    with pytest.raises(CheckpointError, match="set of critics"):
        AdversarialModule(str(path))


def test_the_state_of_the_critics_optimiser_comes_to_where_the_weights_are(model: Path) -> None:
    """Lightning loads a state before it moves the weights; a type stands here for a device."""
    first, again = (AdversarialModule(str(model), critics=SMALL) for _ in range(2))
    for weight in first.critics.parameters():
        weight.grad = torch.ones_like(weight)
    first._critic_optimizer.step()
    checkpoint: dict[str, Any] = {}
    first.on_save_checkpoint(checkpoint)
    again.on_load_checkpoint(checkpoint)
    again._trainer = SimpleNamespace(datamodule=None)  # type: ignore[assignment]
    again.double().on_fit_start()
    states = again._critic_optimizer.state.values()
    assert states
    assert all(state["exp_avg"].dtype == torch.float64 for state in states)
