"""The U-Net, its parts against torch's own, and folding."""

import pytest
import torch
from sounds import shake
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.backbones import Condition, DiffWave, DiffWaveConfig, UNet, UNetConfig
from wavediff.backbones.conditioning import VARIATION_FEATURES, fold, unfold
from wavediff.backbones.unet import ChannelNorm, Downsample, ResidualBlock, SelfAttention, Upsample
from wavediff.engine import accelerate
from wavediff.errors import ConfigError

SMALL = UNetConfig(channels=8, multipliers=(1, 2), factors=(3,), blocks=1, attention_levels=1)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(config: UNetConfig = SMALL, **options: int) -> UNet:
    torch.manual_seed(0)
    net = UNet(config, **options).eval().requires_grad_(False)
    shake(net)
    return net


def predict(net: UNet, x: Tensor, t: Tensor | None = None, label: Tensor | None = None) -> Tensor:
    return net(x, torch.full((len(x),), 0.5) if t is None else t, net.prepare(Condition(label=label)))


def test_folding_puts_the_values_of_a_frame_into_channels() -> None:
    signal = torch.arange(7)[None]
    assert fold(signal, 3).tolist() == [[[0, 3, 6], [1, 4, 0], [2, 5, 0]]]
    assert unfold(fold(signal, 3), 7).tolist() == signal.tolist()
    assert torch.equal(fold(signal, 1)[:, 0], signal)


@pytest.mark.parametrize("length", [1, 5, 6, 7, 100])
@pytest.mark.parametrize("fold_by", [1, 4])
def test_any_length_goes_in_and_comes_out(length: int, fold_by: int) -> None:
    config = UNetConfig(channels=8, multipliers=(1, 1, 2), factors=(2, 3), blocks=1, attention_levels=2, fold=fold_by)
    net = network(config)
    assert net.multiple == 6 * fold_by
    assert predict(net, randn(2, length)).shape == (2, length)


def test_a_new_network_predicts_nothing_and_every_weight_gets_a_gradient_once_it_does() -> None:
    net = UNet(SMALL, n_classes=3)
    x, label = randn(2, 12), torch.tensor([0, 3])
    assert not predict(net, x, label=label).any()
    shake(net)
    predict(net, x, label=label).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_signal_wider_than_the_network_also_goes_straight_to_the_output() -> None:
    """By a factor for each channel and time: with nothing else, the output is that and no more."""
    config = UNetConfig(channels=4, multipliers=(1, 1), factors=(2,), blocks=1, attention_levels=0, direct=True)
    net = UNet(config, signal_channels=6).eval().requires_grad_(False)
    assert not predict(net, randn(1, 48)).any()
    nn.init.normal_(net.direct.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    x, t = randn(2, 48), torch.tensor([0.2, 0.8])
    factors = predict(net, x, t).view(2, 8, 6) / x.view(2, 8, 6)
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 8, -1), rtol=1e-4, atol=1e-5)
    assert (factors[0, 0] - factors[1, 0]).abs().min() > 1e-3
    assert len(set(factors[0, 0].tolist())) == 6


def test_what_is_told_of_a_variation_counts_and_nothing_told_is_no_variation() -> None:
    config = UNetConfig(channels=8, multipliers=(1, 2), factors=(3,), blocks=1, attention_levels=1, augmented=True)
    net = network(config, n_classes=2)
    x, t, label = randn(2, 12), torch.full((2,), 0.5), torch.tensor([0, 1])

    def told(variation: Tensor | None) -> Tensor:
        return net(x, t, net.prepare(Condition(label=label, variation=variation)))

    none = told(None)
    assert torch.equal(told(torch.zeros(2, VARIATION_FEATURES)), none)
    first = torch.zeros(2, VARIATION_FEATURES)
    first[0] = 1.0
    assert (told(first)[0] - none[0]).abs().max() > 1e-3
    assert torch.equal(told(first)[1], none[1])
    plain = network(n_classes=2)
    assert torch.equal(plain.prepare(Condition(label=label, variation=first)), plain.prepare(Condition(label=label)))


def test_time_class_and_neighbours() -> None:
    net = network(n_classes=3)
    x, label = randn(3, 30), torch.tensor([0, 1, 3])
    whole = predict(net, x, label=label)
    for index in range(3):
        assert torch.allclose(
            predict(net, x[index : index + 1], label=label[index : index + 1]), whole[index], atol=1e-5
        )
    assert (predict(net, x, label=label.flip(0)) - whole).abs().max() > 1e-3
    assert (predict(net, x, torch.full((3,), 0.9), label) - whole).abs().max() > 1e-3
    with pytest.raises(ConfigError, match="needs a label"):
        net.prepare(Condition())
    with pytest.raises(ConfigError, match="takes no mel"):
        net.prepare(Condition(randn(1, 4, 4), torch.tensor([0])))


def test_silence_that_follows_changes_nothing_far_away() -> None:
    """Norms look at one frame; without attention only the convolutions reach over, and not far."""
    net = network(UNetConfig(channels=8, multipliers=(1, 2), factors=(2,), blocks=1, attention_levels=0))
    x = randn(1, 400)
    longer = torch.cat([x, torch.zeros(1, 400)], dim=1)
    assert torch.allclose(predict(net, longer)[:, :300], predict(net, x)[:, :300], atol=1e-5)


def test_the_parts_are_those_of_torch() -> None:
    x = randn(2, 64, 10)
    norm = ChannelNorm(64)
    nn.init.normal_(norm.scale)
    expected = F.rms_norm(x.transpose(1, 2), (64,), norm.scale[:, 0], 1e-6).transpose(1, 2)
    assert torch.allclose(norm(x), expected, atol=1e-5)

    attention = SelfAttention(64)
    shake(attention)
    theirs = nn.MultiheadAttention(64, attention.heads, batch_first=True)
    with torch.no_grad():
        # Theirs has all queries first, then all keys, then all values, as ours does.
        theirs.in_proj_weight.copy_(attention.queries_keys_values.weight[..., 0])
        theirs.in_proj_bias.copy_(attention.queries_keys_values.bias)
        theirs.out_proj.weight.copy_(attention.output.weight[..., 0])
        theirs.out_proj.bias.copy_(attention.output.bias)
    h = attention.norm(x).transpose(1, 2)
    assert torch.allclose(attention(x), x + theirs(h, h, h)[0].transpose(1, 2), atol=1e-4)

    up = Upsample(64, 3)
    assert torch.allclose(up(x, x), up.conv(F.interpolate(x, scale_factor=3.0, mode="nearest")), atol=1e-5)
    for factor in (2, 3, 5):
        assert Downsample(64, factor)(randn(1, 64, 30), x).shape == (1, 64, 30 // factor)


def test_a_block_begins_as_its_shortcut() -> None:
    x = randn(1, 8, 5)
    assert torch.allclose(ResidualBlock(8, 8)(x), x, atol=0.5)  # but for the bias of its last convolution
    block = ResidualBlock(8, 4, features=6)
    nn.init.zeros_(block.conv2.bias)  # type: ignore[arg-type]
    assert torch.allclose(block(x, randn(1, 6)), block.shortcut(x))


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"channels": 0}, "backbone.channels: 0"),
        ({"multipliers": (1, 2, 2), "factors": (2,)}, "3 multipliers need one factor less, got 1"),
        ({"multipliers": "12"}, "backbone.multipliers"),
        ({"factors": (2.0, 2)}, "backbone.factors"),
        ({"attention_levels": 4}, "attention_levels: 4"),
        ({"dropout": 1.0}, "dropout: 1.0"),
        ({"fold": True}, "backbone.fold: True"),
        ({"fold": 4096, "factors": (4, 8)}, "fold times factors is 131072"),
    ],
)
def test_impossible_shapes_are_refused(fields: dict, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):  # fault 44
        UNetConfig(**fields)


# DiffWave on frames of several samples


def test_a_folded_diffwave_is_diffwave_on_channels() -> None:
    """Of two channels of a signal, when fold is 2: input and output layers alone see more."""
    torch.manual_seed(0)
    net = DiffWave(DiffWaveConfig(8, 3, 3, fold=2), num_steps=20, n_mels=None, n_classes=2).eval().requires_grad_(False)
    shake(net)
    x, t = randn(2, 81), torch.tensor([0.5, 1.0])
    prepared = net.prepare(Condition(label=torch.tensor([1, 2])))
    whole = net(x, t, prepared)
    assert whole.shape == (2, 81)
    fast = accelerate(net)
    assert torch.allclose(fast(x, t, fast.prepare(Condition(label=torch.tensor([1, 2])))), whole, atol=1e-5)
    # Frames are what it sees: a shift by a frame goes through, a shift by a sample does not.
    middle = slice(36, 46)
    shifted = net(F.pad(x, (2, -2)), t, prepared)
    assert torch.allclose(shifted[:, 38:48], whole[:, middle], atol=1e-5)
    assert not torch.allclose(net(F.pad(x, (1, -1)), t, prepared)[:, 37:47], whole[:, middle], atol=1e-3)


def test_a_fold_that_does_not_divide_the_hop_is_refused() -> None:
    with pytest.raises(ConfigError, match="fold: 3 does not divide the mel's hop of 256"):
        DiffWave(DiffWaveConfig(8, 3, 3, fold=3), n_mels=4, hop_length=256)
    assert DiffWave(DiffWaveConfig(8, 3, 3, fold=4), n_mels=4, hop_length=256).frame == 4
