"""DiffWave's shape, and that its fast evaluation equals the plain one."""

import pytest
import torch
from torch import nn

from wavediff.backbones import Condition, DiffWave, DiffWaveConfig
from wavediff.backbones.conditioning import Workspace
from wavediff.backbones.diffwave_inputs import STEP_FEATURES, MelUpsampler, encode_steps, upsample_factors
from wavediff.backbones.residual_layer import LABEL_FEATURES, GatedUnit, LayerProducts, ResidualLayer, add_products
from wavediff.engine import Pieces, accelerate, stream_diffwave
from wavediff.errors import ConfigError
from wavediff.mel.lines import Context, DelayLine

TINY = DiffWaveConfig(channels=8, layers=5, dilation_cycle=3)


def with_output(network: DiffWave) -> DiffWave:
    """Networks start with a zero output layer; tests need to see what is behind it."""
    nn.init.normal_(network.output_projection.weight, generator=torch.Generator().manual_seed(0))
    return network


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("channels", "millions"), [(64, 2.62), (128, 6.91)])
def test_base_and_large_have_the_published_number_of_parameters(channels: int, millions: float) -> None:
    network = DiffWave(DiffWaveConfig(channels=channels))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(
    ("hop_length", "factors"),
    [(256, (16, 16)), (300, (15, 20)), (275, (11, 25)), (512, (16, 32)), (480, (20, 24)), (1, (1, 1)), (13, (1, 13))],
)
def test_the_upsampler_gives_exactly_hop_length_samples_per_frame(hop_length: int, factors: tuple[int, int]) -> None:
    assert upsample_factors(hop_length) == factors
    for frames in (1, 2, 7):
        assert MelUpsampler(hop_length)(torch.randn(2, 4, frames)).shape == (2, 4, frames * hop_length)


def test_the_upsampler_puts_a_frame_where_its_samples_are() -> None:
    """For an odd factor too: with box kernels, frame 3 of 7 fills its own hop and half a hop on either side."""
    for hop_length in (256, 275):
        upsampler = MelUpsampler(hop_length)
        for layer in upsampler.layers:
            nn.init.zeros_(layer.bias)
            nn.init.zeros_(layer.weight)
            layer.weight.data[:, :, 1] = 1
        mel = torch.zeros(1, 1, 7)
        mel[..., 3] = 1
        position = upsampler(mel)[0, 0].nonzero().double().mean().item()
        assert position == pytest.approx(3.5 * hop_length, abs=0.05 * hop_length)


def test_a_hop_length_that_does_not_factor_is_refused_with_some_that_do() -> None:
    with pytest.raises(ConfigError, match=r"mel\.hop_length: 257 .*256"):
        DiffWave(TINY, hop_length=257)


def test_steps_are_encoded_as_in_equation_8() -> None:
    features = encode_steps(torch.tensor([3.0]), 50, "rising")[0].double()
    phase = 3 * 10 ** (torch.arange(64, dtype=torch.float64) * 4 / 63)
    # In float32, as networks have been trained: the fast phases, up to 30,000, are good to 0.002.
    torch.testing.assert_close(features, torch.cat([phase.sin(), phase.cos()]), atol=4e-3, rtol=0)
    torch.testing.assert_close(features[:16], phase[:16].sin(), atol=1e-5, rtol=0)


def test_a_fractional_step_lies_between_its_neighbours_for_every_item_of_a_batch() -> None:
    both = encode_steps(torch.tensor([10.0, 11.0, 10.25, 49.0]), 50, "rising")
    torch.testing.assert_close(both[2], 0.75 * both[0] + 0.25 * both[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(both[3], encode_steps(torch.tensor([49.0]), 50, "rising")[0])
    smooth = encode_steps(torch.tensor([10.5]), 50, "falling")[0]
    assert smooth[0].item() == pytest.approx(torch.tensor(10.5).sin().item(), abs=1e-6)


def test_the_first_prediction_is_zero_noise() -> None:
    network = DiffWave(TINY, n_mels=4)
    output = network(randn(1, 512), torch.ones(1), network.prepare(Condition(randn(1, 4, 2))))
    assert output.abs().max() == network.output_projection.bias.abs().item()


def test_the_skips_are_scaled_by_the_number_of_layers() -> None:
    """Equal layers must give a sum that grows with the root of their number, as figure 2 has it."""
    network = with_output(DiffWave(TINY, n_mels=None))
    for layer in network.layers:
        nn.init.zeros_(layer.output_projection.weight)
        layer.output_projection.bias.data.fill_(1.0)
    nn.init.ones_(network.skip_projection.weight)
    nn.init.zeros_(network.skip_projection.bias)
    output = network(randn(1, 64), torch.ones(1), network.prepare(Condition()))
    hidden = TINY.channels * TINY.layers / TINY.layers**0.5
    expected = hidden * network.output_projection.weight.sum() + network.output_projection.bias
    torch.testing.assert_close(output, expected.expand(1, 64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "n_mels", "n_classes"),
    [
        (TINY, 4, 0),
        (TINY, None, 0),
        (TINY, None, 3),
        (TINY, 4, 3),
        (DiffWaveConfig(8, 5, 3, "falling", upsampler_per_layer=True, step_in_residual=True), 4, 0),
        (DiffWaveConfig(channels=8, layers=12, dilation_cycle=10), 4, 0),
    ],
)
@pytest.mark.parametrize("samples", [700, 2 * 7 * 256])
def test_the_evaluation_in_pieces_equals_the_plain_one(
    config: DiffWaveConfig, n_mels: int | None, n_classes: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_diffwave, "SAMPLES", samples)
    network = with_output(DiffWave(config, n_mels=n_mels, hop_length=256, n_classes=n_classes))
    cond = Condition(None if n_mels is None else randn(2, n_mels, 7), torch.tensor([2, 0]) if n_classes else None)
    x_t, t = randn(2, 7 * 256, seed=1), torch.tensor([0.37, 1.0])
    expected = network(x_t, t, network.prepare(cond))
    faster = Pieces(network)
    torch.testing.assert_close(faster(x_t, t, faster.prepare(cond)), expected.detach(), rtol=1e-4, atol=1e-5)


def test_on_a_cpu_the_evaluation_in_pieces_is_chosen() -> None:
    assert isinstance(accelerate(DiffWave(TINY)), Pieces)


def test_class_and_mel_change_the_prediction_and_a_wrong_condition_is_refused() -> None:
    network = with_output(DiffWave(TINY, n_mels=4, n_classes=3))
    x_t, t, mel = randn(1, 512), torch.ones(1), randn(1, 4, 2)
    outputs = [
        network(x_t, t, network.prepare(Condition(m, torch.tensor([label]))))
        for m, label in ((mel, 0), (mel, 1), (-mel, 0))
    ]
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])
    for cond, cause in (
        (Condition(mel), "needs a label"),
        (Condition(None, torch.tensor([0])), "needs a mel"),
        (Condition(mel, torch.tensor([4])), "0 to 3, which is no class"),
        (Condition(mel, torch.tensor([0.5])), "int64"),
        (Condition(randn(1, 5, 2), torch.tensor([0])), r"\(B, 4, frames\)"),
    ):
        with pytest.raises(ConfigError, match=cause):
            network.prepare(cond)
    with pytest.raises(ConfigError, match="takes no mel"):
        DiffWave(TINY, n_mels=None).prepare(Condition(mel))


@pytest.mark.parametrize(
    "values",
    [
        {"channels": 10**9},
        {"channels": 0},
        {"channels": 8.0},
        {"layers": 10**6},
        {"dilation_cycle": 60},
        {"step_encoding": "none"},
        {"step_in_residual": 1},
    ],
)
def test_a_configuration_out_of_bounds_is_refused_before_anything_is_built(values: dict) -> None:  # fault 44
    with pytest.raises(ConfigError, match=next(iter(values))):
        DiffWaveConfig(**values)


def test_the_gate_and_its_own_gradient_are_sigmoid_times_tanh() -> None:
    y = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(GatedUnit.apply(y), y[:, :3].sigmoid() * y[:, 3:].tanh())
    assert torch.autograd.gradcheck(GatedUnit.apply, y)


@pytest.mark.parametrize("n_mels", [None, 5])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("sizes", [[30], [1] * 30, [4, 3, 1, 22]], ids=str)
def test_a_layer_in_steps_is_the_layer_on_the_whole(sizes: list[int], labelled: bool, n_mels: int | None) -> None:
    torch.manual_seed(0)
    layer, context, mels = ResidualLayer(8, 4, n_mels, labelled), Context(4, 4), DelayLine()
    products = LayerProducts.of(layer, torch.float32, Workspace(torch.device("cpu")))
    x, label = torch.randn(2, 30, 8), torch.randn(2, LABEL_FEATURES) if labelled else None
    time = torch.randn(2, STEP_FEATURES)
    mel = None if n_mels is None else torch.randn(2, 30, n_mels)
    steps: list[tuple[torch.Tensor, ...]] = []
    with torch.no_grad():
        mels.push(mel)
        h = x + layer.step_projection(time)[:, None]
        for index, piece in enumerate(h.split(sizes, 1)):
            window = context.push(piece, index == len(sizes) - 1)
            if window is not None:
                part = None if mel is None else mels.take(window.shape[1] - 8).transpose(1, 2)
                made = layer.step(window.transpose(1, 2), part, label, products)
                steps.append(tuple(output.clone() for output in made))
        whole = layer(x.transpose(1, 2), time, None if mel is None else mel.transpose(1, 2), label, True)
    for parts, expected in zip(zip(*steps, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.cat(parts, 2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 77, 4096])
def test_sums_of_products_need_few_shapes_in_bfloat16(
    rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = torch.Generator().manual_seed(0)
    bias = torch.randn(6, generator=draws).to(dtype)
    pairs = [
        (torch.randn(rows, 4, generator=draws).to(dtype), torch.randn(4, 6, generator=draws).to(dtype)) for _ in "ab"
    ]
    shapes, out = set(), torch.empty(rows, 6, dtype=dtype)
    addmm = torch.addmm

    def counted(bias: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        shapes.add(len(rows))
        return addmm(bias, rows, weight, out=out)

    monkeypatch.setattr(torch, "addmm", counted)
    batch = [(factor[None], weight) for factor, weight in pairs]
    add_products(bias[None], batch, out[None])
    expected = bias.float() + sum(left.float() @ right.float() for left, right in pairs)
    torch.testing.assert_close(out.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.1, rtol=0)
    # oneDNN would keep a program for every number of rows; of these there are a dozen.
    assert all(size & (size - 1) == 0 for size in shapes) or (dtype == torch.float32 and shapes == {rows})
