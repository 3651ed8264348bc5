"""Mel spectrograms against librosa in float64 and against lmnt's own recipe, on real speech."""

import dataclasses
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile as sf
import torch
import torchaudio
from mel_references import REFERENCES, reference_bands
from torch import Tensor

from wavediff.errors import AudioError, ConfigError
from wavediff.mel import PRESETS, MelSpec, MelTransform


@pytest.fixture(scope="module")
def speech(ljspeech: Path) -> dict[int, Tensor]:
    """One test clip (1, N) at each sample rate."""
    waveform, rate = sf.read(ljspeech / "wavs" / "LJ001-0002.wav", dtype="float32")
    assert rate == 22050
    return {
        target: torch.from_numpy(librosa.resample(waveform, orig_sr=rate, target_sr=target))[None]
        for target in (16000, 22050, 24000)
    }


def test_every_preset_has_a_reference() -> None:
    assert set(PRESETS) == set(REFERENCES)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_preset_equals_librosa_in_float64_on_speech(name: str, speech: dict[int, Tensor]) -> None:
    row, spec = REFERENCES[name], PRESETS[name]
    waveform = speech[row.rate]
    bands = reference_bands(row, waveform[0].double().numpy())
    mel = MelTransform(spec)(waveform)[0].numpy()
    assert mel.shape == bands.shape
    # 2e-4 nepers, and where a band is a millionth of its frame's loudest, what a float32 FFT leaves of it.
    tolerance = 2e-4 + 1e-6 * bands.max(axis=0) / bands
    error = np.abs(mel - row.finish(bands)) / row.per_neper
    assert (error < tolerance).all(), f"{(error / tolerance).max():.2f} times the tolerance"
    assert error.mean() < (5e-3 if spec.f_max == 12000 else 5e-6)  # nothing was recorded above 11025 Hz


def test_lmnt_diffwave_equals_its_own_recipe(speech: dict[int, Tensor]) -> None:
    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=22050,
        win_length=1024,
        hop_length=256,
        n_fft=1024,
        f_min=20.0,
        f_max=11025.0,
        n_mels=80,
        power=1.0,
        normalized=True,
    )
    spectrogram = 20 * torch.log10(torch.clamp(transform(speech[22050]), min=1e-5)) - 20
    expected = torch.clamp((spectrogram + 100) / 100, 0.0, 1.0)
    torch.testing.assert_close(MelTransform(PRESETS["lmnt-diffwave"])(speech[22050]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_frames_are_counted_as_they_come(name: str) -> None:
    spec = PRESETS[name]
    transform = MelTransform(spec)
    for num_samples in (spec.min_samples, 10 * spec.hop_length - 1, 10 * spec.hop_length, 10 * spec.hop_length + 1):
        assert transform(torch.zeros(1, num_samples)).shape == (1, spec.n_mels, spec.frames(num_samples))
    expected = 10 if spec.framing == "same" else 11
    assert spec.frames(10 * spec.hop_length) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_a_waveform_too_short_is_refused_with_the_length_needed(name: str) -> None:
    spec = PRESETS[name]
    with pytest.raises(AudioError, match=f"at least {spec.min_samples}"):
        MelTransform(spec)(torch.zeros(1, spec.min_samples - 1))


def test_a_batch_equals_its_items(speech: dict[int, Tensor]) -> None:
    waveforms = speech[22050][:, :30000].reshape(3, 10000)
    transform = MelTransform(MelSpec())
    singles = torch.cat([transform(waveform[None]) for waveform in waveforms])
    torch.testing.assert_close(transform(waveforms), singles, atol=1e-6, rtol=0)


def test_anything_but_a_batch_of_floats_is_refused() -> None:
    for waveform in (torch.zeros(4000), torch.zeros(1, 1, 4000), torch.zeros(1, 4000, dtype=torch.int16)):
        with pytest.raises(AudioError, match=r"waveform: .*(\(B, N\)|int16)"):
            MelTransform(MelSpec())(waveform)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype: torch.dtype, speech: dict[int, Tensor]) -> None:
    transform = MelTransform(PRESETS["coqui"])
    expected = transform(speech[22050])
    with torch.autocast("cpu", dtype=dtype):
        mel = transform(speech[22050])
    assert mel.dtype == torch.float32
    torch.testing.assert_close(mel, expected, atol=0, rtol=0)


SMALL = {"sample_rate": 8000, "n_fft": 32, "win_length": 32, "hop_length": 8, "n_mels": 6, "f_max": 4000.0}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"framing": "center", "magnitude_eps": 0.0, "log": "db", "scale": 0.01, "stft_normalized": True},
        {"floor_mode": "add", "log": "log10", "mean": (0.5,) * 6, "std": (2.0,) * 6},
    ],
)
def test_the_gradient_is_that_of_finite_differences(changes: dict[str, object]) -> None:
    transform = MelTransform(MelSpec(**{**SMALL, **changes}))  # type: ignore[arg-type]
    waveform = torch.randn(1, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(transform, (waveform,))


@pytest.mark.parametrize("name", PRESETS)
def test_the_gradient_is_finite_in_digital_silence(name: str) -> None:
    waveform = torch.zeros(1, 8000, requires_grad=True)
    MelTransform(PRESETS[name])(waveform).sum().backward()
    assert waveform.grad is not None
    assert waveform.grad.isfinite().all()


def test_the_transform_saves_nothing() -> None:
    assert MelTransform(MelSpec()).state_dict() == {}


def test_specs_are_equal_by_value_and_named_after_their_preset() -> None:
    assert MelSpec() == PRESETS["hifigan"] == MelSpec.preset("hifigan")
    assert {spec.name: spec for spec in PRESETS.values()} == PRESETS
    custom = dataclasses.replace(MelSpec(), floor=1e-6)
    assert (custom.name, custom == MelSpec()) == ("custom", False)
    with pytest.raises(ConfigError, match="hifigan, tacotron2"):
        MelSpec.preset("hifi-gan")


@pytest.mark.parametrize("name", PRESETS)
def test_a_spec_survives_its_dictionary(name: str) -> None:
    assert MelSpec.from_dict(PRESETS[name].to_dict()) == PRESETS[name]
    assert PRESETS[name].describe().startswith(f"{name}: ")
    assert "\n" not in PRESETS[name].describe()


def test_what_was_written_before_a_field_existed_means_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Later(MelSpec):
        emphasis: float = 0.0

    old = MelSpec(f_max=7000.0).to_dict()
    with pytest.raises(ConfigError, match="missing emphasis"):
        Later.from_dict(old)
    monkeypatch.setattr("wavediff.mel.spec._LATER_FIELDS", frozenset({"emphasis"}))
    assert Later.from_dict(old) == Later(f_max=7000.0)
    assert Later.from_dict(old | {"emphasis": 0.5}).emphasis == 0.5
    with pytest.raises(ConfigError, match="missing f_max"):
        Later.from_dict({key: value for key, value in old.items() if key != "f_max"})
