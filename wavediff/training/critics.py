"""Networks that tell speech from what a vocoder makes, as its adversaries in training."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from wavediff.arguments import check_bounds
from wavediff.errors import ConfigError

COMPRESSION = 0.3  # exponent of the magnitude in the two channels that keep the phase
LOG_SCALE = 0.2  # of the log magnitude, so that all three channels vary about as much
LEAST_POWER = 1e-8
LEAKY_SLOPE = 0.1


@dataclass(frozen=True)
class CriticConfig:
    """Which spectra the critics hear, and how wide they are.

    Attributes:
        windows: FFT length of each critic [samples]; its hop is a quarter of that.
        high_windows: likewise, of critics that hear nothing below `high_from`.
        high_from: lowest frequency of those [Hz].
        channels: of every convolution.

    Raises:
        ConfigError: a value out of bounds.
    """

    windows: tuple[int, ...] = (2048, 1024, 512, 256)
    high_windows: tuple[int, ...] = (1024,)
    high_from: float = 4000.0
    channels: int = 16

    def __post_init__(self) -> None:
        windows = (*self.windows, *self.high_windows)
        if not windows or not all(64 <= window <= 65_536 and window % 4 == 0 for window in windows):
            raise ConfigError(f"critics: windows {windows} must be multiples of 4 from 64 to 65536, at least one")
        check_bounds(self, "critics", channels=(1, 1024), high_from=(0.0, math.inf))


class SpectrumCritic(nn.Module):
    """Waveform (B, N) -> scores (B, frames, places), high where it sounds like a recording; and its features.

    Two-dimensional convolutions on the complex spectrum (Jang et al. 2021, UnivNet, arXiv 2106.07889; Défossez et al.
    2022, arXiv 2210.13438, section 3.4).

    Args:
        n_fft: window and FFT length [samples].
        channels: of every convolution.
        first_bin: lowest bin that is heard.
    """

    window: Tensor

    def __init__(self, n_fft: int, channels: int, first_bin: int = 0) -> None:
        super().__init__()
        self.n_fft, self.first_bin = n_fft, first_bin
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        layers = [nn.Conv2d(3, channels, (3, 9), padding=(1, 4))]
        layers += [
            nn.Conv2d(channels, channels, (3, 9), stride=(1, 2), dilation=(reach, 1), padding=(reach, 4))
            for reach in (1, 2, 4)  # frames between the taps: long contexts at few weights
        ]
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, 1, 3, padding=1)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, waveform: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, features = self.spectrum(waveform), []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), LEAKY_SLOPE)
            features.append(x)
        return self.layers[-1](x)[:, 0], features

    def spectrum(self, waveform: Tensor) -> Tensor:
        """(B, N) -> (B, 3, frames, bins): real and imaginary part over |X|^0.7, and the log magnitude."""
        with torch.autocast(waveform.device.type, enabled=False):
            X = torch.stft(
                waveform.float(), self.n_fft, self.n_fft // 4, window=self.window, normalized=True, return_complex=True
            )
            parts = torch.view_as_real(X[:, self.first_bin :].transpose(1, 2)).permute(0, 3, 1, 2)
            power = parts.square().sum(1, keepdim=True) + LEAST_POWER
            return torch.cat([parts * power.pow((COMPRESSION - 1) / 2), LOG_SCALE / 2 * power.log()], 1)


class Critics(nn.Module):
    """Critics at several resolutions.

    Args:
        config: which.
        sample_rate: of the waveforms [Hz].
    """

    def __init__(self, config: CriticConfig, sample_rate: int) -> None:
        super().__init__()
        self.critics = nn.ModuleList(SpectrumCritic(window, config.channels) for window in config.windows)
        self.critics.extend(
            SpectrumCritic(window, config.channels, round(config.high_from / sample_rate * window))
            for window in config.high_windows
        )

    def distinction(self, recorded: Tensor, made: Tensor) -> Tensor:
        """What the critics minimise: the hinge loss (Lim and Ye 2017, arXiv 1705.02894); (B, N) each -> scalar."""
        losses = []
        for critic in self.critics:
            (real, _), (fake, _) = critic(recorded), critic(made.detach())
            losses.append(F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean())
        return torch.stack(losses).mean()

    def persuasion(self, recorded: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """What a vocoder minimises; (B, N) each -> two scalars.

        Returns:
            The hinge loss of its scores, and the relative L1 distance of the critics' features of both signals
            (feature matching, Kumar et al. 2019, arXiv 1910.06711), means over critics and layers.
        """
        scores, distances = [], []
        for critic in self.critics:
            fake, made_features = critic(made)
            with torch.no_grad():
                _, recorded_features = critic(recorded)
            scores.append(-fake.float().mean())
            for ours, theirs in zip(made_features, recorded_features, strict=True):
                distances.append((ours - theirs).float().abs().mean() / theirs.float().abs().mean().clamp(min=1e-6))
        return torch.stack(scores).mean(), torch.stack(distances).mean()
