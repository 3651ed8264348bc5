"""Resampling, by the table of torchaudio and by the direct sum for odd ratios: checked against closed forms."""

from pathlib import Path

import pytest
import torch

from wavediff.audio import read_audio, resample, resampling
from wavediff.errors import AudioError

RATE = 22_050
RATIOS = [(22_050, 24_000), (44_100, 16_000), (48_000, 22_050), (8_000, 44_100), (22_051, 22_050), (44_100, 22_051)]


def sine(rate: int, frequency: float, samples: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (0.5 * torch.sin(2 * torch.pi * frequency * torch.arange(samples, dtype=torch.float64) / rate)).to(dtype)


@pytest.mark.parametrize(("from_rate", "to_rate"), RATIOS)
def test_a_resampled_sine_keeps_frequency_phase_and_amplitude(from_rate: int, to_rate: int) -> None:
    resampled = resample(sine(from_rate, 1000, from_rate // 4, torch.float32), from_rate, to_rate)
    assert len(resampled) == -(-(from_rate // 4) * to_rate // from_rate)
    edge = to_rate // 40
    expected = sine(to_rate, 1000, len(resampled), torch.float32)
    torch.testing.assert_close(resampled[edge:-edge], expected[edge:-edge], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44_100, 16_000), (44_100, 16_001)])
def test_what_lies_above_the_new_nyquist_frequency_vanishes(from_rate: int, to_rate: int) -> None:
    resampled = resample(sine(from_rate, 9000, 20_000), from_rate, to_rate)
    assert resampled[500:-500].abs().max() < 0.5e-6  # -120 dB: no alias


def test_the_largest_odd_ratio_still_works() -> None:
    resampled = resample(sine(384_000, 5000, 9_000, torch.float32), 384_000, 383_999)
    torch.testing.assert_close(
        resampled[200:-200], sine(383_999, 5000, 9_000, torch.float32)[200:-200], atol=1e-6, rtol=0
    )


def test_both_ways_to_resample_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(2, 3, 1001, dtype=torch.float64)
    by_table = resample(noise, 22_050, 16_000)
    monkeypatch.setattr(resampling, "_MAX_KERNEL_VALUES", 0)
    torch.testing.assert_close(resample(noise, 22_050, 16_000), by_table, atol=2e-7, rtol=0)


@pytest.mark.parametrize("to_rate", [16_000, 22_051])
def test_gradients_flow_through_resampling(to_rate: int) -> None:
    waveform = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resample(x, RATE, to_rate), waveform)


def test_band_limited_speech_survives_a_round_trip(ljspeech: Path) -> None:
    waveform, _ = read_audio(ljspeech / "wavs" / "LJ001-0002.wav", 16_000)
    back = resample(resample(waveform, 16_000, 44_100), 44_100, 16_000)[: len(waveform)]
    spectra = [torch.stft(x, 1024, window=torch.hann_window(1024), return_complex=True) for x in (waveform, back)]
    reference, difference = spectra[0][:, 4:-4], (spectra[0] - spectra[1])[:, 4:-4]
    passband = int(0.85 * 513)
    assert difference[:passband].norm() < 1e-4 * reference[:passband].norm()


def test_the_length_is_exact_beyond_the_precision_of_float32() -> None:
    assert len(resample(torch.zeros(5_600_003), 4_000, 12_000)) == 16_800_009  # rounds to 16,800,008 in float32


@pytest.mark.parametrize("rate", [0, -1, 3_999, 384_001, 16_000.5])
def test_rates_out_of_bounds_are_refused(rate: float) -> None:
    with pytest.raises(AudioError, match="from 4000 to 384000 Hz"):
        resample(torch.zeros(9), RATE, rate)  # type: ignore[arg-type]


def test_integers_are_not_resampled() -> None:
    with pytest.raises(AudioError, match=r"int16 values.*divided by 32768"):
        resample(torch.zeros(9, dtype=torch.int16), RATE, 16_000)


def test_what_a_metric_has_resampled_can_still_be_trained_through() -> None:
    with torch.inference_mode():
        resample(torch.randn(2400), 23_000, 22_000)
    waveform = torch.randn(2400, requires_grad=True)
    resample(waveform, 23_000, 22_000).square().sum().backward()
    assert waveform.grad is not None


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(24_000, 16_000), (22_050, 16_000), (16_000, 24_000), (24_000, 8_000)]
)
def test_as_a_layer_it_is_the_same(from_rate: int, to_rate: int) -> None:
    noise = torch.randn(2, 6_001, generator=torch.Generator().manual_seed(0))
    layer = resampling.RateChange(from_rate, to_rate)
    torch.testing.assert_close(layer(noise), resample(noise, from_rate, to_rate), atol=2e-6, rtol=0)
    other = noise.clone()
    unit = 2000 // layer.unit * layer.unit
    other[:, unit + layer.reach :] = 0
    done = unit // layer.unit * layer.made
    assert torch.equal(layer(other)[:, :done], layer(noise)[:, :done])
