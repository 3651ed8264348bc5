"""What the noise of a process looks like, and where its sampling starts.

The forward process is x_t = alpha x_0 + sigma n. Without a prior n is white, as in DiffWave. With
`ShapedNormal` it is white noise filtered by the spectral envelope that the mel promises, so that every frequency has
about the same signal-to-noise ratio at a time t (PriorGrad, Lee et al. 2022, arXiv 2106.06406; SpecGrad, Koizumi
et al. 2022, arXiv 2203.16749, section 3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import check_bounds
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT, MelSpec, SpectralEnvelope, pseudo_inverse
from wavediff.mel.griffin_lim import find_phase, phase_in_blocks
from wavediff.mel.phases import MAX_OCTAVES, Harmonics, Partials, lower_rates
from wavediff.mel.stft import below_the_end, core_spec, in_core
from wavediff.mel.transform import LEAST_COLUMNS, filterbank

MAX_PHASE_ITERATIONS = 1_000
MAX_WIDTH = 255  # of a mean over bands or frames
_INVERSION_ITERATIONS = 20  # multiplicative updates of the pseudo-inverse
_BAND_ITERATIONS = 2  # likewise, behind a network that changes it
_GEOMETRIC_MEAN = 0.749  # exp(-gamma / 2): of the magnitude of noise whose mean square is 1
_LEAST_POWER = 1e-18  # where the root has a gradient


@dataclass(frozen=True)
class PriorConfig:
    """Shape of the noise, and the start of sampling.

    Attributes:
        power: exponent of the spectral envelope that shapes the noise; 0 for white noise.
        bands, frames: what the envelope is averaged over, odd and up to `MAX_WIDTH`.
        start_time: 1 starts from noise alone; below, from a guess at the speech, noised to this time. Truncated
            diffusion (Zheng et al. 2023, arXiv 2202.09671): what a cheap method finds needs no network evaluation.
        phase_iterations: Griffin-Lim iterations that make the guess from the mel and from the first phase.
        consistency: how far the speech is brought to the bands of the mel at its end, its phase kept: 0 not, 1 wholly.
            Half keeps PESQ where it was, the whole costs some on voices that were not trained on.
        harmonics: how far the fine structure of the guess above 2 kHz is that of its lowest harmonics: 0 not, 1 wholly.
        phase_octaves: how often the sample rate is halved for the first of them, which then cost less: 0 to 2. With 2,
            two thirds of them have a quarter of the rate, a sixth half of it.
        partials: whether the first phases below 2 kHz are those of partials that go on, instead of those of noise. The
            guess of low latency goes on from the samples before it, with either.
        reach: share of the frequencies up to which the network was trained to find magnitudes, of 0 to half the sample
            rate. A mel that ends below is filled up to there at the level of its highest bands; 0 fills nothing.

    Raises:
        ConfigError: a value out of bounds.
    """

    power: float = 0.0
    bands: int = 5
    frames: int = 3
    start_time: float = 1.0
    phase_iterations: int = 32
    consistency: float = 0.0
    harmonics: float = 0.0
    phase_octaves: int = 0
    partials: bool = False
    reach: float = 0.0

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("power", "start_time", "consistency", "harmonics", "reach"), (0.0, 1.0))
        widths = dict.fromkeys(("bands", "frames"), (1, MAX_WIDTH))
        phase = {"phase_iterations": (0, MAX_PHASE_ITERATIONS), "phase_octaves": (0, MAX_OCTAVES)}
        check_bounds(self, "prior", **shares, **widths, **phase)
        if self.start_time == 0:
            raise ConfigError("prior.start_time: at 0 nothing is left to sample; set it above 0")
        for name in ("bands", "frames"):
            if getattr(self, name) % 2 == 0:
                raise ConfigError(f"prior.{name}: {getattr(self, name)} is not odd")
        if (self.consistency or self.reach) and self.power == 0:
            raise ConfigError("prior.power: consistency and reach need a mel in the prior; set power above 0")


class ShapedNormal(nn.Module):
    """Noise with the mel's envelope, and a guess at the speech to start from.

    Args:
        config: of the prior.
        spec: dialect of the mel.
        n_fft: length of the frames the noise is shaped in; 0 for the dialect's.

    Raises:
        ConfigError: frames too short for a voice.
    """

    weights: Tensor  # (n_mels, bins), of the mel's bands
    heard: Tensor  # (bins,), whether any of them reaches a bin
    filled: Tensor  # (bins,), whether the mel ends below a bin that the network was trained to find filled

    def __init__(self, config: PriorConfig, spec: MelSpec, n_fft: int = 0) -> None:
        super().__init__()
        self.config, self.dialect, self.spec = config, spec, core_spec(spec, n_fft)
        spec = self.spec
        self.envelope = SpectralEnvelope(spec, config.bands, config.frames, config.power)
        self.stft, self.lower = FrameSTFT(spec), nn.ModuleList(lower_rates(spec, config.phase_octaves))
        self.harmonics = Harmonics(spec, config.harmonics) if config.harmonics else None
        self.register_buffer("weights", filterbank(spec).clone(), persistent=False)
        self.register_buffer("heard", self.weights.sum(0) > 0, persistent=False)
        self._end = below_the_end(self.weights)
        share = torch.linspace(0, 1, self.weights.shape[1], dtype=torch.float64, device="cpu")
        filled = (share <= config.reach) & (share > 2 * spec.f_max / spec.sample_rate)
        self.register_buffer("filled", filled, persistent=False)
        self._fills = bool(filled.any())

    @property
    def rates(self) -> list[FrameSTFT]:
        """The transform at each rate that phases are found at, the lowest first."""
        return [*self.lower, self.stft]

    def spectra(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mel (B, n_mels, frames) -> envelope of the noise and pseudo-inverse, both (B, frames, n_fft // 2 + 1).

        What the mel says nothing about, up to `config.reach`, has the level that the envelope has there.
        """
        mel = in_core(mel, self.dialect, self.spec)
        envelope, magnitude = self.envelope(mel), self.magnitude(mel)
        if self._fills:
            level = envelope ** (1 / self.config.power)
            magnitude = torch.where(self.filled, _GEOMETRIC_MEAN * level, magnitude)
        return envelope, magnitude

    def magnitude(self, mel: Tensor) -> Tensor:
        """Pseudo-inverse of a mel in these frames, one by one: (B, n_mels, frames) -> (B, frames, n_fft // 2 + 1)."""
        return pseudo_inverse(mel, self.spec, iterations=_INVERSION_ITERATIONS).transpose(1, 2)

    def shape(self, noise: Tensor, envelope: Tensor) -> Tensor:
        """White noise (B, N) -> noise with the envelope."""
        return self.stft.synthesis(self.shaped(self.stft.analysis(noise), envelope))

    def shaped(self, spectrum: Tensor, envelope: Tensor) -> Tensor:
        """Spectrum of white noise (B, frames, bins) -> of noise with the envelope."""
        return spectrum * (envelope / self.stft.noise_level)

    def guess(
        self,
        white: Tensor,
        envelope: Tensor,
        magnitude: Tensor,
        iterations: int | None = None,
        low_latency: bool = False,
    ) -> Tensor:
        """A signal (B, N) with these magnitudes: noise whose phase Griffin-Lim improves, for low latency in blocks."""
        if low_latency:
            return phase_in_blocks(magnitude, white, self.stft, self.harmonics)
        count = self.config.phase_iterations if iterations is None else iterations
        start = self.stft.analysis(self.shape(white, envelope))
        if self.config.partials:
            start = Partials(self.spec).push(magnitude, start)
        return find_phase(magnitude, start, self.rates, count, self.harmonics)

    def brought(self, spectrum: Tensor, magnitude: Tensor) -> Tensor:
        """The spectrum of speech (B, frames, bins), nearer to the bands of the mel; its phase is kept.

        A band changes by 12 dB at the most. What lies above the dialect's bands stays as it is.
        """
        gain = self._gain(self._bands(_magnitude(spectrum)), self._bands(magnitude)) ** self.config.consistency
        return torch.complex(spectrum.real * gain, spectrum.imag * gain)

    def with_bands(self, magnitude: Tensor, wanted: Tensor) -> Tensor:
        """A magnitude (B, frames, bins), nearer to the bands of another one."""
        bands = self._bands(wanted)
        for _ in range(_BAND_ITERATIONS):
            magnitude = magnitude * self._gain(self._bands(magnitude), bands)
        return magnitude

    def _gain(self, made: Tensor, wanted: Tensor) -> Tensor:
        """By what a magnitude (B, frames, bins) is multiplied to come near the bands of another: 1/4 to 4.

        One multiplicative update (Lee and Seung 2001, eq. 4) of what both have in `_bands`; 1 where the dialect has no
        band.
        """
        gain = torch.where(self.heard[: self._end], (wanted / made.clamp(min=1e-30)).clamp(0.25, 4.0), 1.0)
        return F.pad(gain, (0, len(self.heard) - self._end), value=1.0)

    def _bands(self, magnitude: Tensor) -> Tensor:
        """(B, frames, bins) -> (B, frames, bins below the end of the bands): the bands, spread over their bins."""
        # Products of few rows round differently, and a frame must have the same bits whatever the others are.
        rows, weights = F.pad(magnitude[..., : self._end], (0, 0, 0, LEAST_COLUMNS)), self.weights[:, : self._end]
        return ((rows @ weights.T) @ weights)[:, : magnitude.shape[1]]


def _magnitude(spectrum: Tensor) -> Tensor:
    return (spectrum.real.square() + spectrum.imag.square() + _LEAST_POWER).sqrt()


def make_prior(config: PriorConfig, spec: MelSpec | None, n_fft: int = 0) -> ShapedNormal | None:
    """The prior of a configuration; None for white noise alone.

    Raises:
        ConfigError: a shaped one without a mel.
    """
    if config.power == 0 and config.start_time == 1:
        return None
    if spec is None:
        raise ConfigError("prior: shaped noise and a guess need a mel; set power to 0 and start_time to 1")
    return ShapedNormal(config, spec, n_fft)
