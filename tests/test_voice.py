"""The start from a voice: its pitch, its pulses, the phase of the vocal tract."""

import math

import pytest
import torch
from torch import Tensor

from wavediff.audio import read_audio
from wavediff.cli.demo import CLIP
from wavediff.diffusion import PriorConfig
from wavediff.diffusion.harmonic import HarmonicSource, minimum_phase
from wavediff.diffusion.priors import ShapedNormal
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.pitch_net import AHEAD, HIGHEST_PITCH, LOWEST_PITCH, PAST, PITCHES, PitchNet, class_pitch, pitch_class

N_FFT, HOP = 1024, 256


def source(pitch: Tensor, voicing: float, white: Tensor) -> Tensor:
    return HarmonicSource(N_FFT, HOP).push(pitch, torch.full_like(pitch, voicing), white)


def test_a_voiced_source_is_the_sum_of_its_harmonics() -> None:
    pitch = torch.tensor([[10.0, 10.0, 12.5, 12.5]])
    frequency = (pitch.double() / N_FFT).repeat_interleave(HOP, 1)
    phase = frequency.cumsum(1) - frequency  # of each sample, from 0 on
    count = (0.49 / frequency).floor()
    expected = sum(torch.cos(2 * math.pi * k * phase) * (k <= count) for k in range(1, 60)) * (2 / count).sqrt()
    got = source(pitch, 1.0, torch.zeros(1, 4 * HOP))
    torch.testing.assert_close(got, expected.float(), atol=2e-3, rtol=1e-3)


def test_a_source_has_about_unit_variance_whatever_the_voicing() -> None:
    white = torch.randn(1, 400 * HOP, generator=torch.Generator().manual_seed(0))
    pitch = torch.full((1, 400), 9.3)
    torch.testing.assert_close(source(pitch, 0.0, white), white)
    for voicing in (0.3, 1.0):
        assert source(pitch, voicing, white).square().mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_the_phase_goes_on_from_piece_to_piece_bit_by_bit(size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    pitch, voicing = 3 + 20 * torch.rand(2, 100, generator=generator), torch.rand(2, 100, generator=generator)
    white = torch.randn(2, 100 * HOP, generator=generator)
    pieces = zip(pitch.split(size, 1), voicing.split(size, 1), white.split(size * HOP, 1), strict=True)
    stream = HarmonicSource(N_FFT, HOP)
    assert torch.equal(
        torch.cat([stream.push(*piece) for piece in pieces], 1), HarmonicSource(N_FFT, HOP).push(pitch, voicing, white)
    )


def test_the_phase_of_a_resonance_follows_from_its_magnitude() -> None:
    """1 / (1 - 1.6 z^-1 + .81 z^-2) has both poles inside the unit circle."""
    z = torch.exp(2j * math.pi * torch.arange(513, dtype=torch.float64) / 1024)
    response = 1 / (1 - 1.6 / z + 0.81 / z**2)
    torch.testing.assert_close(minimum_phase(response.abs().log()), response.angle(), atol=1e-6, rtol=0)


def test_classes_of_pitch_cover_voices() -> None:
    index = torch.arange(PITCHES, dtype=torch.float64)
    torch.testing.assert_close(pitch_class(class_pitch(index)), index, atol=1e-3, rtol=0)
    assert class_pitch(index)[[0, -1]].tolist() == pytest.approx([LOWEST_PITCH, HIGHEST_PITCH])
    assert pitch_class(torch.zeros(1)) < -PITCHES  # unvoiced


@pytest.mark.parametrize("count", [1, 4, 30])
def test_a_pitch_depends_on_the_frames_it_says_and_no_others(count: int) -> None:
    torch.manual_seed(0)
    net, magnitude = PitchNet(), torch.rand(2, 60, 513)
    pitch, voicing = net(magnitude)
    first = 20
    window = magnitude[:, first - PAST : first + count + AHEAD]
    for whole, part in zip((pitch, voicing), net.inner(window), strict=True):
        assert torch.equal(part, whole[:, first : first + count])
    beyond = magnitude.clone()
    beyond[:, : first - PAST] = beyond[:, first + count + AHEAD :] = 0.5
    assert torch.equal(net(beyond)[0][:, first : first + count], pitch[:, first : first + count])
    assert not torch.equal(net(beyond)[0], pitch)


def test_a_guess_from_a_voice_has_the_pitch_that_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled clip's mel, and a pitch that is not the clip's: the guess is heard at that pitch."""
    waveform, rate = read_audio(CLIP)
    spec = MelSpec.preset("hifigan")
    mel = MelTransform(spec)(waveform.reshape(1, -1)[:, : 200 * HOP])
    prior = ShapedNormal(PriorConfig(power=0.85, start_time=0.15, phase_iterations=0, harmonic=True), spec)
    bins = 150.0 * spec.n_fft / rate
    monkeypatch.setattr(
        PitchNet,
        "forward",
        lambda _, magnitude: (torch.full(magnitude.shape[:2], bins), torch.ones(magnitude.shape[:2])),
    )
    white = torch.randn(1, mel.shape[-1] * HOP, generator=torch.Generator().manual_seed(0))
    # Even magnitudes: those of the mel resolve the clip's own harmonics.
    envelope, _ = prior.spectra(mel)
    guess = prior.guess(white, envelope, envelope)
    alike = [float(guess[0, lag:] @ guess[0, :-lag] / guess.square().sum()) for lag in (74, 147, 220)]
    assert rate / 147 == 150.0
    assert alike[1] > 0.7
    assert max(alike[0], alike[2]) < 0.5 * alike[1]


def test_a_switch_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match=r"prior.harmonic: 1 is neither"):
        PriorConfig(harmonic=1)  # type: ignore[arg-type]


def test_a_voice_in_short_frames_is_refused() -> None:
    spec = MelSpec(sample_rate=8_000, n_fft=128, win_length=128, hop_length=64, n_mels=20, f_max=4_000)
    with pytest.raises(ConfigError, match=r"prior.harmonic: .* frames of 160 samples or more, n_fft is 128"):
        ShapedNormal(PriorConfig(power=0.85, start_time=0.15, phase_iterations=0, harmonic=True), spec)


def test_speech_is_brought_to_the_bands_of_its_mel_and_keeps_its_phase() -> None:
    spec = MelSpec()
    waveform, _ = read_audio(CLIP)
    waveform = waveform.reshape(1, -1)[:, : 100 * HOP]
    mel = MelTransform(spec)(waveform)
    prior = ShapedNormal(PriorConfig(power=0.85, start_time=0.15, consistency=1.0), spec)
    _, magnitude = prior.spectra(mel)
    tilted = prior.stft.analysis(waveform) * torch.linspace(1.6, 0.6, 513)
    spectrum = prior.brought(tilted, magnitude)

    def error(x: Tensor) -> Tensor:
        return (MelTransform(spec)(prior.stft.synthesis(x)) - mel)[..., 2:-2].abs().mean()

    assert error(spectrum) < 0.5 * error(tilted)
    torch.testing.assert_close(spectrum.angle(), tilted.angle(), atol=1e-4, rtol=0)
    above = 400  # 8.6 kHz, where the mel has no bands
    torch.testing.assert_close(spectrum[..., above:], tilted[..., above:])
    with pytest.raises(ConfigError, match=r"prior.power: .* set power above 0"):
        PriorConfig(consistency=1.0)
    with pytest.raises(ConfigError, match=r"prior.consistency: 1.5 is outside 0 to 1"):
        PriorConfig(power=0.5, consistency=1.5)
