"""The examples: their numbers against the package's, and that they run as their users run them."""

import dataclasses
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import load_example
from torch import Tensor

from wavediff.backbones import Condition, DiffWave, DiffWaveConfig
from wavediff.diffusion import FAST_BETAS, DiscreteSchedule, ItemNoise, NoiseRegression, make_sampler
from wavediff.diffusion.grids import align, full_grid
from wavediff.mel import MelSpec, MelTransform
from wavediff.models.denoiser import Denoiser

EXAMPLE = Path(__file__).resolve().parent.parent / "egs" / "diffwave_in_one_file.py"
CHANNELS, LAYERS, FRAMES = 8, 11, 6  # more layers than a cycle of dilations has
SCHEDULE = DiscreteSchedule(num_steps=50, beta_min=1e-4, beta_max=0.05)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_example(EXAMPLE.stem)


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
    torch.testing.assert_close(example.alpha_bar.flip(0), SCHEDULE.alpha(full_grid(SCHEDULE)) ** 2, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "betas", [FAST_BETAS["base"], tuple(SCHEDULE.betas[:6].tolist()), (0.3, 0.35)], ids=["fast", "whole", "late"]
)
def test_short_schedule_is_aligned_as_the_package_aligns_it(example: ModuleType, betas: tuple[float, ...]) -> None:
    steps = example.align(torch.tensor([0, *betas], dtype=torch.float64))
    torch.testing.assert_close(steps.flip(0) / 50, align(SCHEDULE, betas), rtol=0, atol=1e-6)


def test_fast_schedule_is_the_published_one(example: ModuleType) -> None:
    assert example.fast_eta.tolist() == [0, *FAST_BETAS["base"]]


def test_loss_of_a_batch_is_that_of_noise_regression(
    example: ModuleType, networks: tuple[torch.nn.Module, DiffWave]
) -> None:
    ours, package = networks
    x_0, mel = batch(3)
    t = torch.tensor([1, 24, 50])
    process, lengths = Denoiser(package, SCHEDULE, "eps").bind(Condition(mel)), torch.full((3,), x_0.shape[1])
    expected = NoiseRegression("l2")(process, x_0, lengths, ItemNoise([5, 6, 7]), t=t.double() / 50)
    eps = ItemNoise([5, 6, 7]).normal(x_0.shape[1])
    torch.testing.assert_close(example.noise_loss(ours, x_0, mel, t, eps), expected.mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "fast"])
def test_sampling_equals_the_packages_ddpm_with_the_same_noise(
    example: ModuleType, networks: tuple[torch.nn.Module, DiffWave], kind: str
) -> None:
    ours, package = networks
    _, mel = batch(1)
    prepared = package.prepare(Condition(mel))

    def believable(output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Half of x_t is noise: so the waveform stays below the final clip and still remembers every draw."""
        return 0.5 * x_t / SCHEDULE.sigma(t / 50).float()[:, None] + 0.5 * output

    eta, grid = {
        "full": (example.beta, full_grid(SCHEDULE)),
        "fast": (example.fast_eta, align(SCHEDULE, FAST_BETAS["base"])),
    }[kind]
    torch.manual_seed(11)
    actual = example.sample(lambda x_t, t, mel: believable(ours(x_t, t, mel), x_t, t), mel, eta)

    denoiser, noise = Denoiser(package, SCHEDULE, "eps"), ItemNoise([11])

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return denoiser.x0_from(believable(package(x_t, t, prepared), x_t, 50 * t), x_t, t)

    with torch.no_grad():
        expected = make_sampler("ddpm")(denoise, noise.normal(FRAMES * 256), SCHEDULE, grid, noise)
    assert 0.01 < expected.abs().max() < 0.9
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def test_mel_of_the_example_is_the_hifigan_dialect_scaled(example: ModuleType) -> None:
    samples, rate = example.made_up_voice()
    waveform = samples.T[:, : rate // 2]
    waveform[:, rate // 4 :] = 0  # the floor shows in silence
    expected = MelTransform(dataclasses.replace(MelSpec.preset("hifigan"), scale=0.4, offset=2.0))(waveform)
    torch.testing.assert_close(example.mel_spectrogram(waveform), expected, rtol=0, atol=1e-4)


def test_example_trains_on_a_clip_and_writes_the_clip_again(tmp_path: Path) -> None:
    time = np.arange(2400) / 16000
    clip = np.stack([0.3 * np.sin(2 * np.pi * 200 * time), 0.1 * np.sin(2 * np.pi * 600 * time)], axis=1)
    sf.write(tmp_path / "clip.wav", clip, 16000)
    again = tmp_path / "again.wav"
    command = [
        sys.executable,
        str(EXAMPLE),
        "--clip",
        str(tmp_path / "clip.wav"),
        "--steps",
        "20",
        "--output",
        str(again),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", result.stdout)]
    assert len(losses) == 10
    assert losses[0] > 0.7  # it starts by estimating no noise
    assert losses[-1] < 0.6 * losses[0]
    samples = 3308 // 256 * 256  # whole frames of 2400 / 16000 s at 22050 Hz
    for path in (again, tmp_path / "again_fast.wav"):
        waveform, rate = sf.read(path)
        assert rate == 22050
        assert waveform.shape == (samples,)
        assert np.isfinite(waveform).all()
        assert waveform.std() > 0


@pytest.mark.parametrize("name", ["again.wav", "again_fast.wav"])
def test_example_keeps_a_file_that_is_already_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    kept = tmp_path / name
    kept.write_bytes(b"mine")
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--output", str(tmp_path / "again.wav"), "--steps", "1"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "already exists" in capsys.readouterr().err
    assert kept.read_bytes() == b"mine"
