"""Variations of a training segment, so that a small corpus does not stand for one voice and one microphone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.audio import resample
from wavediff.errors import ConfigError

SPEED_STEP = 20  # speeds are multiples of 1 / 20: short resampling filters


@dataclass(frozen=True)
class Augment:
    """What is drawn for each item; the defaults change nothing.

    Attributes:
        share: of the items that are varied.
        gain: lowest and highest level change [dB].
        speed: lowest and highest speed, multiples of 0.05; pitch and formants move with it. Below 1 the highest
            frequencies become empty.
        tilt: largest coefficient c of y[n] = x[n] - c x[n - 1], drawn from [-tilt, tilt]; it raises or lowers the
            treble by up to 20 log10((1 + c) / (1 - c)) dB against the bass.

    Raises:
        ConfigError: a value out of bounds.
    """

    share: float = 0.0
    gain: tuple[float, float] = (0.0, 0.0)
    speed: tuple[float, float] = (1.0, 1.0)
    tilt: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.tilt < 1:
            raise ConfigError(f"augment: share {self.share} must lie in [0, 1] and tilt {self.tilt} in [0, 1)")
        if not -100 <= self.gain[0] <= self.gain[1] <= 40:
            raise ConfigError(f"augment.gain: {self.gain} is not an ascending pair within -100 to 40 dB")
        if not 0.5 <= self.speed[0] <= self.speed[1] <= 2:
            raise ConfigError(f"augment.speed: {self.speed} is not an ascending pair within 0.5 to 2")

    def draw(self, generator: torch.Generator) -> "Variation":
        """One variation; always takes as many numbers from the generator."""
        chosen, gain, speed, tilt = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        if chosen >= self.share:
            return Variation()
        low, high = (round(SPEED_STEP * edge) for edge in self.speed)
        return Variation(
            gain=10 ** ((self.gain[0] + (self.gain[1] - self.gain[0]) * gain) / 20),
            speed=low + math.floor((high - low + 1) * speed),
            tilt=self.tilt * (2 * tilt - 1),
        )


@dataclass(frozen=True)
class Variation:
    """One draw: gain as a factor, speed in twentieths, tilt as a coefficient."""

    gain: float = 1.0
    speed: int = SPEED_STEP
    tilt: float = 0.0

    def source_length(self, length: int) -> int:
        """Samples of the recording that `length` samples are made from."""
        return math.ceil(length * self.speed / SPEED_STEP)

    def apply(self, waveform: Tensor) -> Tensor:
        """(n,) -> (about n * 20 / speed,), not above full scale."""
        if self.speed != SPEED_STEP:
            waveform = resample(waveform, 1000 * self.speed, 1000 * SPEED_STEP)
        if self.tilt:
            waveform = waveform - self.tilt * torch.nn.functional.pad(waveform, (1, -1))
        waveform = self.gain * waveform
        peak = waveform.abs().max().item() if len(waveform) else 0.0
        return waveform / peak if peak > 1 else waveform
