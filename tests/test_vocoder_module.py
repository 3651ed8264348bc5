"""One training module: any network with any process, prior and objective that fit together."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import arguments, losses_of_steps, recipe
from torch import Tensor
from vocoders import untrained

from wavediff import Vocoder
from wavediff.audio import read_audio
from wavediff.backbones import Condition, DiffWaveConfig, SpectralConfig
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.diffusion import (
    CosineSchedule,
    DiscreteSchedule,
    FlowSchedule,
    ItemNoise,
    MelLoss,
    NoiseRegression,
    Objective,
    PriorConfig,
    SignalRegression,
)
from wavediff.diffusion.losses import Distance, Loss
from wavediff.diffusion.losses.regression import Process
from wavediff.errors import ConfigError, MelError
from wavediff.mel import MelSpec, MelTransform
from wavediff.models.checkpoint import load_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.training import VocoderModule

SAMPLES, FRAMES = DiffWaveConfig(channels=8, layers=2, dilation_cycle=2, fold=8), SpectralConfig(8, 8, 1)
WHITE, SHAPED, GUESS = PriorConfig(), PriorConfig(power=0.85), PriorConfig(0.85, start_time=0.3, phase_iterations=2)
REGRESSION = SignalRegression(phase_iterations=2)
PARTS = {
    "DiffWave": (SAMPLES, DiscreteSchedule(), "eps", WHITE, NoiseRegression("l1")),
    "PriorGrad": (SAMPLES, DiscreteSchedule(), "eps", SHAPED, NoiseRegression()),
    "DiffWave from a guess": (dataclasses.replace(SAMPLES, whitened=True), DiscreteSchedule(), "v", GUESS, REGRESSION),
    "frames": (FRAMES, CosineSchedule(), "v", GUESS, REGRESSION),
    "frames, flow": (FRAMES, FlowSchedule(), "velocity", SHAPED, NoiseRegression()),
}


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    """Two segments of speech, the second one with padding behind it."""
    waveform = read_audio(CLIP)[0][8192:24576].reshape(2, 8192).clone()
    waveform[1, 6000:] = 0
    return {"waveform": waveform, "length": torch.tensor([8192, 6000]), "seed": torch.tensor([0, 1])}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_any_network_trains_and_decodes_with_any_process(parts: tuple[Any, ...], batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    backbone, schedule, prediction, prior, objective = parts
    module = VocoderModule("hifigan", backbone, schedule, prediction, prior, objective)
    losses = losses_of_steps(module, batch, torch.optim.Adam(module.parameters(), 3e-3), 6)
    assert losses[-1] < losses[0]
    validation = module.validation_losses(batch)
    assert validation == module.validation_losses(batch)
    assert all(value.isfinite() for value in validation.values())
    vocoder = Vocoder(module.config, module.denoiser.eval().requires_grad_(False))
    assert vocoder.decode(vocoder.mel(batch["waveform"][0], 22_050), 2).isfinite().all()


def test_shaped_noise_is_regressed_where_it_is_white(batch: dict[str, Tensor]) -> None:
    """A network that says nothing has the variance of white noise as its loss, however loud the mel is."""
    spec = MelSpec.preset("hifigan")
    denoiser = build_denoiser(ModelConfig(SAMPLES, DiscreteSchedule(), "eps", PriorConfig(power=0.85), spec))
    torch.nn.init.zeros_(denoiser.backbone.output_projection.bias)  # type: ignore[union-attr]  its weights are zeros
    process = denoiser.bind(Condition(Vocoder.from_pretrained(device="cpu").mel(batch["waveform"], 22_050)))
    loss = NoiseRegression()(process, batch["waveform"], batch["length"], ItemNoise([3, 4]))
    torch.testing.assert_close(loss.per_item, torch.ones(2), rtol=0, atol=0.25)


def test_a_whitened_network_hears_the_signal_over_the_envelope() -> None:
    """As loud as the envelope and the signal become, so does the answer."""
    backbone = dataclasses.replace(SAMPLES, whitened=True)
    config = ModelConfig(backbone, DiscreteSchedule(), "v", GUESS, MelSpec.preset("hifigan"))
    vocoder = untrained(config)
    waveform, rate = read_audio(CLIP)
    mel, x_t = vocoder.mel(waveform[:8192], rate), waveform[None, :8192]
    prepared, t = vocoder.denoiser.bind(Condition(mel)).prepared, torch.tensor([0.5])
    louder = dataclasses.replace(prepared, envelope=7 * prepared.envelope)  # type: ignore[type-var,attr-defined]
    answer = vocoder.denoiser.backbone(x_t, t, prepared)
    assert answer.abs().mean() > 0.01
    torch.testing.assert_close(vocoder.denoiser.backbone(7 * x_t, t, louder), 7 * answer)
    with pytest.raises(ConfigError, match=r"backbone\.whitened: needs a mel"):
        build_denoiser(dataclasses.replace(config, prior=WHITE))


def test_a_mel_distance_is_the_mean_of_its_resolutions(batch: dict[str, Tensor]) -> None:
    loss, (one, other) = MelLoss(MelSpec.preset("hifigan")), batch["waveform"].chunk(2)
    alone = [loss(one, other, resolution) for resolution in range(loss.resolutions)]
    torch.testing.assert_close(loss(one, other), torch.stack(alone).mean(0))


@dataclasses.dataclass(frozen=True)
class CleanRegression(Objective):
    """An objective from outside: the absolute error of x_0 at one time."""

    time: float = 0.5

    def __call__(
        self, process: Process, x_0: Tensor, lengths: Tensor, noise: ItemNoise, distance: Distance | None = None
    ) -> Loss:
        t = torch.full((len(x_0),), self.time, dtype=torch.float64)
        alpha, sigma = (level.float()[:, None] for level in (process.schedule.alpha(t), process.schedule.sigma(t)))
        x_t = alpha * x_0 + sigma * process.noise(noise.normal(x_0.shape[1]))
        per_item = (process(x_t, t) - x_0).abs().mean(1)
        return Loss(per_item.mean(), per_item.detach(), t)


def test_an_objective_from_outside_trains(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    module = VocoderModule("hifigan", SAMPLES, DiscreteSchedule(), "v", objective=CleanRegression(0.7))
    losses = losses_of_steps(module, batch, torch.optim.Adam(module.parameters(), 3e-3), 4)
    assert losses[-1] < losses[0]
    assert set(module.validation_losses(batch)) == {"loss_of_1_steps", "loss_of_4_steps"}


def test_validation_takes_every_mel_of_a_batch_as_its_own(batch: dict[str, Tensor]) -> None:
    """Also one that looks like another dialect's, which a user is asked about: a run must not end at it."""
    module = VocoderModule("hifigan", FRAMES, CosineSchedule(), "v", GUESS, REGRESSION)
    waveform = read_audio(CLIP)[0][None, : 384 * 256]
    mel = MelTransform(MelSpec.preset("espnet"))(waveform)[..., :384]
    with pytest.raises(MelError, match="not of hifigan"):
        Vocoder(module.config, module.denoiser).decode(mel, 1)
    foreign = {"waveform": waveform, "mel": mel, "length": torch.tensor([384 * 256]), "seed": torch.tensor([0])}
    assert all(loss.isfinite() for loss in module.validation_losses(foreign).values())


def test_white_noise_makes_no_guesses() -> None:
    with pytest.raises(ConfigError, match="guess_share"):
        VocoderModule(backbone=SAMPLES, objective=SignalRegression())


def test_the_parts_are_chosen_in_a_recipe(tmp_path: Path) -> None:
    path = recipe(tmp_path, segment_length=4096)
    config = json.loads(path.read_text())
    config["model"]["init_args"] |= {
        "backbone": {"class_path": "wavediff.backbones.SpectralConfig", "init_args": {"bands": 8, "channels": 8}},
        "schedule": "wavediff.diffusion.FlowSchedule",
        "prediction": "velocity",
        "prior": {"power": 0.85, "start_time": 0.3, "phase_iterations": 2},
        "objective": {
            "class_path": "wavediff.diffusion.SignalRegression",
            "init_args": {"guess_share": 0.25, "phase_iterations": 2},
        },
        "distance": "mel",
    }
    path.write_text(json.dumps(config))
    assert main(arguments(path, "--trainer.max_steps=2", "--model.backbone.layers=2")) == 0
    made = load_checkpoint(tmp_path / "run" / "last.safetensors").config
    assert made.backbone == SpectralConfig(8, 8, 2)
    assert (made.schedule, made.prediction, made.prior.start_time) == (FlowSchedule(), "velocity", 0.3)
