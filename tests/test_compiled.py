"""A caller's `torch.compile` leaves the models out: it would trace each step of sampling for minutes.

Networks and starts by themselves compile, each as one graph.
"""

import copy
import sys
from typing import Any

import pytest
import torch
from sounds import LABELS, UNET
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from vocoders import CONFIGS, SPEC, mels, untrained

from wavediff import MelSpec, Vocoder
from wavediff.backbones import Condition, DiffWaveConfig, SpectralConfig
from wavediff.compat import HiFiGANVocoder
from wavediff.diffusion import CosineSchedule, PriorConfig
from wavediff.models.config import ModelConfig, build_denoiser
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


def graphs_of(function: Any, *arguments: Any) -> int:
    """How many a compiler makes of a function; one that breaks is an error, and results are the function's."""
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(function, backend=counter, fullgraph=True)
    expected = function(*arguments)
    for _ in range(2):
        torch.testing.assert_close(compiled(*arguments), expected, atol=1e-4, rtol=1e-4)
    return int(counter.frame_count)


@pytest.mark.parametrize("name", CONFIGS)
def test_networks_and_starts_are_one_graph_each(name: str) -> None:
    denoiser = untrained(CONFIGS[name]).denoiser.requires_grad_(True).train()
    bound = denoiser.bind(Condition(mels(SPEC, 2)))
    x_t, t = torch.randn(2, 24 * SPEC.hop_length), torch.tensor([0.3, 0.5], dtype=torch.float64)
    assert graphs_of(denoiser.backbone.forward, x_t, t, bound.prepared) == 1
    if denoiser.start_time < 1:
        assert graphs_of(denoiser.prior.guess, x_t, bound.cond.envelope, bound.cond.magnitude) == 1


def test_the_network_of_sounds_is_one_graph() -> None:
    config = ModelConfig(UNET, CosineSchedule(), "v", sample_rate=8000, labels=LABELS)
    backbone, label = build_denoiser(config).backbone, torch.tensor([0, 2])
    prepared = backbone.prepare(Condition(label=label))  # type: ignore[operator]
    assert graphs_of(backbone.forward, torch.randn(2, 2048), torch.tensor([0.3, 0.5]), prepared) == 1


def test_a_copy_of_a_compiled_network_computes_with_its_own_weights() -> None:
    config = ModelConfig(DiffWaveConfig(4, 2, 2), mel=MelSpec())
    network = untrained(config).denoiser.backbone
    x_t, t = torch.randn(1, 1024, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    prepared = network.prepare(Condition(torch.full((1, 80, 4), -4.0)))  # type: ignore[operator]
    network.compile(backend="eager")
    before, copied = network(x_t, t, prepared), copy.deepcopy(network)
    torch.testing.assert_close(copied(x_t, t, prepared), before)
    with torch.no_grad():
        copied.output_projection.bias.add_(1.0)  # type: ignore[operator,union-attr]
    torch.testing.assert_close(copied(x_t, t, prepared), before + 1)
    torch.testing.assert_close(network(x_t, t, prepared), before)
