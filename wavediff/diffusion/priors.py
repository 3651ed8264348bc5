"""What the noise of a process looks like, and where its sampling starts.

The forward process is x_t = alpha x_0 + sigma n. With `StandardNormal` n is white, as in DiffWave. With
`ShapedNormal` it is white noise filtered by the spectral envelope that the mel promises, so that every frequency has
about the same signal-to-noise ratio at a time t (PriorGrad, Lee et al. 2022, arXiv 2106.06406; SpecGrad, Koizumi
et al. 2022, arXiv 2203.16749, section 3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wavediff.diffusion.harmonic import HarmonicSource, minimum_phase
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT, MelSpec, SpectralEnvelope, pseudo_inverse
from wavediff.mel.griffin_lim import find_phase
from wavediff.mel.pitch import PitchNet

MAX_PHASE_ITERATIONS = 1_000
MAX_WIDTH = 255  # of a mean over bands or frames
_INVERSION_ITERATIONS = 20  # multiplicative updates of the pseudo-inverse


@dataclass(frozen=True)
class PriorConfig:
    """Shape of the noise, and the start of sampling.

    Attributes:
        power: exponent of the spectral envelope that shapes the noise; 0 for white noise.
        bands, frames: what the envelope is averaged over, odd and up to `MAX_WIDTH`.
        start_time: 1 starts from noise alone; below, from a guess at the speech, noised to this time. Truncated
            diffusion (Zheng et al. 2023, arXiv 2202.09671): what a cheap method finds needs no network evaluation.
        phase_iterations: Griffin-Lim iterations that make the guess from the mel and from the first phase.
        harmonic: the first phase is that of a voice with the pitch of the mel, instead of the noise's. It is worth
            about 20 iterations, and looks a twentieth of a second ahead.

    Raises:
        ConfigError: a value out of bounds.
    """

    power: float = 0.0
    bands: int = 5
    frames: int = 3
    start_time: float = 1.0
    phase_iterations: int = 32
    harmonic: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 1 or not 0 < self.start_time <= 1:
            raise ConfigError(
                f"prior: power {self.power} must lie in [0, 1] and start_time {self.start_time} in (0, 1]"
            )
        if not 0 <= self.phase_iterations <= MAX_PHASE_ITERATIONS:
            raise ConfigError(f"prior.phase_iterations: {self.phase_iterations} is outside 0 to {MAX_PHASE_ITERATIONS}")
        for name in ("bands", "frames"):
            if not 1 <= getattr(self, name) <= MAX_WIDTH or getattr(self, name) % 2 == 0:
                raise ConfigError(f"prior.{name}: {getattr(self, name)} is not an odd number from 1 to {MAX_WIDTH}")
        if type(self.harmonic) is not bool:
            raise ConfigError(f"prior.harmonic: {self.harmonic!r} is neither true nor false")


class Prior(nn.Module):
    """What the noise of a process looks like: white, and sampling starts from it alone.

    Attributes:
        shaping: the prior itself if it shapes noise by a mel, otherwise None.
        start_time: where sampling starts; below 1 from a guess.
    """

    shaping: "ShapedNormal | None" = None
    start_time = 1.0


class StandardNormal(Prior):
    """White noise."""


class ShapedNormal(Prior):
    """Noise with the mel's envelope, and a guess at the speech to start from.

    Args:
        config: of the prior.
        spec: dialect of the mel.
    """

    def __init__(self, config: PriorConfig, spec: MelSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.envelope = SpectralEnvelope(spec, config.bands, config.frames, config.power)
        self.stft = FrameSTFT(spec)
        self.pitch = PitchNet().requires_grad_(False) if config.harmonic else None
        self.start_time = config.start_time

    @property
    def shaping(self) -> "ShapedNormal":  # type: ignore[override]
        """Itself."""
        return self

    def spectra(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mel (B, n_mels, frames) -> envelope of the noise and pseudo-inverse, both (B, frames, n_fft // 2 + 1)."""
        return self.envelope(mel), self.magnitude(mel)

    def magnitude(self, mel: Tensor) -> Tensor:
        """Pseudo-inverse of a mel, frame by frame: (B, n_mels, frames) -> (B, frames, n_fft // 2 + 1)."""
        return pseudo_inverse(mel, self.spec, iterations=_INVERSION_ITERATIONS).transpose(1, 2)

    def shape(self, noise: Tensor, envelope: Tensor) -> Tensor:
        """White noise (B, N) -> noise with the envelope."""
        return self.stft.synthesis(self.stft.analysis(noise) * (envelope / self.stft.noise_level))

    def guess(self, white: Tensor, envelope: Tensor, magnitude: Tensor, iterations: int | None = None) -> Tensor:
        """A signal (B, N) with these magnitudes, its phase found from that of noise (B, N) or of a voice."""
        count = self.config.phase_iterations if iterations is None else iterations
        if self.pitch is None:
            spectrum = self.stft.analysis(self.shape(white, envelope))
        else:
            pitch, voicing = self.pitch(magnitude)
            voice = HarmonicSource(self.stft.n_fft, self.stft.hop_length).push(pitch, voicing, white)
            spectrum = self.uttered(self.stft.analysis(voice), envelope)
        return find_phase(magnitude, spectrum, self.stft, count)

    def uttered(self, spectrum: Tensor, envelope: Tensor) -> Tensor:
        """Spectrum of a source (B, frames, bins) -> as the vocal tract of that envelope turns its phase."""
        phase = minimum_phase(envelope.log() / self.config.power)
        # In real numbers: of complex products some processors round the last few otherwise than the rest.
        cosine, sine = phase.cos(), phase.sin()
        return torch.complex(
            spectrum.real * cosine - spectrum.imag * sine, spectrum.real * sine + spectrum.imag * cosine
        )


def make_prior(config: PriorConfig, spec: MelSpec | None) -> Prior:
    """The prior of a configuration.

    Raises:
        ConfigError: a shaped one without a mel.
    """
    if config.power == 0 and config.start_time == 1:
        return StandardNormal()
    if spec is None:
        raise ConfigError("prior: shaped noise and a guess need a mel; set power to 0 and start_time to 1")
    return ShapedNormal(config, spec)
