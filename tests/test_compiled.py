"""A caller's `torch.compile` leaves the models out: it would trace each step of sampling for minutes."""

import sys

import pytest
import torch
from torch import Tensor
from vocoders import untrained

from wavediff import MelSpec, Vocoder
from wavediff.backbones import SpectralConfig
from wavediff.compat import HiFiGANVocoder
from wavediff.diffusion import CosineSchedule, PriorConfig
from wavediff.models.config import ModelConfig
from wavediff.pipelines.pipeline import exact


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    prior = PriorConfig(power=0.8, start_time=0.3, phase_iterations=1)
    return untrained(ModelConfig(SpectralConfig(8, 4, 1), CosineSchedule(), "v", prior, MelSpec(), 22_050))


def test_compiled_hosts_and_streams_give_the_same_and_compile_next_to_nothing(vocoder: Vocoder) -> None:
    from torch._dynamo.utils import counters

    mel = -6 + 2 * torch.rand(1, 80, 12, generator=torch.Generator().manual_seed(0))

    def streamed(mel: Tensor) -> list[Tensor]:
        return list(vocoder.stream([mel], 1))

    host = HiFiGANVocoder(vocoder, num_steps=2)
    counters.clear()
    assert torch.equal(torch.compile(host, backend="eager")(mel), host(mel))
    assert torch.equal(torch.compile(streamed, backend="eager")(mel)[0], streamed(mel)[0])
    assert counters["stats"]["unique_graphs"] <= 3  # of what the host does around it
    assert counters["stats"]["calls_captured"] <= 12


def test_where_nobody_compiles_the_compiler_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    monkeypatch.setattr(torch.compiler, "disable", None)  # it would load it

    class Model:
        device = torch.device("cpu")

        @exact
        def answer(self) -> int:
            return 42

    assert Model().answer() == 42
    assert "torch._dynamo" not in sys.modules
