"""The fine structure that the lowest harmonics give to magnitudes which a mel has smoothed."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff import MelSpec
from wavediff.audio import read_audio
from wavediff.diffusion.priors import PriorConfig, ShapedNormal
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT, MelTransform
from wavediff.mel.phases import Harmonics, neighbours
from wavediff.models import WEIGHTS

SPEC = MelSpec.preset("hifigan")
STFT = FrameSTFT(SPEC)
HERTZ = torch.arange(513) * SPEC.sample_rate / SPEC.n_fft
PITCHES = (110.0, 180.0, 250.0)


def voice(pitch: float, frames: int = 20) -> Tensor:
    """Partials of equal strength at all multiples of a pitch [Hz]: (1, N)."""
    time = torch.arange(frames * SPEC.hop_length, dtype=torch.float64) / SPEC.sample_rate
    partials = torch.arange(1, int(SPEC.sample_rate / 2 / pitch))
    return torch.sin(2 * math.pi * pitch * partials[:, None] * time + partials[:, None] ** 2).sum(0)[None].float()


def smooth(magnitude: Tensor, reach: int = 20) -> Tensor:
    """Mean over the bins around each, at least a pitch to either side."""
    return F.avg_pool1d(magnitude, 2 * reach + 1, 1, reach, count_include_pad=False)


def likeness(ours: Tensor, theirs: Tensor, lowest: float, highest: float) -> float:
    """Correlation of the logarithms of two magnitudes (1, frames, bins), each less its local mean."""
    band = (lowest <= HERTZ) & (highest > HERTZ)
    a, b = (((m + 1e-6).log() - smooth((m + 1e-6).log()))[:, 3:-3, band].flatten() for m in (ours, theirs))
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


@pytest.mark.parametrize("pitch", PITCHES)
def test_partials_lie_at_multiples_of_the_pitch(pitch: float) -> None:
    """Of a voice whose harmonics are known: nothing but the lowest is told, and all others are found."""
    spectrum = STFT.analysis(voice(pitch))
    noise = STFT.analysis(torch.randn(1, spectrum.shape[1] * 256, generator=torch.Generator().manual_seed(0)))
    told = torch.where(HERTZ < 1400, spectrum, 30 * noise)
    flat = torch.ones(spectrum.shape)
    finer = Harmonics(SPEC)(flat, told, STFT)
    for lowest in (3000, 5000, 7000):
        assert likeness(finer, spectrum.abs(), lowest, lowest + 1000) > 0.8
    other = Harmonics(SPEC)(flat, STFT.analysis(voice(pitch * 1.13)), STFT)
    assert likeness(other, spectrum.abs(), 3000, 8000) < 0.3


def test_power_stays_where_it_was_and_low_magnitudes_wholly() -> None:
    magnitude = smooth(STFT.analysis(voice(180)).abs()) * torch.linspace(1, 0.01, 513)
    for spectrum in (STFT.analysis(voice(180)), STFT.analysis(torch.randn(1, 20 * 256))):
        finer = Harmonics(SPEC)(magnitude, spectrum, STFT)
        ratio = smooth(finer.square()) / smooth(magnitude.square())
        assert (ratio[..., 20:-20] - 1).abs().max() < 0.4
        assert abs(ratio.mean().item() - 1) < 0.05
        torch.testing.assert_close(finer[..., HERTZ < 1800], magnitude[..., HERTZ < 1800])
        assert (finer / magnitude)[..., HERTZ > 3000].std() > 0.2


def test_the_scale_of_the_spectrum_says_nothing() -> None:
    spectrum, magnitude = STFT.analysis(voice(180)), torch.rand(1, 20, 513)
    expected = Harmonics(SPEC)(magnitude, spectrum, STFT)
    for scale in (1e-4, 1e3):
        torch.testing.assert_close(Harmonics(SPEC)(magnitude, scale * spectrum, STFT), expected, rtol=1e-2, atol=1e-3)


def test_silence_stays_silent() -> None:
    silent = torch.zeros(1, 4, 513)
    assert torch.equal(Harmonics(SPEC)(silent, STFT.analysis(voice(180, 4)), STFT), silent)
    assert Harmonics(SPEC)(torch.ones(1, 4, 513), silent.to(torch.complex64), STFT).isfinite().all()


def test_the_amount_is_an_exponent() -> None:
    magnitude, spectrum = torch.ones(1, 20, 513), STFT.analysis(voice(180))
    half, whole = (Harmonics(SPEC, amount)(magnitude, spectrum, STFT)[0, 10, HERTZ > 3000] for amount in (0.5, 1.0))
    assert 0.35 < (half.log().std() / whole.log().std()).item() < 0.65
    with pytest.raises(ConfigError, match=r"prior\.harmonics"):
        PriorConfig(power=0.85, start_time=0.1, harmonics=1.5)


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """The bundled recording: (1, N)"""
    waveform, rate = read_audio(WEIGHTS / "clip.flac")
    assert rate == SPEC.sample_rate
    return waveform.reshape(1, -1)[:, : 200 * SPEC.hop_length]


@pytest.mark.parametrize("low_latency", [False, True])
def test_a_guess_at_real_speech_has_more_of_its_harmonics(clip: Tensor, low_latency: bool) -> None:
    """In voiced frames, where the recording has a comb below 2.5 kHz; from 3 to 4 kHz."""
    recorded, found = STFT.analysis(clip).abs(), {}
    comb = (recorded + 1e-6).log()[0, :, (HERTZ > 500) & (HERTZ < 2500)]
    voiced = (comb - smooth(comb[None])[0]).var(1)
    voiced = voiced > voiced.quantile(0.7)
    white = torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    for amount in (0.0, 1.0):
        prior = ShapedNormal(PriorConfig(power=0.85, start_time=0.1, phase_iterations=40, harmonics=amount), SPEC)
        guess = prior.guess(white, *prior.spectra(MelTransform(SPEC)(clip)), low_latency=low_latency)
        found[amount] = likeness(STFT.analysis(guess).abs()[:, voiced], recorded[:, voiced], 3000, 4000)
    assert found[1.0] > found[0.0] + 0.03


def test_files_that_were_written_before_there_were_any_mean_none() -> None:
    assert dataclasses.asdict(PriorConfig())["harmonics"] == 0


@pytest.mark.parametrize("width", [1, 2, 3, 8, 17, 31])
def test_sums_of_neighbours_are_means_over_as_many(width: int) -> None:
    x = torch.rand(2, 3, 40, dtype=torch.float64)
    torch.testing.assert_close(neighbours(x, width), width * F.avg_pool1d(x, width, 1))


def test_magnitudes_at_the_ends_are_compared_with_the_bins_that_there_are() -> None:
    """The mean over the bins around each leaves out those beyond the ends."""
    harmonics, power = Harmonics(SPEC), torch.rand(1, 4, 513) + 0.1
    expected = F.avg_pool1d(power, 17, 1, 8, count_include_pad=False)
    torch.testing.assert_close(harmonics._around(power), expected)
