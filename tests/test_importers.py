"""Foreign checkpoints: the author's network against an independent one, and files that fit no layout."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_files import LAYERS, author_state, lmnt_state, refused, saved
from torch import Tensor
from torch.nn import functional as F

from wavediff.backbones import Condition
from wavediff.cli.main import main
from wavediff.diffusion import DiscreteSchedule
from wavediff.diffusion.grids import published_betas
from wavediff.engine import accelerate
from wavediff.errors import ConfigError
from wavediff.models.checkpoint import load_checkpoint
from wavediff.models.importing import import_checkpoint

LAYER = "residual_layers.1"
BLOCK = "residual_layer.residual_blocks.1"


def author_network(weights: dict[str, Tensor], x: Tensor, mel: Tensor, step: Tensor, layers: int = LAYERS) -> Tensor:
    """The author's forward pass as the paper and its description tell it; steps (B,) count from 0."""

    def conv(name: str, x: Tensor, **options: int) -> Tensor:
        weight = torch._weight_norm(weights[f"{name}.weight_v"], weights[f"{name}.weight_g"], 0)
        return F.conv1d(x, weight, weights[f"{name}.bias"], **options)

    def upsample(name: str, mel: Tensor) -> Tensor:
        for stage in range(2):
            key = f"{name}.upsample_conv2d.{stage}"
            weight = torch._weight_norm(weights[f"{key}.weight_v"], weights[f"{key}.weight_g"], 0)
            mel = F.conv_transpose2d(mel, weight, weights[f"{key}.bias"], stride=(1, 16), padding=(1, 8))
            mel = F.leaky_relu(mel, 0.4)
        return mel

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    phase = step[:, None] * torch.exp(-math.log(10_000) * torch.arange(64) / 63)
    embedding = torch.cat([phase.sin(), phase.cos()], dim=1)
    embedding = F.silu(linear("residual_layer.fc_t2", F.silu(linear("residual_layer.fc_t1", embedding))))
    h = F.relu(conv("init_conv.0.conv", x[:, None]))
    skips = torch.zeros_like(h)
    for n in range(layers):
        block = f"residual_layer.residual_blocks.{n}"
        h = h + linear(f"{block}.fc_t", embedding)[..., None]  # stays in the stream
        y = conv(f"{block}.dilated_conv_layer.conv", h, padding=2**n, dilation=2**n)
        y = y + conv(f"{block}.mel_conv.conv", upsample(block, mel[:, None])[:, 0])
        filtered, gate = y.chunk(2, dim=1)
        gated = filtered.tanh() * gate.sigmoid()
        h = (h + conv(f"{block}.res_conv", gated)) / math.sqrt(2)
        skips = skips + conv(f"{block}.skip_conv", gated)
    x = F.relu(conv("final_conv.0.conv", skips / math.sqrt(layers)))
    return F.conv1d(x, weights["final_conv.2.conv.weight"], weights["final_conv.2.conv.bias"])[:, 0]


@pytest.mark.parametrize("zipped", [True, False])
def test_author_weights_give_the_authors_network(tmp_path: Path, zipped: bool) -> None:
    state = author_state(channels=8, layers=3)
    model = import_checkpoint(saved(tmp_path, state, zipped=zipped), num_steps=50, beta_max=0.05)
    backbone: Any = model.build().backbone
    generator = torch.Generator().manual_seed(1)
    x, mel = torch.randn(3, 5 * 256, generator=generator), torch.randn(3, 80, 5, generator=generator)
    for steps in ([0, 1, 49], [0.25, 17.5, 48.9]):
        step = torch.tensor(steps, dtype=torch.float64)
        expected = author_network(state["model_state_dict"], x, mel, step.float(), layers=3)
        assert 0.1 < expected.std() < 10
        t = (step + 1) / 50
        for network in (backbone, accelerate(backbone)):
            with torch.inference_mode():
                output = network(x, t, network.prepare(Condition(mel)))
            torch.testing.assert_close(output, expected, rtol=0, atol=1e-5 * float(expected.std()))


@pytest.mark.parametrize(("channels", "num_steps", "beta_max"), [(64, 50, 0.05), (128, 200, 0.02)])
def test_author_schedule_follows_from_the_width(tmp_path: Path, channels: int, num_steps: int, beta_max: float) -> None:
    path = saved(tmp_path, author_state(channels, 1))
    model = import_checkpoint(path)
    assert model.config.schedule == DiscreteSchedule(num_steps, 1e-4, beta_max)
    assert len(published_betas("fast6", model.config.schedule)) == 6
    assert model.config.mel is not None
    assert model.config.mel.name == "tacotron2"
    assert any("schedule" in guess for guess in model.facts["assumed"])
    told = import_checkpoint(path, mel="hifigan", num_steps=30, beta_max=0.1)
    assert (told.config.schedule.num_steps, told.config.schedule.beta_max) == (30, 0.1)
    assert told.config.mel is not None
    assert told.config.mel.name == "hifigan"
    assert told.facts["assumed"] == ["dilation cycle 10"]


def test_another_width_needs_its_schedule_told(tmp_path: Path) -> None:
    path = saved(tmp_path, author_state())
    refused(path, "none was published for 4 channels; give --num-steps", num_steps=None, beta_max=None)
    with pytest.raises(ConfigError, match="both or neither"):
        import_checkpoint(path, num_steps=50)


def test_lmnt_configuration_is_the_files_own(tmp_path: Path) -> None:
    betas = DiscreteSchedule(20, 2e-4, 0.1).betas.tolist()
    state = lmnt_state(8, 3, noise_schedule=betas, dilation_cycle_length=2)
    model = import_checkpoint(saved(tmp_path, state))
    assert model.config.schedule == DiscreteSchedule(20, 2e-4, 0.1)
    backbone = model.config.backbone
    assert (backbone.channels, backbone.layers, backbone.dilation_cycle) == (8, 3, 2)
    assert model.config.mel is not None
    assert model.config.mel.name == "lmnt-diffwave"
    assert model.facts["steps"] == 7
    assert model.facts["assumed"] == ["mel dialect lmnt-diffwave"]
    refused(saved(tmp_path, state), "its own schedule has 20 steps", num_steps=50, beta_max=0.05)
    del state["params"]
    guessed = import_checkpoint(saved(tmp_path, state), num_steps=20, beta_max=0.1).config
    assert (guessed.backbone.channels, guessed.backbone.layers, guessed.backbone.dilation_cycle) == (8, 3, 10)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"noise_schedule": [1e-4, 1e-3, 0.05]}, "not linear"),
        ({"noise_schedule": [0.05, 1e-4]}, "beta_min <= beta_max"),
        ({"noise_schedule": [1e-4, math.nan]}, "beta_min <= beta_max"),
        ({"noise_schedule": "linear"}, "not a list of numbers"),
        ({"sample_rate": 16000}, "sample_rate is 16000, mel dialect lmnt-diffwave has 22050"),
        ({"n_fft": 2048}, "n_fft is 2048"),
        ({"hop_samples": 300}, "hop_samples is 300"),
        ({"residual_channels": 10**9}, "channels: 1000000000 is not"),  # fault 44
        ({"residual_layers": 256}, "disagree: 2032 missing"),  # fault 44
        ({"residual_layers": True}, "not a whole number"),
        ({"residual_layers": 3}, "disagree: 8 missing .*residual_layers.2.conditioner_projection.bias"),  # fault 43
        ({"residual_layers": 1}, f"disagree: 0 missing .*8 unexpected .*{LAYER}"),  # fault 43
        ({"residual_channels": 1024}, r"has shape \(4, 1, 1\).* \(1024, 1, 1\); check backbone.channels"),  # fault 43
    ],
)
def test_lmnt_params_that_cannot_be_followed_are_refused(tmp_path: Path, params: dict[str, Any], reason: str) -> None:
    refused(saved(tmp_path, lmnt_state(**params)), reason, num_steps=None, beta_max=None)


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        (f"{BLOCK}.res_conv.bias", None, f"1 missing .*{BLOCK}.res_conv.bias"),  # fault 41
        ("evil\nname", torch.ones(1), r"1 unexpected \(evil name\)"),  # fault 41
        (f"{BLOCK}.mel_conv.conv.weight_v", torch.ones(8, 100, 1), r"\(8, 80, 1\); check the mel dialect"),  # fault 42
        (f"{BLOCK}.mel_conv.conv.weight_g", torch.ones(1, 1, 1), r"\(1, 1, 1\), the configuration gives \(8, 1, 1\)"),
        (f"{BLOCK}.skip_conv.weight_v", torch.ones(6, 4, 1), "check backbone.channels"),  # fault 42
        (f"{BLOCK}.fc_t.bias", torch.tensor([0.0, math.nan, 0.0, 0.0]), "step_projection.bias; use an earlier"),
        (f"{BLOCK}.fc_t.bias", torch.tensor([1e300, 0, 0, 0], dtype=torch.float64), "NaN or infinite"),  # fault 46
        (f"{BLOCK}.res_conv.weight_v", torch.zeros(4, 4, 1), "NaN or infinite"),  # fault 46
        (f"{BLOCK}.fc_t.bias", torch.ones(4, dtype=torch.int64), "not a tensor of floating-point"),
        (f"{BLOCK}.fc_t.bias", torch.ones(4, device="meta"), "not a tensor of floating-point"),
        (f"{BLOCK}.fc_t.bias", [0.0] * 4, "not a tensor of floating-point"),
        (f"{BLOCK}.fc_t.bias", torch.ones(1).expand(10**9), "claims .* bytes"),  # fault 44
    ],
)
def test_unfit_weights_are_refused(tmp_path: Path, name: str, tensor: Any, reason: str) -> None:
    state = author_state()
    if tensor is None:
        del state["model_state_dict"][name]
    else:
        state["model_state_dict"][name] = tensor
    refused(saved(tmp_path, state), reason)


def test_other_files_are_refused_with_what_they_hold(tmp_path: Path) -> None:
    refused(saved(tmp_path, {"generator": {}, "epoch": 1}), "of no known layout .* holds 'generator', 'epoch'")
    refused(saved(tmp_path, lmnt_state()), "not of the author layout", layout="author")
    refused(saved(tmp_path, {"state_dict": {}, "pytorch-lightning_version": "2.6"}), "wavediff export")
    refused(saved(tmp_path, [1]), "holds a list")
    refused(tmp_path / "absent.pt", "does not exist")
    refused(tmp_path, "is not a file")
    other = "is no DiffWave checkpoint, which torch.save writes; use another"
    cut = "cannot be read"
    contents = {b"": "is empty; ", b"\x00" * 100: other, b"PK\x03\x04" + bytes(30): cut, b"no weights in here\n": other}
    for content, reason in (contents | {b"\x80\x02}": cut}).items():
        (tmp_path / "a.pt").write_bytes(content)
        refused(tmp_path / "a.pt", reason)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `wavediff import`."""
    status = main(["import", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_the_command_writes_a_model_and_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = saved(tmp_path, lmnt_state()), tmp_path / "model.safetensors"
    status, stdout, stderr = run(capsys, path, "-o", output)
    assert (status, stderr) == (0, "")
    for found in (
        "lmnt layout",
        "trained for 7 steps",
        "4 channels, 2 layers",
        "50 steps",
        "mel dialect lmnt-diffwave",
    ):
        assert found in stdout
    model, direct = load_checkpoint(output), import_checkpoint(path)
    assert model.config == direct.config
    assert model.facts == direct.facts
    assert all(torch.equal(model.weights[name], tensor) for name, tensor in direct.weights.items())

    status, stdout, stderr = run(capsys, path, "-o", output)
    assert status == 2
    assert "already exists" in stderr
    status, stdout, _ = run(capsys, path, "-o", output, "--overwrite", "--json")
    assert status == 0
    assert json.loads(stdout)["config"] == model.config.to_dict()


def test_the_command_passes_its_options_on_and_fails_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = saved(tmp_path, author_state()), tmp_path / "model.safetensors"
    status, _, stderr = run(capsys, path, "-o", output)
    assert status == 2
    assert stderr.count("\n") == 1
    assert "--num-steps" in stderr
    assert not output.exists()
    options = ("--layout", "author", "--mel", "hifigan", "--num-steps", "30", "--beta-max", "0.1")
    assert run(capsys, path, "-o", output, *options)[0] == 0
    config = load_checkpoint(output).config
    assert config.mel is not None
    assert (config.mel.name, config.schedule.num_steps, config.schedule.beta_max) == ("hifigan", 30, 0.1)
