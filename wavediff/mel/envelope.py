"""How loud each frequency is expected to be at each moment, read off the mel."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import real, whole
from wavediff.errors import ConfigError
from wavediff.mel.spec import MelSpec, as_spec
from wavediff.mel.transform import expand, filterbank, stft_scale

MAX_WIDTH = 1023  # of a mean
TOP_BANDS = 10  # whose mean level stands for what lies above the mel, where it says nothing
LEAST_LEVEL = -9.0  # natural logarithm of the lowest STFT magnitude, about -110 dB below a full-scale sine


class SpectralEnvelope(nn.Module):
    """Mel (B, n_mels, frames) -> magnitude (B, frames, n_fft // 2 + 1) of a `FrameSTFT`, smooth in time and frequency.

    Smooth, because the mel's low bands resolve harmonics: divided by those, the valleys between two harmonics would
    count as much as the harmonics themselves. SpecGrad (Koizumi et al. 2022, arXiv 2203.16749) shapes its prior by
    such an envelope.

    Args:
        spec: dialect of the mel.
        bands: width of the mean over bands, odd.
        frames: width of the mean over frames, odd.
        power: exponent of the envelope; 1 whitens wholly, 0.5 leaves half of the level differences, in decibels.

    Raises:
        ConfigError: a width is even or not positive, or the power outside [0, 1].
    """

    interpolation: Tensor
    area: Tensor

    def __init__(self, spec: MelSpec | str, bands: int = 5, frames: int = 3, power: float = 0.5) -> None:
        super().__init__()
        spec = as_spec(spec, "spec")
        bands, frames = (_odd(number, name) for number, name in ((bands, "bands"), (frames, "frames")))
        power = real(power, "power", "from 0 to 1", lambda value: 0 <= value <= 1, ConfigError)
        self.spec, self.bands, self.frames, self.power = spec, bands, frames, power
        triangles = filterbank(spec)  # (n_mels, bins)
        self.register_buffer("area", triangles.sum(1).clamp(min=1e-6).log()[:, None], persistent=False)
        self.register_buffer("interpolation", _interpolation(triangles), persistent=False)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, frames) in the dialect `spec` -> (B, frames, n_fft // 2 + 1)."""
        return self.level(mel).mul(self.power).exp()

    def level(self, mel: Tensor) -> Tensor:
        """Natural logarithm of the envelope at power 1."""
        with torch.autocast(mel.device.type, enabled=False):
            linear = expand(mel.float(), self.spec).clamp(min=self.spec.floor) / stft_scale(self.spec)
            padding = (self.frames // 2, self.frames // 2, self.bands // 2, self.bands // 2)
            padded = F.pad(linear.square()[:, None], padding, mode="replicate")
            level = F.avg_pool2d(padded, (self.bands, self.frames), 1)[:, 0].log() / 2 - self.area
            return (self.interpolation @ level).transpose(1, 2).clamp(min=LEAST_LEVEL)


def _interpolation(triangles: Tensor) -> Tensor:
    """(n_mels, bins) -> (bins, n_mels): linear between band centres, flat beyond the outer ones."""
    bands, bins = triangles.shape
    device = triangles.device
    position = torch.arange(bins, dtype=torch.float32, device=device)
    centre = (triangles * position).sum(1) / triangles.sum(1).clamp(min=1e-6)
    high = torch.searchsorted(centre, position).clamp(1, bands - 1)
    low = high - 1
    share = ((position - centre[low]) / (centre[high] - centre[low]).clamp(min=1e-6)).clamp(0, 1)
    matrix = torch.zeros(bins, bands, dtype=torch.float32, device=device)
    rows = torch.arange(bins, device=device)
    matrix[rows, low] += 1 - share
    matrix[rows, high] += share
    above = position >= centre[-1]
    top = min(TOP_BANDS, bands)
    matrix[above] = 0.0
    matrix[above, bands - top :] = 1 / top
    return matrix


def _odd(value: int, name: str) -> int:
    number = whole(value, name, 1, MAX_WIDTH, ConfigError)
    if number % 2 == 0:
        raise ConfigError(f"{name}: {number} is even, it must be odd; take the next number")
    return number
