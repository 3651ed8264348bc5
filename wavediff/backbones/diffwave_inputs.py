"""What the layers of DiffWave are told: the step, and the mel at their rate (Kong et al. 2021, arXiv:2009.09761)."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.errors import ConfigError

LEAKY_SLOPE = 0.4  # section 5.1, after each upsampling layer
MAX_UPSAMPLE_FACTOR = 64
STEP_FREQUENCIES = 64
STEP_FEATURES = 512
SQRT_HALF = math.sqrt(0.5)

StepEncoding = Literal["rising", "falling"]


def upsample_factors(hop_length: int) -> tuple[int, int]:
    """The two factors of `hop_length` closest to each other, smaller first: 256 -> (16, 16).

    Raises:
        ConfigError: one factor would exceed 64, as for a large prime.
    """
    small = next(factor for factor in range(int(hop_length**0.5), 0, -1) if hop_length % factor == 0)
    large = hop_length // small
    if large > MAX_UPSAMPLE_FACTOR:
        raise ConfigError(
            f"mel.hop_length: {hop_length} does not split into two factors of at most {MAX_UPSAMPLE_FACTOR}; "
            f"choose one that does, such as 256, 275, 300 or 512"
        )
    return small, large


class MelUpsampler(nn.Module):
    """Mel frames -> mel at the sample rate by two transposed convolutions over time and bands.

    (B, n_mels, frames) -> (B, n_mels, frames * hop_length), exactly. DiffWave, section 5.1: kernels of
    3 bands by twice the factor, or by 3 where that is 1, leaky ReLU of slope 0.4.
    """

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(
                1,
                1,
                kernel_size=(3, max(2 * factor, 3)),
                stride=(1, factor),
                # For an odd factor one sample more is cut in front and added behind: the length stays exact.
                padding=(1, factor // 2 + factor % 2),
                output_padding=(0, factor % 2 if factor > 1 else 0),
            )
            for factor in upsample_factors(hop_length)
        )

    def forward(self, mel: Tensor, cleared: Callable[[Tensor, int], Tensor] = lambda x, unit: x) -> Tensor:
        """A mel -> the mel at the sample rate.

        Args:
            mel: (B, n_mels, frames)
            cleared: (what a layer gives (B, 1, n_mels, frames * unit), unit) -> the same without what lies beyond the
                ends of the items.
        """
        x, unit = mel.unsqueeze(1), 1
        for layer, factor in zip(self.layers, upsample_factors(self.hop_length), strict=True):
            unit *= factor
            x = cleared(F.leaky_relu(layer(x), LEAKY_SLOPE), unit)
        return x.squeeze(1)


def encode_steps(step: Tensor, num_steps: int, encoding: StepEncoding) -> Tensor:
    """Sines and cosines of diffusion steps, (B,) -> (B, 128) float32. Steps count from 0 and may be fractional.

    "rising": frequencies 10^0 ... 10^4 (DiffWave, section 3.1, eq. 8). Their fast ones mean something at whole
    steps only, so that a fractional step is interpolated between its two neighbours.
    "falling": frequencies 1 ... 10^-4, smooth in the step, evaluated at the fraction itself; the author's code.
    """
    exponent = torch.arange(STEP_FREQUENCIES, device=step.device, dtype=torch.float64) * 4 / (STEP_FREQUENCIES - 1)
    if encoding == "falling":
        return _waves(step.double()[:, None] * 10**-exponent)

    # Rounded to float32 where the diffwave package rounds: at 10^4 that moves the phase by up to 0.1, and networks
    # trained there have learned these values. The functions themselves are float64, the same on every machine.
    frequency = _rounded(10 ** _rounded(exponent))
    low = step.floor().clamp(0, max(num_steps - 2, 0)).double()
    start, end = (_waves(_rounded(whole[:, None] * frequency)) for whole in (low, low + 1))
    return torch.lerp(start, end, (step - low).float()[:, None])


def _rounded(x: Tensor) -> Tensor:
    return x.float().double()


def _waves(phase: Tensor) -> Tensor:
    return torch.cat([phase.sin(), phase.cos()], dim=1).float()


class StepEmbedding(nn.Module):
    """Diffusion step (B,) -> features (B, 512): encoding, then two layers with SiLU (DiffWave, section 3.1)."""

    def __init__(self, num_steps: int, encoding: StepEncoding) -> None:
        super().__init__()
        self.num_steps, self.encoding = num_steps, encoding
        self.projection1 = nn.Linear(2 * STEP_FREQUENCIES, STEP_FEATURES)
        self.projection2 = nn.Linear(STEP_FEATURES, STEP_FEATURES)

    def forward(self, step: Tensor) -> Tensor:
        x = encode_steps(step, self.num_steps, self.encoding).to(self.projection1.weight)
        return F.silu(self.projection2(F.silu(self.projection1(x))))


def kaiming_conv1d(*args: int, **kwargs: int) -> nn.Conv1d:
    """A convolution with the paper's initialisation (its code: Kaiming normal weights)."""
    conv = nn.Conv1d(*args, **kwargs)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(conv.weight)
    return conv
