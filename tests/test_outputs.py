"""What the pipelines return: ordinary tensors, which callers change in place and train on."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from wavediff import Generator, Vocoder
from wavediff.engine.graphed_walk import GraphedCall

SHORT = {"num_steps": 1, "seconds": 0.05, "label": "glass"}


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return Vocoder.from_pretrained(device="cpu")


def outputs(vocoder: Vocoder) -> Iterator[Tensor]:
    """Of every public method that returns tensors."""
    waveform = 0.1 * torch.randn(5120, generator=torch.Generator().manual_seed(0))
    mel = vocoder.mel(waveform, 22_050)
    yield mel
    yield vocoder.mel(waveform, 16_000)
    yield vocoder(waveform, 22_050)
    yield vocoder.decode(mel, 2, sampler="dpmpp-2m")
    yield vocoder.decode(mel, 1, lengths=[9])
    yield vocoder.decode(mel, low_latency=True)
    yield from vocoder.stream(mel.split(3, -1), 1, low_latency=True)
    yield from vocoder.states(mel, 1)
    generator = Generator.from_pretrained(device="cpu")
    yield generator.generate(**SHORT)
    yield generator.generate(loop=True, **SHORT | {"label": "engine"})
    yield generator.vary(waveform[:2000], 22_050, num_steps=1)
    yield generator.inpaint(waveform[:2000], 22_050, 0.02, 0.04, num_steps=1)
    yield generator.interpolate(0, 1, count=2, **SHORT)
    yield from generator.states(**SHORT)


@pytest.mark.parametrize("inference", [False, True])
def test_outputs_are_ordinary_tensors_without_gradient(vocoder: Vocoder, inference: bool) -> None:
    with torch.inference_mode(inference):
        made = list(outputs(vocoder))
    for output in made:
        assert not output.is_inference()
        assert not output.requires_grad
        output *= 0.5
        output[..., :3] = 0
        torch.nn.Parameter(output)


def test_a_loss_against_a_mel_has_gradients(vocoder: Vocoder) -> None:
    target = vocoder.mel(torch.zeros(2560), 22_050)
    prediction = torch.nn.Conv1d(80, 80, 3, padding=1)(target)
    torch.nn.functional.mse_loss(prediction, target).backward()


def test_the_engine_returns_ordinary_tensors(vocoder: Vocoder) -> None:
    estimate = vocoder.bind(vocoder.mel(torch.zeros(2560), 22_050))
    assert not estimate(torch.zeros(1, 2560), torch.full((1,), 0.5, dtype=torch.float64)).is_inference()


def test_a_graph_made_under_inference_mode_is_replayed_outside_it() -> None:
    def capture(function: object, inputs: Sequence[Tensor]) -> tuple[Callable[[], object], Tensor]:
        output = torch.zeros(3)
        return lambda: output.copy_(inputs[0] + 1), output

    call = GraphedCall(lambda x: x + 1, capture=capture, device_type="cpu")
    with torch.inference_mode():
        call(torch.zeros(3))
    result = call(torch.ones(3))
    assert result.tolist() == [2, 2, 2]
    assert not result.is_inference()
