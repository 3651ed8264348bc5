"""From the pseudo-inverse of a mel to the magnitude of speech, where a mel resolves its harmonics.

There the bands of a mel are about two bins wide, so many spectra have the same bands, and the pseudo-inverse is a
smooth one of them. A network knows that speech has harmonics, and where the frames before had them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wavediff.arguments import check_bounds
from wavediff.backbones.conditioning import Workspace
from wavediff.backbones.spectral import SpectralBlock, SpectralConfig

_MOST = 5.0  # nepers, by which a bin changes
_SPREAD = 1.5  # nepers, of the input
_LOWEST = 2  # bins that stay: a recording's offset is in them


@dataclass(frozen=True)
class InversionConfig:
    """Shape of the network.

    Attributes:
        bands: tokens that a frame is cut into, from 0 Hz on.
        width: bins of each.
        channels: of a token.
        layers: residual blocks.

    Raises:
        ConfigError: a value out of bounds.
    """

    bands: int = 5
    width: int = 16
    channels: int = 96
    layers: int = 4

    def __post_init__(self) -> None:
        sizes = {"bands": (1, 256), "width": (1, 256), "channels": (1, 1024), "layers": (1, 64)}
        check_bounds(self, "inversion", **sizes)


class MelInversion(nn.Module):
    """Pseudo-inverse (B, frames, n_fft // 2 + 1) -> a magnitude of that shape, nearer to that of speech.

    The lowest two bins, and those above its bands, stay as they are. A frame depends on none that comes later.

    Args:
        config: shape of the network.
    """

    fade: Tensor

    def __init__(self, config: InversionConfig) -> None:
        super().__init__()
        self.config, width, channels = config, config.width, config.channels
        shape = SpectralConfig(bands=config.bands, channels=channels, layers=config.layers, causal_layers=config.layers)
        self.input_projection = nn.Linear(width, channels)
        self.band_offset = nn.Parameter(0.1 * torch.randn(config.bands, channels))
        self.blocks = nn.ModuleList(SpectralBlock(shape, 0, timed=False) for _ in range(config.layers))
        self.output_norm = nn.LayerNorm(channels)
        self.output_projection = nn.Linear(channels, width)
        nn.init.zeros_(self.output_projection.weight)
        nn.init.zeros_(self.output_projection.bias)
        # The last band fades into the bins that stay.
        fade = torch.ones(config.bands, width, device="cpu")
        fade[-1] = 1 - torch.arange(1, width + 1, device="cpu") / (width + 1)
        fade[0, :_LOWEST] = 0
        self.register_buffer("fade", fade, persistent=False)

    def forward(self, pseudo_inverse: Tensor) -> Tensor:
        x = self.tokens(pseudo_inverse)
        # Sampling on a CPU rounds as a stream does: the search for phases makes much of little.
        samples = x.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        workspace = Workspace(x.device) if samples else None
        for block in self.blocks:
            x = block(x, None, workspace)
        return self.changed(x, pseudo_inverse)

    def tokens(self, pseudo_inverse: Tensor) -> Tensor:
        """(B, frames, n_fft // 2 + 1) -> (B, frames, bands, channels), independent of the level."""
        # In the order of bins, or the rounding of a logarithm would depend on how many frames there are.
        low = pseudo_inverse[..., : self.fade.numel()].contiguous().log()
        low = (low - low.mean(-1, keepdim=True)) / _SPREAD
        tokens: Tensor = self.input_projection(low.unflatten(-1, (-1, self.config.width))) + self.band_offset
        return tokens

    def changed(self, tokens: Tensor, pseudo_inverse: Tensor) -> Tensor:
        """Last tokens and the pseudo-inverse -> the magnitude."""
        gain = self.output_projection(self.output_norm(tokens)).clamp(-_MOST, _MOST) * self.fade
        low, above = pseudo_inverse.tensor_split([self.fade.numel()], dim=-1)
        return torch.cat([low * gain.flatten(2).exp(), above], -1)
