"""The examples: their numbers against the package's, and that they run as their users run them."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from wavediff.backbones import Condition, DiffWave, DiffWaveConfig
from wavediff.denoiser import Denoiser
from wavediff.diffusion import FAST_BETAS, DiscreteSchedule, ItemNoise, NoiseRegression, make_sampler
from wavediff.mel import MelSpec, MelTransform

EXAMPLE = Path(__file__).resolve().parent.parent / "egs" / "diffwave_in_one_file.py"
CHANNELS, LAYERS, FRAMES = 8, 11, 6  # more layers than a cycle of dilations has
SCHEDULE = DiscreteSchedule(num_steps=50, beta_min=1e-4, beta_max=0.05)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diffwave_in_one_file", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def networks(example: ModuleType) -> tuple[torch.nn.Module, DiffWave]:
    """The example's network and the package's, with the same weights, none of them zero."""
    torch.manual_seed(0)
    ours = example.DiffWave(CHANNELS, LAYERS)
    torch.nn.init.normal_(ours.output_projection.weight)
    package = DiffWave(DiffWaveConfig(channels=CHANNELS, layers=LAYERS), num_steps=50)
    names = {"upsampler.": "upsamplers.0.layers.", "step_embedding.0": "step_embedding.projection1"}
    names["step_embedding.2"] = "step_embedding.projection2"
    weights = {}
    for name, weight in ours.state_dict().items():
        for here, there in names.items():
            name = name.replace(here, there)
        weights[name] = weight
    package.load_state_dict(weights, strict=True)
    return ours.eval(), package.eval()


def batch(size: int) -> tuple[Tensor, Tensor]:
    """Waveform (size, N) and mel (size, 80, frames) in the range of a log-mel."""
    generator = torch.Generator().manual_seed(1)
    waveform = 0.1 * torch.randn(size, FRAMES * 256, generator=generator)
    return waveform, 3 * torch.randn(size, 80, FRAMES, generator=generator) - 4


@pytest.mark.parametrize("steps", [(1.0, 50.0), (17.0, 2.0), (3.7, 41.25)], ids=["ends", "whole", "fractional"])
def test_network_of_the_example_computes_what_the_packages_does(
    networks: tuple[torch.nn.Module, DiffWave], steps: tuple[float, float]
) -> None:
    ours, package = networks
    x_t, mel = batch(2)
    t = torch.tensor(steps, dtype=torch.float64)
    with torch.no_grad():
        expected = package(x_t, t / 50, package.prepare(Condition(mel)))
        torch.testing.assert_close(ours(x_t, t, mel), expected, rtol=1e-5, atol=1e-5)


def test_schedule_of_the_example_is_the_packages(example: ModuleType) -> None:
    torch.testing.assert_close(example.beta[1:], SCHEDULE.betas, rtol=0, atol=1e-9)
    torch.testing.assert_close(example.alpha_bar.flip(0), SCHEDULE.alpha(SCHEDULE.full_grid()) ** 2, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["base", "six whole steps"])
def test_fast_schedule_is_aligned_as_the_package_aligns_it(example: ModuleType, name: str) -> None:
    whole = tuple(SCHEDULE.betas[:6].tolist())
    betas = FAST_BETAS.get(name, whole)
    if name == "base":
        assert example.fast_eta[1:].tolist() == list(betas)
    steps = example.align(torch.tensor([0, *betas], dtype=torch.float64))
    torch.testing.assert_close(steps.flip(0) / 50, SCHEDULE.align(betas), rtol=0, atol=1e-6)


def test_loss_of_a_batch_is_that_of_noise_regression(
    example: ModuleType, networks: tuple[torch.nn.Module, DiffWave]
) -> None:
    ours, package = networks
    x_0, mel = batch(3)
    t = torch.tensor([1, 24, 50])
    prepared = package.prepare(Condition(mel))
    expected = NoiseRegression("l2")(
        lambda x_t, times: package(x_t, times, prepared),
        x_0,
        torch.full((3,), x_0.shape[1]),
        ItemNoise([5, 6, 7]),
        SCHEDULE,
        "eps",
        t.double() / 50,
    )
    eps = ItemNoise([5, 6, 7]).normal(x_0.shape[1])
    torch.testing.assert_close(example.noise_loss(ours, x_0, mel, t, eps), expected.mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "fast"])
def test_sampling_equals_the_packages_ddpm_with_the_same_noise(
    example: ModuleType, networks: tuple[torch.nn.Module, DiffWave], kind: str
) -> None:
    ours, package = networks
    # An untrained network's estimate drives x_t out of range; a small one keeps the waveform below the final clip.
    _, mel = batch(1)
    beta, t, grid = {
        "full": (example.beta, torch.arange(51, dtype=torch.float64), SCHEDULE.full_grid()),
        "fast": (example.fast_eta, example.align(example.fast_eta), SCHEDULE.align(FAST_BETAS["base"])),
    }[kind]
    torch.manual_seed(11)
    actual = example.sample(ours, mel, beta, t)
    denoiser, noise = Denoiser(package, SCHEDULE, "eps"), ItemNoise([11])
    with torch.no_grad():
        prepared = package.prepare(Condition(mel))
        x_T = noise.normal(FRAMES * 256)
        expected = make_sampler("ddpm")(
            lambda x_t, times: denoiser(x_t, times, prepared), x_T, SCHEDULE, grid, noise
        ).clamp(-1, 1)
    print(expected.std(), expected.abs().max(), (expected.abs() == 1).float().mean())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def test_mel_of_the_example_is_the_hifigan_dialect(example: ModuleType) -> None:
    waveform = example.spoken_glide()[None]
    expected = MelTransform(MelSpec.preset("hifigan"))(waveform)
    torch.testing.assert_close(example.mel_spectrogram(waveform), expected, rtol=0, atol=1e-3)
