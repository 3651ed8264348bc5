"""From the bands that a sound has to those above them: how loud each would be. The network of a band extension."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import check_bounds

LOW, HIGH = 15, 17  # bands that it is given, and that it predicts; in all those of the doubled sample rate


@dataclass(frozen=True)
class BandConfig:
    """Shape of the network.

    Attributes:
        sample_rate: of the sounds that it extends [Hz].
        channels: of each layer.
        layers: the reach doubles and more with each: layer i looks 3^i frames to either side.

    Raises:
        ConfigError: a value out of bounds.
    """

    sample_rate: int = 22050
    channels: int = 48
    layers: int = 3

    def __post_init__(self) -> None:
        check_bounds(self, "extension", sample_rate=(4_000, 192_000), channels=(1, 1024), layers=(1, 8))


class BandNet(nn.Module):
    """Levels (B, LOW, frames) -> levels (B, HIGH, frames), both in decades of power above the floor, not negative.

    Frames beyond the ends are silent.
    """

    def __init__(self, config: BandConfig) -> None:
        super().__init__()
        self.config = config
        self.direct = nn.Conv1d(LOW, HIGH, 1)
        self.first = nn.Conv1d(LOW, config.channels, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Conv1d(config.channels, config.channels, 3, padding=3**layer, dilation=3**layer)
            for layer in range(config.layers)
        )
        self.last = nn.Conv1d(config.channels, HIGH, 1)

    def forward(self, levels: Tensor) -> Tensor:
        """(B, LOW, frames) -> (B, HIGH, frames)"""
        x = self.first(levels)
        for layer in self.layers:
            x = x + layer(F.gelu(x))
        return F.softplus(self.direct(levels) + self.last(F.gelu(x)), beta=4.0)
