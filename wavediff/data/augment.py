"""Variations of a training segment, so that a small corpus does not stand for one voice and one microphone."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wavediff.arguments import check_bounds
from wavediff.audio import resample
from wavediff.audio.finish import filtered
from wavediff.errors import ConfigError
from wavediff.libraries import require_torchaudio

SPEED_STEP = 20  # speeds are multiples of 1 / 20: short resampling filters
EQUALISED = (200.0, 800.0, 3200.0)  # centres of the equaliser's bands [Hz], two octaves apart
QUALITY = 0.67  # of its filters: two octaves between the frequencies of half the gain [dB]
STRETCH_FFT = 512  # of the phase vocoder: short, so that attacks stay attacks


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
        stretch: lowest and highest duration, as factors; the pitch stays.
        equaliser: largest gain of each of three bands, about 200, 800 and 3,200 Hz, drawn from [-equaliser, equaliser]
            [dB].

    Raises:
        ConfigError: a value out of bounds.
    """

    share: float = 0.0
    gain: tuple[float, float] = (0.0, 0.0)
    speed: tuple[float, float] = (1.0, 1.0)
    tilt: float = 0.0
    stretch: tuple[float, float] = (1.0, 1.0)
    equaliser: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "augment", share=(0.0, 1.0), equaliser=(0.0, 40.0))
        if not 0 <= self.tilt < 1:
            raise ConfigError(f"augment.tilt: {self.tilt} is outside [0, 1)")
        if not -100 <= self.gain[0] <= self.gain[1] <= 40:
            raise ConfigError(f"augment.gain: {self.gain} is not an ascending pair within -100 to 40 dB")
        for name, (low, high) in {"speed": self.speed, "stretch": self.stretch}.items():
            if not 0.5 <= low <= high <= 2:
                raise ConfigError(f"augment.{name}: {(low, high)} is not an ascending pair within 0.5 to 2")

    def draw(self, generator: torch.Generator) -> "Variation":
        """One variation; always takes as many numbers from the generator."""
        drawn = partial(torch.rand, generator=generator, dtype=torch.float64, device="cpu")
        chosen, gain, speed, tilt = drawn(4).tolist()
        stretch, *bands = drawn(1 + len(EQUALISED)).tolist()
        if chosen >= self.share:
            return Variation()
        low, high = (round(SPEED_STEP * edge) for edge in self.speed)
        shortest, longest = self.stretch
        return Variation(
            gain=10 ** ((self.gain[0] + (self.gain[1] - self.gain[0]) * gain) / 20),
            speed=low + math.floor((high - low + 1) * speed),
            tilt=self.tilt * (2 * tilt - 1),
            stretch=shortest * (longest / shortest) ** stretch,
            bands=tuple(self.equaliser * (2 * band - 1) for band in bands) if self.equaliser else (),
        )


@dataclass(frozen=True)
class Variation:
    """One draw: gain and stretch as factors, speed in twentieths, tilt as a coefficient, gains of bands [dB]."""

    gain: float = 1.0
    speed: int = SPEED_STEP
    tilt: float = 0.0
    stretch: float = 1.0
    bands: tuple[float, ...] = ()

    def source_length(self, length: int) -> int:
        """Samples of the recording that `length` samples are made from."""
        return math.ceil(length * self.speed / SPEED_STEP / self.stretch)

    def told(self) -> Tensor:
        """What a network is told of it, (6,) numbers of about unit size, 0 where nothing is varied.

        Octaves of speed and stretch, the tilt, and tens of decibels of each band. The gain is not told.
        """
        bands = [band / 10 for band in self.bands] or [0.0] * len(EQUALISED)
        return torch.tensor([math.log2(self.speed / SPEED_STEP), math.log2(self.stretch), self.tilt, *bands])

    def apply(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """(n,) at `sample_rate` [Hz] -> (about n * 20 / speed * stretch,), not above full scale."""
        if self.speed != SPEED_STEP:
            waveform = resample(waveform, 1000 * self.speed, 1000 * SPEED_STEP)
        if self.stretch != 1 and len(waveform) >= STRETCH_FFT:
            from librosa.effects import time_stretch  # as slow to import as torch

            stretched = time_stretch(waveform.numpy(), rate=1 / self.stretch, n_fft=STRETCH_FFT)
            waveform = torch.from_numpy(stretched)
        if self.bands:
            require_torchaudio()
            from torchaudio.functional import equalizer_biquad

            for center, gain in zip(EQUALISED, self.bands, strict=True):
                band = partial(equalizer_biquad, sample_rate=sample_rate, center_freq=center, gain=gain, Q=QUALITY)
                waveform = filtered(band, waveform)
        if self.tilt:
            waveform = waveform - self.tilt * torch.nn.functional.pad(waveform, (1, -1))
        waveform = self.gain * waveform
        peak = waveform.abs().max().item() if len(waveform) else 0.0
        return waveform / peak if peak > 1 else waveform
