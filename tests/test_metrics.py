"""The metrics, against closed forms and against numpy and librosa on real speech."""

import math

import librosa
import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from wavediff.metrics import (
    METRICS,
    clipped,
    dc_offset,
    evaluate_pair,
    f0_rmse,
    log_mel_l1,
    mcd,
    mr_stft,
    noise_floor,
    peak,
    pesq,
    select_metrics,
    stoi,
    voicing_error,
)
from wavediff.metrics.spectra import CEPSTRAL_DECIBELS, cepstral_distortion

RATE = 22050


@pytest.fixture(scope="module")
def hissing(speech: Tensor) -> Tensor:
    return speech + white(len(speech), 0.01)


def white(length: int, level: float = 0.1, seed: int = 0) -> Tensor:
    return level * torch.randn(length, generator=torch.Generator().manual_seed(seed))


def voice(f0: float, seconds: float = 1.0, rate: int = RATE) -> Tensor:
    """Ten harmonics of f0 [Hz] that fall off like a voice's."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (0.3 * sum(torch.sin(2 * math.pi * f0 * k * time) / k for k in range(1, 11))).float()


# Closed forms


def test_a_signal_compared_with_itself_is_perfect(speech: Tensor) -> None:
    figures = evaluate_pair(speech, speech.clone(), RATE)
    for name in ("log_mel_l1", "mr_stft", "mcd", "f0_rmse", "voicing_error"):
        assert figures[name] == 0
    assert figures.get("stoi", 1) == pytest.approx(1, abs=1e-6)
    assert figures.get("pesq", 4.644) == pytest.approx(4.644, abs=1e-3)
    assert figures["noise_floor"] < -60


def test_half_the_level_is_ln_2_in_log_mel_and_half_plus_ln_2_in_mr_stft() -> None:
    noise = white(RATE)
    assert log_mel_l1(noise, noise / 2, RATE) == pytest.approx(math.log(2), rel=1e-4)
    assert mr_stft(noise, noise / 2, RATE) == pytest.approx(0.5 + math.log(2), rel=1e-3)


def test_mcd_does_not_hear_the_level() -> None:
    noise = white(RATE)
    assert mcd(noise, noise / 2, RATE) == pytest.approx(0, abs=1e-2)


def test_two_white_noises_differ_by_the_mean_difference_of_two_log_rayleigh_variables() -> None:
    # One |STFT| bin of white noise is Rayleigh; ln of a ratio of two is logistic with scale 1/2: mean |.| = ln 2.
    # The spectral convergence of two independent Rayleigh fields is sqrt(2 - pi / 2).
    assert mr_stft(white(4 * RATE, seed=1), white(4 * RATE, seed=2), RATE) == pytest.approx(
        math.log(2) + math.sqrt(2 - math.pi / 2), rel=0.01
    )


@pytest.mark.parametrize(("coefficient", "heard"), [(0, 0), (1, 1), (7, 1), (13, 1), (14, 0), (40, 0)])
def test_a_cosine_across_the_mel_bands_is_one_cepstral_coefficient(coefficient: int, heard: int) -> None:
    bands = torch.arange(80) + 0.5
    ripple = 0.3 * torch.cos(math.pi * coefficient * bands / 80)  # (80,)
    log_mels = torch.randn(80, 50, generator=torch.Generator().manual_seed(0)) * 3
    # Orthonormal DCT-II: amplitude A becomes A sqrt(80 / 2).
    expected = heard * 10 * math.sqrt(2) / math.log(10) * 0.3 * math.sqrt(40)
    assert cepstral_distortion(log_mels, log_mels + ripple[:, None]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_mcd_follows_a_warped_time_axis() -> None:
    log_mels = torch.randn(80, 30, generator=torch.Generator().manual_seed(0))
    slow = log_mels.repeat_interleave(2, dim=1)  # (80, 60)
    late = torch.cat([log_mels[:, :1].expand(-1, 31), log_mels[:, 1:]], dim=1)  # (80, 60)
    assert cepstral_distortion(slow, late) == pytest.approx(0, abs=1e-5)
    assert cepstral_distortion(slow, late.flip(1)) > 10


@pytest.mark.parametrize("cents", [100, -100, 700])
def test_a_tone_shifted_by_semitones_is_off_by_as_many_cents(cents: int) -> None:
    ours, theirs = voice(196.0), voice(196.0 * 2 ** (cents / 1200))
    assert f0_rmse(ours, theirs, RATE) == pytest.approx(abs(cents), abs=10)  # pYIN's grid is 10 cents
    assert voicing_error(ours, theirs, RATE) < 5


def test_half_a_tone_turned_to_noise_is_half_the_voicing_decisions() -> None:
    ours = voice(150.0, 2.0)
    theirs = torch.cat([ours[:RATE], white(RATE, 0.2)])
    assert voicing_error(ours, theirs, RATE) == pytest.approx(50, abs=5)
    assert f0_rmse(ours, theirs, RATE) == pytest.approx(0, abs=10)


def test_noise_has_no_pitch_to_compare() -> None:
    assert f0_rmse(white(RATE, seed=1), white(RATE, seed=2), RATE) is None


@pytest.mark.parametrize("level", [-40.0, -70.0])
def test_the_noise_floor_is_the_level_of_the_hiss_where_the_reference_is_silent(level: float) -> None:
    reference = torch.cat([white(RATE, 10 ** (-62 / 20)), voice(200.0), white(RATE, 10 ** (-58 / 20))])
    hiss = white(3 * RATE, 10 ** (level / 20))
    hiss[RATE:] *= 20  # not heard: the reference sounds there
    assert noise_floor(reference, hiss, RATE) == pytest.approx(level, abs=0.1)


def test_the_noise_floor_of_digital_silence_is_a_number_and_without_silence_there_is_none() -> None:
    silence = torch.zeros(RATE)
    assert noise_floor(silence, silence, RATE) == -120
    assert noise_floor(voice(200.0), silence, RATE) is None


def test_dc_offset_peak_and_clipped_samples_are_the_synthesised_signals_own() -> None:
    loud = torch.tensor([0.5, -1.0, 0.99998, 0.0, 1.2, -0.7])
    assert peak(torch.zeros(6), loud, RATE) == pytest.approx(1.2)
    assert clipped(torch.zeros(6), loud, RATE) == 3
    assert dc_offset(torch.ones(6), voice(200.0) - 0.01, RATE) == pytest.approx(0.01, rel=1e-3)


# Independent implementations on real speech


def test_log_mel_l1_is_what_librosa_gives(speech: Tensor, hissing: Tensor) -> None:
    bands = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=80, fmin=0, fmax=8000)

    def log_mel(waveform: Tensor) -> np.ndarray:
        padded = np.pad(waveform.numpy(), 384, mode="reflect")
        spectrum = librosa.stft(padded, n_fft=1024, hop_length=256, center=False)
        return np.log(np.maximum(bands @ np.sqrt(np.abs(spectrum) ** 2 + 1e-9), 1e-5))

    expected = np.abs(log_mel(speech) - log_mel(hissing)).mean()
    assert log_mel_l1(speech, hissing, RATE) == pytest.approx(expected, rel=1e-4)


def test_mr_stft_is_what_numpy_gives(speech: Tensor, hissing: Tensor) -> None:
    def magnitude(waveform: Tensor, n_fft: int, hop: int, win: int) -> np.ndarray:
        window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win) / win), (n_fft - win) // 2)
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform.double(), n_fft // 2, mode="reflect"), n_fft)
        return np.sqrt(np.maximum(np.abs(np.fft.rfft(frames[::hop] * window)) ** 2, 1e-7))

    terms = []
    for resolution in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        ours, theirs = magnitude(speech, *resolution), magnitude(hissing, *resolution)
        terms.append(np.linalg.norm(theirs - ours) / np.linalg.norm(ours) + np.abs(np.log(ours / theirs)).mean())
    assert mr_stft(speech, hissing, RATE) == pytest.approx(np.mean(terms), rel=1e-4)


def test_mcd_is_the_cheapest_path_through_scipys_cepstra() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(80, 12, generator=generator)
    theirs = ours[:, [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 9, 11]] + 0.1 * torch.randn(80, 12, generator=generator)
    a, b = (scipy.fft.dct(x.double().numpy(), axis=0, norm="ortho")[1:14] for x in (ours, theirs))
    distance = np.linalg.norm(a[:, :, None] - b[:, None, :], axis=0)  # (12, 12)
    cost, steps = np.full((13, 13), np.inf), np.zeros((13, 13))
    cost[0, 0] = 0
    for i in range(1, 13):
        for j in range(1, 13):
            before = min([(i - 1, j - 1), (i - 1, j), (i, j - 1)], key=lambda ij: cost[ij])
            cost[i, j], steps[i, j] = cost[before] + distance[i - 1, j - 1], steps[before] + 1
    assert steps[12, 12] > 12  # a diagonal would not tell the path's mean from the frames'
    expected = 10 / math.log(10) * math.sqrt(2) * cost[12, 12] / steps[12, 12]
    assert cepstral_distortion(ours, theirs) == pytest.approx(expected, rel=1e-4)


def test_mcd_of_a_long_signal_is_taken_in_blocks_of_24_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavediff.metrics.spectra.WARPING_BLOCK", 100)
    ripple = torch.cos(math.pi * (torch.arange(80) + 0.5) / 80)[:, None]
    log_mels = torch.randn(80, 250, generator=torch.Generator().manual_seed(0)) * 3
    assert cepstral_distortion(log_mels, log_mels + ripple) == pytest.approx(
        CEPSTRAL_DECIBELS * math.sqrt(40), rel=1e-4
    )
    # Frames moved across a block's border are out of reach of its path.
    assert cepstral_distortion(log_mels, log_mels.roll(100, dims=1)) > 10


def test_other_sample_rates_are_brought_to_22050_hz(speech: Tensor, hissing: Tensor) -> None:
    high = [
        torch.from_numpy(librosa.resample(x.numpy(), orig_sr=RATE, target_sr=44100, res_type="soxr_vhq"))
        for x in (speech, hissing)
    ]
    assert log_mel_l1(*high, 44100) == pytest.approx(log_mel_l1(speech, hissing, RATE), rel=0.01)
    assert mcd(*high, 44100) == pytest.approx(mcd(speech, hissing, RATE), rel=0.01)


def test_more_hiss_is_worse_by_every_metric_that_hears_hiss(speech: Tensor) -> None:
    hears = {"log_mel_l1", "mr_stft", "mcd", "noise_floor", "stoi", "pesq"}
    names = [name for name in select_metrics()[0] if name in hears]
    rows = [evaluate_pair(speech, speech + white(len(speech), level), RATE, names) for level in (1e-3, 1e-2, 1e-1)]
    for name in names:
        figures = [row[name] for row in rows]
        assert figures == sorted(figures, reverse=bool(METRICS[name].higher_is_better)), name


# The listeners of the eval extra


def test_stoi_is_that_of_torchmetrics(speech: Tensor, hissing: Tensor) -> None:
    pytest.importorskip("pystoi")
    functional = pytest.importorskip("torchmetrics.functional.audio")
    expected = functional.short_time_objective_intelligibility(hissing, speech, RATE).item()
    assert stoi(speech, hissing, RATE) == pytest.approx(expected, abs=1e-5)


def test_stoi_of_too_little_speech_is_none_instead_of_a_made_up_figure() -> None:
    pytest.importorskip("pystoi")
    assert stoi(white(4000), white(4000, seed=1), RATE) is None


def test_pesq_is_the_itus_at_16_khz_wide_band(speech: Tensor, hissing: Tensor) -> None:
    itu = pytest.importorskip("pesq")
    ours, theirs = (librosa.resample(x.numpy(), orig_sr=RATE, target_sr=16000) for x in (speech, hissing))
    assert pesq(speech, hissing, RATE) == pytest.approx(itu.pesq(16000, ours, theirs, "wb"), abs=0.03)


def test_pesq_of_long_speech_is_taken_in_pieces_its_tables_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    itu = pytest.importorskip("pesq")
    lengths = []

    def score(rate: int, ours: np.ndarray, theirs: np.ndarray, mode: str) -> float:
        lengths.append(len(ours))
        return float(len(lengths))

    monkeypatch.setattr(itu, "pesq", score)
    assert pesq(white(50 * 16000), white(50 * 16000), 16000) == 2.0
    assert len(lengths) == 3
    assert max(lengths) <= 20 * 16000
    assert sum(lengths) == 50 * 16000


def test_without_speech_there_is_nothing_to_score_and_silence_for_speech_scores_lowest(speech: Tensor) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    silence = torch.zeros(len(speech))
    for synthesised in (silence, speech):
        assert pesq(silence, synthesised, RATE) is None
        assert stoi(silence, synthesised, RATE) is None
    assert pesq(speech, silence, RATE) == 1.0
    assert stoi(speech, silence, RATE) == pytest.approx(0, abs=1e-6)
