"""Predicted opinions of listeners, and the error above 8 kHz: direct calls of the packages, and closed forms."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from wavediff.audio import resample
from wavediff.cli.main import main
from wavediff.errors import AudioError, ConfigError, MissingExtraError
from wavediff.metrics import METRICS, evaluate_pair, evaluate_signal, select_metrics

RATE = 22050


def white(length: int, level: float = 0.1) -> Tensor:
    return level * torch.randn(length, generator=torch.Generator().manual_seed(0))


def amplified_above(waveform: Tensor, start: float, gain: float) -> Tensor:
    """`waveform` with everything above `start` [Hz] amplified by `gain` [dB]."""
    spectrum = torch.fft.rfft(waveform.double())
    spectrum[torch.fft.rfftfreq(len(waveform), 1 / RATE) >= start] *= 10 ** (gain / 20)
    return torch.fft.irfft(spectrum, len(waveform)).float()


@pytest.mark.parametrize("gain", [-6.0, 3.0])
def test_a_gain_above_8_khz_is_the_error_of_unvoiced_noise(gain: float) -> None:
    noise = white(RATE)
    figures = evaluate_pair(noise, amplified_above(noise, 7500, gain), RATE, ["high_band_voiced", "high_band_unvoiced"])
    assert figures["high_band_unvoiced"] == pytest.approx(gain, abs=0.1)
    assert figures["high_band_voiced"] is None


def test_voiced_and_silent_frames_are_kept_apart() -> None:
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    harmonics = sum(torch.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 21))
    voice = (0.1 * harmonics).float() + white(RATE, 1e-3)
    noise, silence = white(RATE), torch.zeros(RATE)
    reference = torch.cat([voice, silence, noise])
    hissing = torch.cat([amplified_above(voice, 7500, -4), white(RATE, 1e-4), amplified_above(noise, 7500, 2)])
    figures = evaluate_pair(reference, hissing, RATE, ["high_band_voiced", "high_band_unvoiced"])
    assert figures["high_band_voiced"] == pytest.approx(-4, abs=0.3)
    assert figures["high_band_unvoiced"] == pytest.approx(2, abs=0.3)
    assert evaluate_pair(silence, noise, RATE, ["high_band_unvoiced"]) == {"high_band_unvoiced": None}


def test_the_high_band_needs_its_sample_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioError, match="16000 Hz leaves too little above 8 kHz"):
        evaluate_pair(white(16000), white(16000), 16000, ["high_band_voiced"])
    for package in ("pesq", "pystoi", "visqol", "distillmos", "speechmos"):
        monkeypatch.setitem(sys.modules, package, None)
    assert evaluate_pair(white(16000), white(16000), 16000)["high_band_voiced"] is None


def test_distillmos_is_the_packages_number_and_draws_no_random_numbers(
    speech: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    package = pytest.importorskip("distillmos")
    state = torch.get_rng_state()
    scores = evaluate_signal(speech, RATE, ["distillmos"])
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr().out == ""
    with torch.inference_mode():
        direct = package.ConvTransformerSQAModel().eval()(resample(speech, RATE, 16000)[None]).item()
    assert scores["distillmos"] == pytest.approx(direct, abs=1e-5)
    assert evaluate_pair(white(len(speech)), speech, RATE, ["distillmos"]) == scores
    assert evaluate_signal(white(len(speech)), RATE, ["distillmos"])["distillmos"] < direct - 1
    assert evaluate_signal(torch.zeros(RATE), RATE, ["distillmos"]) == {"distillmos": None}


def test_dnsmos_is_the_packages_p808_score(speech: Tensor) -> None:
    pytest.importorskip("onnxruntime")
    package = pytest.importorskip("speechmos.dnsmos")
    score = evaluate_signal(speech, RATE, ["dnsmos"])["dnsmos"]
    assert score == pytest.approx(package.run(resample(speech, RATE, 16000).numpy(), 16000)["p808_mos"], abs=1e-4)
    assert evaluate_signal(white(len(speech)), RATE, ["dnsmos"])["dnsmos"] < score - 0.5
    assert evaluate_signal(20 * speech, RATE, ["dnsmos"])["dnsmos"] == pytest.approx(score, abs=0.01)
    assert evaluate_signal(torch.zeros(RATE), RATE, ["dnsmos"]) == {"dnsmos": None}


def test_visqol_is_the_packages_audio_mode(speech: Tensor) -> None:
    package = pytest.importorskip("visqol")
    noisy = speech + white(len(speech), 0.01)
    api = package.VisqolApi()
    api.create(mode="audio")
    ours, theirs = (resample(x, RATE, 48000).double().numpy() for x in (speech, noisy))
    score = evaluate_pair(speech, noisy, RATE, ["visqol"])["visqol"]
    assert score == pytest.approx(api.measure_from_arrays(ours, theirs, 48000).moslqo, abs=1e-6)
    assert evaluate_pair(speech, speech, RATE, ["visqol"])["visqol"] > 4.7 > score + 1
    assert evaluate_pair(speech[:8000], noisy[:8000], RATE, ["visqol"]) == {"visqol": None}
    assert evaluate_pair(speech, torch.zeros_like(speech), RATE, ["visqol"]) == {"visqol": None}


def test_without_a_reference_only_metrics_of_one_signal_are_chosen() -> None:
    names, _ = select_metrics(alone=True)
    assert {"peak", "dc_offset", "clipped"} <= set(names) <= {name for name in METRICS if METRICS[name].alone}
    with pytest.raises(ConfigError, match="mcd need a reference"):
        evaluate_signal(white(RATE), RATE, ["peak", "mcd"])


@pytest.mark.parametrize(("name", "package"), [("distillmos", "distillmos"), ("dnsmos", "speechmos"), ("visqol",) * 2])
def test_a_missing_package_is_one_error(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}: pip install 'wavediff\[eval\]'"):
        evaluate_pair(white(RATE), white(RATE), RATE, [name])


def test_evaluate_scores_a_folder_alone_and_the_references_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, level in (("ref", 0.2), ("syn", 0.1)):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "a.wav", white(RATE, level).numpy().clip(-0.9, 0.9), RATE)
    assert main(["evaluate", str(tmp_path / "syn"), "--metrics", "peak", "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["reference"] is None
    assert report["files"]["a"]["peak"] == pytest.approx(white(RATE).abs().max().item(), abs=1e-3)
    assert main(["evaluate", str(tmp_path / "syn"), "--metrics", "mcd", "--quiet"]) == 2
    assert "need a reference" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "syn"), "--generated"]) == 2
    assert "--generated" in capsys.readouterr().err
    pytest.importorskip("distillmos")
    pair = [str(tmp_path / "ref"), str(tmp_path / "syn")]
    assert main(["evaluate", *pair, "--metrics", "distillmos", "--json", "--quiet"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert main(["evaluate", pair[0], "--metrics", "distillmos", "--json", "--quiet"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert both["recordings"]["distillmos"]["mean"] == alone["summary"]["distillmos"]["mean"]


def test_the_high_band_notices_what_a_smooth_signal_lacks() -> None:
    """A tone that is missing in the band counts with its power, although few bins hold it."""
    time = torch.arange(2 * RATE) / RATE
    carrier = 0.1 * torch.sin(2 * torch.pi * 9_500 * time)
    hiss = 1e-3 * white(2 * RATE)
    peaky = hiss + carrier
    figures = evaluate_pair(peaky, hiss, RATE, ["high_band_unvoiced"])
    power = [float(x.square().mean()) for x in (carrier, hiss)]
    expected = 10 * math.log10(power[1] * 3_025 / 11_025 / power[0])  # the hiss is spread evenly to half the rate
    assert figures["high_band_unvoiced"] == pytest.approx(expected, abs=1)
