"""bfloat16 on a processor that has no instructions for it: whoever asks for it is told."""

import warnings
from pathlib import Path

import pytest
import torch
from runs import arguments, recipe
from vocoders import untrained

from wavediff.backbones import DiffWaveConfig, SpectralConfig
from wavediff.cli.main import main
from wavediff.diffusion import CosineSchedule, PriorConfig
from wavediff.engine import accelerate, precision
from wavediff.engine.precision import gemm_rate
from wavediff.mel import MelSpec
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.pipelines.pipeline import whole_float32

SPEC = MelSpec.preset("hifigan")
DIFFWAVE = ModelConfig(DiffWaveConfig(channels=8, layers=2, dilation_cycle=2), mel=SPEC)
SPECTRAL = ModelConfig(
    SpectralConfig(bands=16, channels=8, layers=1), CosineSchedule(), "v", PriorConfig(power=0.8), SPEC
)


@pytest.fixture(params=[75.0, 0.5])
def takes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """A processor without bfloat16, and one with it."""
    monkeypatch.setattr(precision, "bfloat16_time", lambda: request.param)
    return request.param


def test_a_processor_that_converts_every_number_is_noticed() -> None:
    capability = torch.backends.cpu.get_cpu_capability()
    if capability != "AVX2":
        pytest.skip(f"what bfloat16 takes is known for AVX2 alone, this processor has {capability}")
    assert precision.slow_in_bfloat16(torch.device("cpu"))


def test_a_gpu_is_not_judged_by_the_processor(takes: float) -> None:
    assert precision.slow_in_bfloat16(torch.device("cpu")) == (takes > 1)
    assert not precision.slow_in_bfloat16(torch.device("cuda"))


@pytest.mark.parametrize("config", [DIFFWAVE, SPECTRAL], ids=["diffwave", "spectral"])
def test_vocoding_warns_where_layers_in_bfloat16_would_be_slow(config: ModelConfig, takes: float) -> None:
    vocoder = untrained(config)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        vocoder.to("cpu", torch.bfloat16)
    assert len(said) == (takes > 1)
    assert all("75 times as long as in float32; use float32" in str(warning.message) for warning in said)


@pytest.mark.parametrize("asked", ["bf16-mixed", "32-true"])
def test_training_warns_at_its_start_and_goes_on(
    asked: str, takes: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(recipe(tmp_path), "--trainer.max_steps=1", f"--trainer.precision={asked}")) == 0
    assert ("--trainer.precision 32-true" in capsys.readouterr().err) == (takes > 1 and asked == "bf16-mixed")


def test_threads_within_share_whole_float32_and_the_last_one_brings_the_setting_back() -> None:
    """Also where a program uses torch's newer names of these settings, or its one for matrix products."""
    place, device = torch.backends.cuda.matmul, torch.device("cuda")
    before = place.fp32_precision
    try:
        for allowed in ("tf32", "none"):
            place.fp32_precision = allowed
            first, second = whole_float32(device), whole_float32(device)
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)
            assert place.fp32_precision == "ieee"
            second.__exit__(None, None, None)
            assert place.fp32_precision == allowed
    finally:
        place.fp32_precision = before
    torch.get_float32_matmul_precision()  # raises where settings of both kinds were mixed


def test_measuring_bfloat16_draws_no_number_of_the_programs() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    gemm_rate(torch.device("cpu"), torch.bfloat16, repeats=1, size=8)
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_that_no_layer_takes_is_said() -> None:
    network = build_denoiser(SPECTRAL).backbone.to("meta")
    with pytest.warns(UserWarning, match="computed in float32"):
        accelerate(network, torch.bfloat16)
