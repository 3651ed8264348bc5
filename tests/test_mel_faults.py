"""Mels and dialects that must be refused, and the valid ones that must not be."""

import dataclasses
import math
import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Tensor

from wavediff.errors import ConfigError, MelError
from wavediff.mel import PRESETS, MelSpec, MelTransform, check_mel, likely_dialects

HIFIGAN, T2, LMNT = PRESETS["hifigan"], PRESETS["tacotron2"], PRESETS["lmnt-diffwave"]
DECIBELS = dataclasses.replace(T2, log="db")


@pytest.fixture(scope="module")
def clips(ljspeech: Path) -> list[tuple[np.ndarray, int]]:
    """Two clips of LJSpeech and, at other levels and from other microphones, one each of LibriTTS and VCTK."""
    root = ljspeech.parent
    paths = [
        ljspeech / "wavs" / "LJ001-0002.wav",
        ljspeech / "wavs" / "LJ001-0008.wav",
        min((root / "LibriTTS").glob("*.flac")),
        min((root / "VCTK").glob("*.flac")),
    ]
    loaded = [sf.read(path, dtype="float32", stop=80000) for path in paths]
    return [(waveform, rate) for waveform, rate in loaded]


def mels(clips: list[tuple[np.ndarray, int]], spec: MelSpec, gain: float = 1.0) -> list[Tensor]:
    transform = MelTransform(spec)
    waveforms = [librosa.resample(w, orig_sr=rate, target_sr=spec.sample_rate, res_type="soxr_qq") for w, rate in clips]
    return [transform(gain * torch.from_numpy(waveform)[None]) for waveform in waveforms]


# --- shape and type ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (torch.zeros(100, 7), r"expected 80 bands \(hifigan\), got 100"),  # fault 26
        (torch.zeros(1, 7, 80), "looks transposed"),  # fault 27
        (torch.zeros(7, 80), "looks transposed"),  # fault 27
        (torch.zeros(80), r"shape \(80,\)"),
        (torch.zeros(1, 1, 80, 7), "shape"),
        (torch.full((80, 7), math.nan), "560 values are NaN"),  # fault 28
        (torch.zeros(80, 7).index_fill(1, torch.tensor([3]), -math.inf), r"80 values .* first at \(0, 3\)"),  # fault 28
        (np.full((80, 2), 1e300), "infinite"),  # fault 28: only in float32
        (torch.zeros(80, 0), "no frames"),  # fault 29
        (torch.zeros(0, 80, 5), "no frames"),  # fault 29
        (torch.zeros(80, 7, dtype=torch.int16), "int16"),  # fault 31
        (torch.zeros(80, 7, dtype=torch.complex64), "complex64"),  # fault 31
        (np.zeros((80, 7), dtype=object), "object"),  # fault 31
        (np.zeros((80, 7), dtype="U3"), "<U3"),  # fault 31
        ([[0.0] * 7, [0.0]], "list"),  # fault 31
    ],
)
def test_a_mel_of_the_wrong_shape_or_type_is_refused(mel: Tensor, message: str) -> None:
    with pytest.raises(MelError, match=message) as caught:
        check_mel(mel, HIFIGAN, source="some.npy")
    assert str(caught.value).startswith("some.npy: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_every_width_of_float_is_cast(dtype: str) -> None:  # fault 31
    mel = np.linspace(-8, 0, 160).reshape(80, 2).astype(dtype)
    expected = torch.from_numpy(mel.astype(np.float32))[None]
    assert torch.equal(check_mel(mel, HIFIGAN), expected)
    if dtype != ">f4":
        assert torch.equal(check_mel(torch.from_numpy(mel), HIFIGAN), expected)


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [1.0, 0.01])
@pytest.mark.parametrize("name", PRESETS)
def test_the_speech_of_every_preset_is_accepted_without_a_warning(
    name: str, gain: float, clips: list[tuple[np.ndarray, int]]
) -> None:
    for mel in mels(clips, PRESETS[name], gain):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checked = check_mel(mel, PRESETS[name])
        torch.testing.assert_close(checked, mel, atol=0, rtol=0)
        if gain == 1.0:
            assert name in likely_dialects(mel)


@pytest.mark.parametrize("name", PRESETS)
def test_silence_tones_noise_and_single_frames_are_accepted(name: str) -> None:
    spec = PRESETS[name]
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 24000, generator=generator) * 2 - 1
    tone = torch.sin(torch.arange(24000) * 0.3)[None]
    transform = MelTransform(spec)
    for waveform in (torch.zeros(1, 24000), 1e-5 * noise, 0.1 * noise, noise, noise.sign(), tone, tone.sign()):
        mel = transform(waveform)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # noise is flatter than speech, and is said to be
            check_mel(mel, spec)
            check_mel(mel[..., 5:6], spec)


@pytest.mark.parametrize("name", PRESETS)
def test_a_constant_mel_within_the_range_is_accepted(name: str) -> None:
    """Some hosts probe their vocoder with zeros."""
    check_mel(torch.zeros(1, PRESETS[name].n_mels, 88), PRESETS[name])


def test_noisy_speech_is_accepted_without_a_warning(clips: list[tuple[np.ndarray, int]]) -> None:
    """12 dB of signal to noise: it spans far less than clean speech."""
    for waveform, _ in clips[:2]:
        noise = np.random.default_rng(0).standard_normal(waveform.shape).astype(np.float32) * waveform.std() / 4
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_mel(MelTransform(HIFIGAN)(torch.from_numpy(waveform + noise)[None]), HIFIGAN)


@pytest.mark.parametrize("name", ["hifigan", "lmnt-diffwave", "espnet"])
def test_predicted_mels_may_overshoot_a_little(name: str, clips: list[tuple[np.ndarray, int]]) -> None:
    spec = PRESETS[name]
    neper = spec.scale * {"ln": 1.0, "log10": 1 / math.log(10), "db": 20 / math.log(10)}[spec.log]
    for mel in mels(clips, spec):
        check_mel(mel + 0.3 * neper * torch.randn(mel.shape, generator=torch.Generator().manual_seed(0)), spec)


def domains(clips: list[tuple[np.ndarray, int]]) -> dict[str, Tensor]:
    """The same loud clip, 80 bands: natural logarithm, decibels, normalised, linear magnitude and power."""
    natural = mels(clips[:1], HIFIGAN)[0]
    return {
        "natural": natural,
        "decibels": natural * 20 / math.log(10),
        "normalised": mels(clips[:1], LMNT)[0],
        "linear": natural.exp(),
        "power": (2 * natural).exp() * 100,
        "integer scale": natural + math.log(32768),
    }


@pytest.mark.parametrize(
    ("domain", "spec", "named"),
    [
        ("decibels", HIFIGAN, "decibels"),
        ("normalised", HIFIGAN, "lmnt-diffwave"),
        ("linear", HIFIGAN, "linear magnitudes"),
        ("power", HIFIGAN, "linear magnitudes"),
        ("integer scale", HIFIGAN, "no dialect known"),
        ("natural", LMNT, "hifigan"),
        ("decibels", LMNT, "decibels"),
        ("linear", LMNT, "linear magnitudes"),
        ("natural", PRESETS["coqui-default"], "hifigan"),
        ("natural", PRESETS["espnet"], "hifigan"),
        ("decibels", PRESETS["espnet"], "decibels"),
        ("normalised", PRESETS["espnet"], "lmnt-diffwave"),
        ("linear", PRESETS["espnet"], "linear magnitudes"),
        ("natural", DECIBELS, "hifigan"),
        ("normalised", DECIBELS, "lmnt-diffwave"),
        ("linear", DECIBELS, "linear magnitudes"),
    ],
)
def test_values_of_another_domain_are_refused_and_it_is_named(
    domain: str, spec: MelSpec, named: str, clips: list[tuple[np.ndarray, int]]
) -> None:  # fault 32
    with pytest.raises(MelError, match=named) as caught:
        check_mel(domains(clips)[domain], spec)
    assert f"are not {spec.name} (" in str(caught.value)


def test_a_lower_floor_is_noticed() -> None:  # fault 32
    waveform = torch.zeros(1, 24000).index_fill(1, torch.arange(12000, 24000, 100), 0.5)
    mel = MelTransform(PRESETS["coqui"])(waveform)
    with pytest.raises(MelError, match=r"below its floor.*coqui"):
        check_mel(mel, T2)


def test_decimal_logarithms_read_as_natural_ones_are_warned_of(clips: list[tuple[np.ndarray, int]]) -> None:  # fault 32
    """Their ranges overlap, so this must not be refused: noise spans as little."""
    for mel in mels(clips, PRESETS["espnet"]):
        with pytest.warns(UserWarning, match=r"as hifigan.*look like espnet"):
            check_mel(mel, HIFIGAN)


def test_the_likely_dialects_of_speech_share_its_logarithm_first(clips: list[tuple[np.ndarray, int]]) -> None:
    for name in PRESETS:
        for mel in mels(clips[:2], PRESETS[name]):
            first = PRESETS[likely_dialects(mel)[0]]
            assert (first.log, first.n_mels, first.scale) == (
                PRESETS[name].log,
                PRESETS[name].n_mels,
                PRESETS[name].scale,
            )


# --- dialects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 1_000_000_000),
        ("sample_rate", 22050.5),
        ("n_fft", 10**9),
        ("n_fft", 1025),
        ("n_fft", True),
        ("win_length", 2048),
        ("win_length", 0),
        ("hop_length", 0),
        ("hop_length", 4096),
        ("hop_length", 275),
        ("framing", "hifigan"),
        ("framing", ["same"]),
        ("pad_mode", "circular"),
        ("window", "hamming"),
        ("magnitude_eps", -1.0),
        ("magnitude_eps", math.nan),
        ("stft_normalized", 1),
        ("n_mels", 10**9),
        ("n_mels", "80"),
        ("n_mels", True),
        ("f_min", -1.0),
        ("f_min", 9000.0),
        ("f_max", 11026.0),
        ("f_max", None),
        ("mel_scale", "bark"),
        ("mel_norm", None),
        ("floor", 0.0),
        ("floor", math.inf),
        ("floor_mode", "max"),
        ("log", "log2"),
        ("scale", 0.0),
        ("scale", True),
        ("offset", 1e300),
        ("clip", [1.0, 0.0]),
        ("clip", [0.0]),
        ("clip", [math.nan, 1.0]),
        ("clip", [0.0, math.inf]),
        ("mean", [0.0] * 80),
        ("std", [0.0] * 79),
        ("std", "a" * 80),
    ],
)
def test_a_dialect_out_of_bounds_is_refused_by_the_fields_name(field: str, value: object) -> None:  # fault 44
    with pytest.raises(ConfigError, match=field):
        MelSpec.from_dict({**HIFIGAN.to_dict(), field: value})


def test_a_standard_deviation_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="std"):
        dataclasses.replace(HIFIGAN, mean=(0.0,) * 80, std=(0.0,) * 80)


def test_a_dictionary_with_unknown_or_missing_keys_is_refused() -> None:
    values = HIFIGAN.to_dict()
    with pytest.raises(ConfigError, match="unknown class_path"):
        MelSpec.from_dict({**values, "class_path": "os.system"})  # fault 47
    del values["floor"]
    with pytest.raises(ConfigError, match="missing floor"):
        MelSpec.from_dict(values)
    with pytest.raises(ConfigError, match="got list"):
        MelSpec.from_dict([])  # type: ignore[arg-type]
