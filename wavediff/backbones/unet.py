"""A 1-D U-Net for sounds without a mel: free or by class, of waveforms or of latents.

Residual blocks on several rates and attention on the lowest (Ho et al. 2020, arXiv 2006.11239, appendix B, in one
dimension as in Moûsai, Schneider et al. 2023, arXiv 2301.11757). A norm looks at one frame only, never over time, so
that the silence after a sound does not change its scale, and any length can be generated.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import check_bounds
from wavediff.backbones.conditioning import (
    TIME_FEATURES,
    VARIATION_FEATURES,
    BackboneConfig,
    Condition,
    TimeEmbedding,
    check_condition,
    fold,
    unfold,
    zeroed,
)
from wavediff.errors import ConfigError

HEAD_CHANNELS = 32
MAX_REDUCTION = 1 << 16  # samples, or latent frames, that become one frame of the lowest rate


@dataclass(frozen=True)
class UNetConfig(BackboneConfig):
    """Shape of the network; there is one level more than there are factors.

    Attributes:
        channels: of the residual stream at the highest rate.
        multipliers: channels of each level over `channels`, highest rate first.
        factors: by which the rate falls from each level to the next.
        blocks: residual blocks of a level on the way down; on the way up there is one more.
        attention_levels: how many levels, from the lowest rate up, have attention.
        fold: samples that the first layer takes as one frame; 1 for latents.
        dropout: in the residual blocks, while training.
        direct: the signal also goes straight to the output, each channel by a factor that follows from the time. What a
            network returns holds noise of all channels of the signal, and `channels` may be too few to carry it.
        augmented: in training the network is told how an item was varied, so that strong variations do not leak into
            what it generates (Karras et al. 2022, arXiv 2206.00364, appendix F.2).

    Raises:
        ConfigError: a value out of bounds, or levels and factors that do not fit.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2)
    factors: tuple[int, ...] = (2, 2)
    blocks: int = 2
    attention_levels: int = 1
    fold: int = 1
    dropout: float = 0.0
    direct: bool = False
    augmented: bool = False

    def __post_init__(self) -> None:
        for name in ("multipliers", "factors"):  # JSON and YAML have lists
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or not all(type(v) is int and 1 <= v <= 64 for v in value):
                raise ConfigError(f"backbone.{name}: {value!r} is not a list of whole numbers from 1 to 64")
            object.__setattr__(self, name, tuple(value))
        sizes = {"channels": (1, 2048), "blocks": (1, 16), "attention_levels": (0, 16), "fold": (1, 4096)}
        check_bounds(self, "backbone", **sizes, direct=(False, True), augmented=(False, True))
        if not 1 <= len(self.multipliers) <= 12 or len(self.multipliers) != len(self.factors) + 1:
            raise ConfigError(
                f"backbone: {len(self.multipliers)} multipliers need one factor less, got {len(self.factors)}, and at "
                "most 11"
            )
        if self.fold * math.prod(self.factors) > MAX_REDUCTION:
            raise ConfigError(
                f"backbone: fold times factors is {self.fold * math.prod(self.factors)}, more than {MAX_REDUCTION}; "
                "lower one of them"
            )
        if self.attention_levels > len(self.multipliers):
            raise ConfigError(f"backbone.attention_levels: {self.attention_levels} exceeds the number of levels")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"backbone.dropout: {self.dropout} is outside [0, 1)")


class UNet(nn.Module):
    """(x_t (B, N), t (B,), prepared condition) -> prediction (B, N), any N.

    Args:
        config: its shape.
        signal_channels: values of a frame of the signal: 1 for waveforms, the channels of latents.
        n_classes: classes of a class-conditional model, 0 for none. Class `n_classes` means none of them.
    """

    def __init__(self, config: UNetConfig, *, signal_channels: int = 1, n_classes: int = 0) -> None:
        super().__init__()
        self.config, self.n_classes = config, n_classes
        self.frame = config.fold * signal_channels
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        first_attention = len(widths) - config.attention_levels
        self.time = TimeEmbedding()
        self.label_embedding = nn.Embedding(n_classes + 1, TIME_FEATURES) if n_classes else None
        self.variation = zeroed(nn.Linear(VARIATION_FEATURES, TIME_FEATURES, bias=False)) if config.augmented else None
        self.input_projection = nn.Conv1d(self.frame, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, width = [widths[0]], widths[0]
        for level, target in enumerate(widths):
            if level:
                self.down.append(Downsample(width, config.factors[level - 1]))
                skips.append(width)
            for _ in range(config.blocks):
                self.down.append(Stage(width, target, config.dropout, level >= first_attention))
                width = target
                skips.append(width)
        self.middle = nn.ModuleList(
            [Stage(width, width, config.dropout, config.attention_levels > 0), Stage(width, width, config.dropout)]
        )
        for level, target in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(Stage(width + skips.pop(), target, config.dropout, level >= first_attention))
                width = target
            if level:
                self.up.append(Upsample(width, config.factors[level - 1]))
        self.output_norm = ChannelNorm(width)
        self.output_projection = zeroed(nn.Conv1d(width, self.frame, 3, padding=1))
        self.direct = zeroed(nn.Linear(TIME_FEATURES, self.frame)) if config.direct else None

    @property
    def multiple(self) -> int:
        """Lengths N that need no filling up are multiples of this."""
        return self.frame * math.prod(self.config.factors)

    def prepare(self, cond: Condition) -> Tensor | None:
        """Features (B, 256) of the label and of the variation, which no diffusion step changes; None without either.

        Raises:
            ConfigError: `cond` is not what the network was built for.
        """
        check_condition(cond, None, self.n_classes)
        label = None if self.label_embedding is None else self.label_embedding(cond.label)
        if self.variation is None or cond.variation is None:
            return label
        variation = self.variation(cond.variation)
        return variation if label is None else label + variation

    def forward(self, x_t: Tensor, t: Tensor, prepared: Tensor | None) -> Tensor:
        features = self.time(t)
        gains = None if self.direct is None else self.direct(F.silu(features)).unsqueeze(-1)  # (B, frame, 1)
        if prepared is not None:
            features = features + prepared
        features = F.silu(features)
        padded = F.pad(x_t, (0, -x_t.shape[1] % self.multiple))
        signal = fold(padded, self.frame)
        x = self.input_projection(signal)  # (B, C, L)
        skips = [x]
        for layer in self.down:
            x = layer(x, features)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, features)
        for layer in self.up:
            x = layer(torch.cat([x, skips.pop()], dim=1) if isinstance(layer, Stage) else x, features)
        output = self.output_projection(F.silu(self.output_norm(x)))
        return unfold(output if gains is None else output + gains * signal, x_t.shape[1])


class Stage(nn.Module):
    """A residual block, and attention where asked for: (B, C, L), features (B, 256) -> (B, C', L)."""

    def __init__(self, inputs: int, outputs: int, dropout: float, attention: bool = False) -> None:
        super().__init__()
        self.block = ResidualBlock(inputs, outputs, TIME_FEATURES, dropout)
        self.attention = SelfAttention(outputs) if attention else None

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        x = self.block(x, features)
        return x if self.attention is None else self.attention(x)


class ResidualBlock(nn.Module):
    """Two convolutions, scaled and shifted between them by features where there are some.

    Args:
        inputs, outputs: channels.
        features: width of the features (B, features); 0 for a block without.
        dropout: while training.
    """

    def __init__(self, inputs: int, outputs: int, features: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(inputs), nn.Conv1d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = ChannelNorm(outputs), nn.Conv1d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(features, 2 * outputs) if features else None
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)  # the block begins as its shortcut

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.modulation is not None:
            scale, shift = self.modulation(features).unsqueeze(-1).chunk(2, dim=1)
            h = torch.addcmul(h + shift, h, scale)
        result: Tensor = self.shortcut(x) + self.conv2(self.dropout(F.silu(h)))
        return result


class SelfAttention(nn.Module):
    """Every frame looks at every other one: (B, C, L) -> (B, C, L)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(channels // HEAD_CHANNELS, 1)
        if channels % self.heads:
            raise ConfigError(f"backbone.channels: {channels} at a level with attention is no multiple of its heads")
        self.norm = ChannelNorm(channels)
        self.queries_keys_values = nn.Conv1d(channels, 3 * channels, 1)
        self.output = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.queries_keys_values(self.norm(x)).unflatten(1, (3 * self.heads, -1)).transpose(2, 3)
        # Contiguous: torch's fused attention takes no other on a CPU, and the plain one is several times slower.
        query, key, value = heads.contiguous().chunk(3, dim=1)  # (B, heads, L, C / heads)
        attended = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = x + self.output(attended.transpose(2, 3).flatten(1, 2))
        return result


class ChannelNorm(nn.Module):
    """Each frame divided by the root mean square of its channels (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        power = x.float().square().mean(1, keepdim=True)
        return x * (power + 1e-6).rsqrt().to(x.dtype) * self.scale


class Downsample(nn.Module):
    """Fewer frames by `factor`."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 2 * factor, factor, factor // 2, padding_mode="zeros")
        self.factor = factor

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, self.factor % 2)))[..., : x.shape[-1] // self.factor]


class Upsample(nn.Module):
    """More frames by `factor`: repeated, then smoothed, which leaves no pattern of the factor behind."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=1)
        self.factor = factor

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        return self.conv(x.repeat_interleave(self.factor, dim=-1))
