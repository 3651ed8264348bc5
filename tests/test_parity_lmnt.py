"""Weights imported from the `diffwave` package give the network and the audio that the package itself gives."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wavediff.backbones import Condition
from wavediff.diffusion import FAST_BETAS, make_sampler
from wavediff.diffusion.grids import align
from wavediff.engine import accelerate
from wavediff.models.checkpoint import Checkpoint
from wavediff.models.importing import import_checkpoint

pytest.importorskip("diffwave", reason="the reference implementation is absent: pip install diffwave")

from diffwave import inference, learner
from diffwave.model import DiffWave
from diffwave.params import AttrDict, params

FRAMES = 8
BASE: dict[str, Any] = {}
LARGE = {"residual_channels": 128, "noise_schedule": np.linspace(1e-4, 0.02, 200).tolist()}
TINY = {"residual_channels": 3, "residual_layers": 5, "dilation_cycle_length": 2}
TINY |= {"noise_schedule": np.linspace(1e-4, 0.1, 20).tolist()}


def reference(**changes: Any) -> DiffWave:
    """A network of the package; its last layer, zero at the start, gets weights that give a sound output."""
    torch.manual_seed(0)
    network = DiffWave(AttrDict(params | changes)).eval()
    torch.nn.init.normal_(network.output_projection.weight, std=2 * network.params.residual_channels**-0.5)
    return network


def imported(network: DiffWave, folder: Path) -> Checkpoint:
    """The network saved by the package's own trainer, and imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        trainer = learner.DiffWaveLearner(folder, network, None, torch.optim.Adam(network.parameters()), network.params)
    trainer.save_to_checkpoint()
    return import_checkpoint(folder / "weights.pt")


@pytest.mark.parametrize(("changes", "channels"), [(BASE, 64), (LARGE, 128), (TINY, 3)])
def test_imported_weights_give_the_packages_network(tmp_path: Path, changes: dict[str, Any], channels: int) -> None:
    network = reference(**changes)
    model = imported(network, tmp_path)
    num_steps = len(network.params.noise_schedule)
    assert (model.config.backbone.channels, model.config.schedule.num_steps) == (channels, num_steps)
    backbone: Any = model.build().backbone
    x, mel = torch.randn(1, FRAMES * 256), torch.rand(1, 80, FRAMES)
    for step in (num_steps - 1.0, 0.29, num_steps / 2 + 0.6):
        steps = torch.tensor([step])
        t = (steps.double() + 1) / num_steps
        with torch.inference_mode():
            expected = network(x, mel, steps).squeeze(1)
            for ours in (backbone, accelerate(backbone)):
                output = ours(x, t, ours.prepare(Condition(mel)))
                torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
        assert 0.1 < expected.std() < 10


class GlobalNoise:
    """Draws from torch's global generator, as the package does."""

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(1, length, dtype=dtype)


def test_six_step_audio_equals_the_packages(tmp_path: Path) -> None:
    network = reference()
    model = imported(network, tmp_path).build()
    mel = torch.rand(1, 80, FRAMES)
    inference.models["reference"] = network
    torch.manual_seed(1)
    expected, sample_rate = inference.predict(mel, "reference", device=torch.device("cpu"), fast_sampling=True)

    backbone = accelerate(model.backbone)
    with torch.inference_mode():
        prepared = backbone.prepare(Condition(mel))
        torch.manual_seed(1)
        noise = GlobalNoise()
        steps = make_sampler("ddpm").states(
            lambda x_t, t: model.x0_from(backbone(x_t, t, prepared), x_t, t),
            noise.normal(FRAMES * 256),
            model.schedule,
            align(model.schedule, FAST_BETAS["base"]),
            noise,  # type: ignore[arg-type]
        )
        for audio in steps:
            audio.clamp_(-1, 1)  # so does the package after each step; our samplers never do
    assert sample_rate == 22050
    assert expected.shape == audio.shape == (1, FRAMES * 256)
    assert (expected.abs() < 1).float().mean() > 0.3  # not all of it clamped
    torch.testing.assert_close(audio, expected, rtol=0, atol=1e-4)
