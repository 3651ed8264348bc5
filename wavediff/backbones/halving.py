"""A network that makes two frames of each frame of a mel: of half the hop, and seen through half the window.

Frames of 20 ms that are seen through 80 ms smear what happens within them, and their harmonics. A network knows what
speech does there, and a vocoder behind it works in the frames that it was trained on.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import check_bounds
from wavediff.backbones.conditioning import SpectralBlock, looked_back, zeroed
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec
from wavediff.mel.stft import in_core

LONG = MelSpec.preset("cosyvoice2")
SHORT = MelSpec(sample_rate=24000, n_fft=1024, win_length=1024, hop_length=240)
BEFORE, AHEAD = 1, 2  # frames beside its own that a token is made of
_STRUCTURE = (
    "sample_rate",
    "n_fft",
    "win_length",
    "hop_length",
    "framing",
    "n_mels",
    "f_min",
    "f_max",
    "mel_scale",
    "mel_norm",
)
_MOST = 5.0  # nepers, by which a value changes
_SPREAD = 2.0  # nepers, of the input
# Of noise: bands are sums over bins, and a bin has the root of the window's energy.
_SHORTER = 1.5 * math.log(SHORT.n_fft / LONG.n_fft)


@dataclass(frozen=True)
class HalvingConfig:
    """Shape of the network.

    Attributes:
        bands: tokens that a frame is cut into; divides the bands of the mel, 80.
        channels: of a token.
        layers: residual blocks.

    Raises:
        ConfigError: a value out of bounds.
    """

    bands: int = 5
    channels: int = 112
    layers: int = 5

    def __post_init__(self) -> None:
        check_bounds(self, "halving", bands=(1, LONG.n_mels), channels=(1, 1024), layers=(1, 64))
        if LONG.n_mels % self.bands:
            raise ConfigError(f"halving.bands: {self.bands} does not divide the {LONG.n_mels} bands of the mel")


def is_halved(spec: MelSpec) -> bool:
    """Whether mels of a dialect are those that the network knows, on whatever scale."""
    return all(getattr(spec, name) == getattr(LONG, name) for name in _STRUCTURE)


class MelHalving(nn.Module):
    """Mel (B, 80, frames) of `LONG` -> mel (B, 80, 2 * frames) of `SHORT`.

    With fresh weights the frames are interpolated. Two frames depend on the one that they come from, on all before,
    and on `AHEAD` that follow.

    Args:
        config: shape of the network.
    """

    def __init__(self, config: HalvingConfig) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        width = LONG.n_mels // config.bands
        self.input_projection = nn.Linear((BEFORE + 1 + AHEAD) * width, channels)
        self.band_offset = nn.Parameter(0.1 * torch.randn(config.bands, channels))
        self.blocks = nn.ModuleList(
            SpectralBlock(config.bands, channels, 2, (5, 3), 0, timed=False) for _ in range(config.layers)
        )
        self.output_norm = nn.LayerNorm(channels)
        self.output_projection = zeroed(nn.Linear(channels, 2 * width))

    def forward(self, mel: Tensor) -> Tensor:
        window = F.pad(mel, (BEFORE, AHEAD), mode="replicate").transpose(1, 2).contiguous()
        return self.finer(looked_back(self.blocks, self.tokens(window)), window).transpose(1, 2)

    def tokens(self, window: Tensor) -> Tensor:
        """Frames with their neighbours (B, 1 + n + AHEAD, 80) -> (B, n, bands, channels), independent of the level."""
        count = window.shape[1] - BEFORE - AHEAD
        level = window[:, BEFORE : BEFORE + count].mean(-1, keepdim=True)
        frames = [((frame - level) / _SPREAD).unflatten(-1, (self.config.bands, -1)) for frame in _shifted(window)]
        tokens: Tensor = self.input_projection(torch.cat(frames, -1)) + self.band_offset
        return tokens

    def finer(self, tokens: Tensor, window: Tensor) -> Tensor:
        """Last tokens (B, n, bands, channels), and the frames as `tokens` takes them -> (B, 2 * n, 80)."""
        before, own, after = _shifted(window)[:3]
        change = self.output_projection(self.output_norm(tokens)).clamp(-_MOST, _MOST)  # (B, n, bands, 2 * width)
        first, second = (half.flatten(2) for half in change.chunk(2, -1))
        both = [0.75 * own + 0.25 * before + first, 0.75 * own + 0.25 * after + second]
        return (torch.stack(both, 2).flatten(1, 2) + _SHORTER).clamp(min=math.log(SHORT.floor))


def _shifted(window: Tensor) -> list[Tensor]:
    """The frames before, the frames themselves, those after them, and so on; (B, n, 80) each."""
    count = window.shape[1] - BEFORE - AHEAD
    return [window[:, first : first + count] for first in range(BEFORE + 1 + AHEAD)]


def plain(mel: Tensor, spec: MelSpec) -> Tensor:
    """A mel (B, 80, frames) of a dialect that `is_halved`, on the scale of `LONG`."""
    return in_core(mel.contiguous(), spec, LONG)  # contiguous: in pieces, too, its logarithms round alike
