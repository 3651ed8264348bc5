"""A network that makes, of the mel of another dialect, a mel of frames that a vocoder was trained on.

A vocoder works badly from frames that are long or far apart, or whose bands leave out what it needs: frames of 20 ms
that are seen through 80 ms smear the harmonics, and what happens within them. A network knows what speech does there.
The vocoder behind it stays as it is.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import check_bounds
from wavediff.backbones.conditioning import SpectralBlock, looked_back, zeroed
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec
from wavediff.mel.dialects import band_centres, more_bands, noise_level, same_bands
from wavediff.mel.stft import in_core

BEFORE, AHEAD = 1, 2  # frames beside its own that a token is made of
MOST_PIECES = 8  # frames that one becomes
_FASTER = (Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3), Fraction(4))  # rates to choose from
_LEAST_RATE = 20_000  # [Hz] at which a vocoder of 22,050 Hz works well
_LEAST_OVERLAP = 3  # frames that a sample lies in, of those that a vocoder works well from
_PLAIN: dict[str, Any] = {
    "log": "ln",
    "scale": 1.0,
    "offset": 0.0,
    "clip": None,
    "mean": None,
    "std": None,
    "floor": 1e-5,
    "floor_mode": "clamp",
    "stft_normalized": False,
}
_MOST = 5.0  # nepers, by which a value changes
_SPREAD = 2.0  # nepers, of the input


@dataclass(frozen=True)
class AdapterConfig:
    """The two dialects, and the shape of the network.

    Attributes:
        mel: dialect of its mels, on a plain scale: natural logarithm, nothing normalised.
        inner: dialect of what it makes; likewise, of the same framing and mel scale, with the bands of `mel` among its
            own. Of another sample rate, the vocoder works at that one, and its speech is resampled.
        bands: tokens that a frame is cut into; divides the bands of `mel`.
        channels: of a token.
        layers: residual blocks.

    Raises:
        ConfigError: a value out of bounds, or dialects that do not fit together.
    """

    mel: MelSpec
    inner: MelSpec
    bands: int = 5
    channels: int = 112
    layers: int = 5

    def __post_init__(self) -> None:
        check_bounds(self, "adapter", bands=(1, self.mel.n_mels), channels=(1, 1024), layers=(1, 64))
        if self.mel.n_mels % self.bands:
            raise ConfigError(f"adapter.bands: {self.bands} does not divide the {self.mel.n_mels} bands of the mel")
        for name in ("framing", "mel_scale"):
            if getattr(self.mel, name) != getattr(self.inner, name):
                raise ConfigError(f"adapter.inner: its {name} differs from that of the mel; make them equal")
        if self.beyond[1] < 0:
            raise ConfigError("adapter.inner: lacks bands of the mel; give it those, and more below and above")
        hop, inner = (Fraction(spec.hop_length, spec.sample_rate) for spec in (self.mel, self.inner))
        if (hop / inner).denominator > 1 or hop / inner > MOST_PIECES:
            raise ConfigError(
                f"adapter.inner: a hop of the mel, {1000 * float(hop):g} ms, is not one to {MOST_PIECES} hops of "
                f"{1000 * float(inner):g} ms"
            )

    @classmethod
    def of(cls, mel: MelSpec, n_fft: int, **shape: int) -> "AdapterConfig":
        """From a dialect to the frames of a network of that FFT length: as far apart as now, or a part of that; with
        more bands, down to 0 Hz and up to half the sample rate; and where that rate is low, at a higher one.

        Raises:
            ConfigError: no part of the hop is short enough; and what a configuration raises.
        """
        most = n_fft // _LEAST_OVERLAP
        for faster in (rate for rate in _FASTER if rate * mel.sample_rate >= _LEAST_RATE):
            hop = faster * mel.hop_length
            parts = [p for p in range(1, MOST_PIECES + 1) if (hop / p).denominator == 1 and hop / p <= most]
            if parts and (faster * mel.sample_rate).denominator == 1:
                break
        else:
            raise ConfigError(
                f"adapter.mel: a hop of {mel.hop_length} samples has no whole part of {most} samples or less"
            )
        inner = replace(
            more_bands(plain(mel)),
            sample_rate=int(faster * mel.sample_rate),
            n_fft=n_fft,
            win_length=n_fft,
            hop_length=int(hop / parts[0]),
        )
        return cls(plain(mel), inner, **shape)

    @property
    def pieces(self) -> int:
        """Frames that one becomes."""
        return self.mel.hop_length * self.inner.sample_rate // (self.mel.sample_rate * self.inner.hop_length)

    @property
    def beyond(self) -> tuple[int, int]:
        """Bands that are made below those of the mel, and above them."""
        own, made = band_centres(self.mel), band_centres(self.inner)
        below = int((made < own[0] - 0.5 * (own[1] - own[0])).sum())
        return below, len(made) - len(own) - below

    def takes(self, spec: MelSpec) -> bool:
        """Whether mels of a dialect are those that the network knows, on whatever scale."""
        return same_bands(spec, self.mel)


def plain(spec: MelSpec) -> MelSpec:
    """The dialect of the same frames and bands on a plain scale."""
    return replace(spec, **_PLAIN)


class MelAdapter(nn.Module):
    """Mel (B, mel.n_mels, frames) -> mel (B, inner.n_mels, pieces * frames).

    With fresh weights frames are interpolated, and noise keeps its level; bands beyond those of the mel have that of
    the outermost ones. What comes of a frame depends on it, on all frames before, and on `AHEAD` that follow.

    Args:
        config: the dialects, and the shape of the network.
    """

    louder: Tensor  # (inner.n_mels,) [nepers], by how much noise is louder in the inner bands

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config, channels = config, config.channels
        width = config.mel.n_mels // config.bands
        self.input_projection = nn.Linear((BEFORE + 1 + AHEAD) * width, channels)
        self.band_offset = nn.Parameter(0.1 * torch.randn(config.bands, channels))
        self.blocks = nn.ModuleList(
            SpectralBlock(config.bands, channels, 2, (5, 3), 0, timed=False) for _ in range(config.layers)
        )
        self.output_norm = nn.LayerNorm(channels)
        self.output_projection = zeroed(nn.Linear(channels, config.pieces * width))
        self.beyond = config.beyond
        self.beyond_projection = zeroed(nn.Linear(2 * channels, config.pieces * max(sum(self.beyond), 1)))
        louder = noise_level(config.inner).log() - _wider(noise_level(config.mel).log()[None], self.beyond)[0]
        self.register_buffer("louder", louder.float(), persistent=False)
        # Where the frames that are made lie, from the middle of their own on, in hops of the mel.
        middle = (config.pieces - 1) / 2 if config.mel.framing == "same" else 0.0
        self._places = [(piece - middle) / config.pieces for piece in range(config.pieces)]

    def forward(self, mel: Tensor) -> Tensor:
        window = F.pad(mel, (BEFORE, AHEAD), mode="replicate").transpose(1, 2).contiguous()
        return self.adapted(looked_back(self.blocks, self.tokens(window)), window).transpose(1, 2)

    def tokens(self, window: Tensor) -> Tensor:
        """Frames with their neighbours (B, 1 + n + AHEAD, mel.n_mels) -> (B, n, bands, channels), whatever the
        level."""
        count = window.shape[1] - BEFORE - AHEAD
        level = window[:, BEFORE : BEFORE + count].mean(-1, keepdim=True)
        frames = [((frame - level) / _SPREAD).unflatten(-1, (self.config.bands, -1)) for frame in _shifted(window)]
        tokens: Tensor = self.input_projection(torch.cat(frames, -1)) + self.band_offset
        return tokens

    def adapted(self, tokens: Tensor, window: Tensor) -> Tensor:
        """Last tokens (B, n, bands, channels), and the frames as `tokens` takes them -> (B, pieces * n,
        inner.n_mels)."""
        before, own, after = _shifted(window)[:3]
        tokens = self.output_norm(tokens)
        changes = self.output_projection(tokens).chunk(self.config.pieces, -1)  # (B, n, bands, width) each
        outer = self.beyond_projection(torch.cat([tokens[:, :, 0], tokens[:, :, -1]], -1)).chunk(self.config.pieces, -1)
        made = []
        for place, change, far in zip(self._places, changes, outer, strict=True):
            frame = torch.lerp(own, before if place < 0 else after, abs(place))
            below, above = far[..., : sum(self.beyond)].split(self.beyond, -1)
            made.append(
                _wider(frame, self.beyond) + torch.cat([below, change.flatten(2), above], -1).clamp(-_MOST, _MOST)
            )
        return (torch.stack(made, 2).flatten(1, 2) + self.louder).clamp(min=math.log(self.config.inner.floor))


def _wider(bands: Tensor, beyond: tuple[int, int]) -> Tensor:
    """(..., n_mels) with the outermost values repeated below and above."""
    below, above = beyond
    edges = bands[..., :1].expand(*bands.shape[:-1], below), bands[..., -1:].expand(*bands.shape[:-1], above)
    return torch.cat([edges[0], bands, edges[1]], -1)


def _shifted(window: Tensor) -> list[Tensor]:
    """The frames before, the frames themselves, those after them, and so on; (B, n, n_mels) each."""
    count = window.shape[1] - BEFORE - AHEAD
    return [window[:, first : first + count] for first in range(BEFORE + 1 + AHEAD)]


def on_plain_scale(mel: Tensor, spec: MelSpec) -> Tensor:
    """A mel (B, n_mels, frames) of any scale, on the plain one."""
    return in_core(mel.contiguous(), spec, plain(spec))  # contiguous: in pieces, too, its logarithms round alike
