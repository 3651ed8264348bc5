"""Mels against librosa in float64, against lmnt's own recipe, and against each other, on real speech."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.optimize
import scipy.signal
import soundfile as sf
import torch
import torchaudio
from torch import Tensor

from wavediff.errors import AudioError, ConfigError, MelError
from wavediff.griffin_lim import griffin_lim
from wavediff.mel import PRESETS, MelSpec, MelTransform, can_convert, convert, pseudo_inverse

LN10 = math.log(10)


@dataclasses.dataclass
class Reference:
    """One row of the dialects, as their projects' own sources state it."""

    rate: int
    n_fft: int
    win: int
    hop: int
    framing: str  # "center", "hifigan" or "nemo"
    bands: int
    f_min: float
    f_max: float
    htk: bool
    norm: str | None
    finish: Callable[[np.ndarray], np.ndarray]
    per_neper: float  # how far a value moves when the magnitude grows by a factor e


def ln(floor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.log(np.maximum(x, floor))


def log10(x: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(x, 1e-10))


def coqui_default(x: np.ndarray) -> np.ndarray:
    level = 20 * np.log10(np.maximum(x, 1e-8)) - 20
    return np.clip(8 * (level + 100) / 100 - 4, -4, 4)


def lmnt(x: np.ndarray) -> np.ndarray:
    level = 20 * np.log10(np.maximum(x / np.sqrt(384), 1e-5)) - 20  # 384 = sum of the squared window
    return np.clip((level + 100) / 100, 0, 1)


A = (22050, 1024, 1024, 256)
H = (24000, 1024, 1024, 256)
REFERENCES = {
    "hifigan": Reference(*A, "hifigan", 80, 0, 8000, False, "slaney", ln(1e-5), 1),
    "tacotron2": Reference(*A, "center", 80, 0, 8000, False, "slaney", ln(1e-5), 1),
    "torchaudio-wavernn": Reference(22050, 2048, 1100, 275, "center", 80, 40, 11025, False, "slaney", ln(1e-5), 1),
    "coqui": Reference(*A, "center", 80, 0, 8000, False, "slaney", ln(1e-8), 1),
    "coqui-default": Reference(*A, "center", 80, 0, 11025, False, "slaney", coqui_default, 1.6 / LN10),
    "lmnt-diffwave": Reference(*A, "center", 80, 20, 11025, True, None, lmnt, 0.2 / LN10),
    "espnet": Reference(*A, "center", 80, 80, 7600, False, "slaney", log10, 1 / LN10),
    "parallel-wavegan-24k": Reference(24000, 2048, 1200, 300, "center", 80, 80, 7600, False, "slaney", log10, 1 / LN10),
    "speecht5": Reference(16000, 1024, 1024, 256, "center", 80, 80, 7600, False, "slaney", log10, 1 / LN10),
    "vocos-24k": Reference(*H, "center", 100, 0, 12000, True, None, ln(1e-7), 1),
    "f5-tts": Reference(*H, "center", 100, 0, 12000, True, None, ln(1e-5), 1),
    "bigvgan-24k": Reference(*H, "hifigan", 100, 0, 12000, False, "slaney", ln(1e-5), 1),
    "nemo-hifigan": Reference(*A, "nemo", 80, 0, 8000, False, "slaney", ln(1e-5), 1),
    "cosyvoice2": Reference(24000, 1920, 1920, 480, "hifigan", 80, 0, 8000, False, "slaney", ln(1e-5), 1),
}


def reference_bands(row: Reference, waveform: np.ndarray) -> np.ndarray:
    """Linear band magnitudes in float64, by librosa."""
    window = scipy.signal.get_window("hann", row.win, fftbins=row.framing != "nemo")
    if row.framing != "center":
        pad = (row.n_fft - row.hop) // 2
        waveform = np.pad(waveform, pad, mode="reflect" if row.framing == "hifigan" else "constant")
    spectrum = librosa.stft(
        waveform,
        n_fft=row.n_fft,
        hop_length=row.hop,
        win_length=row.win,
        window=window,
        center=row.framing == "center",
        pad_mode="reflect",
    )
    eps = 1e-9 if row.framing == "hifigan" else 0.0
    filters = librosa.filters.mel(
        sr=row.rate,
        n_fft=row.n_fft,
        n_mels=row.bands,
        fmin=row.f_min,
        fmax=row.f_max,
        htk=row.htk,
        norm=row.norm,
        dtype=np.float64,
    )
    return filters @ np.sqrt(np.abs(spectrum) ** 2 + eps)


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
        with pytest.raises(AudioError, match=r"\(B, N\)"):
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


# --- from one dialect to another ---------------------------------------------------------------------------------

T2, VOCOS, LMNT = PRESETS["tacotron2"], PRESETS["vocos-24k"], PRESETS["lmnt-diffwave"]
STATISTICS = {
    "mean": tuple(-2.0 - 0.01 * band for band in range(80)),
    "std": tuple(0.5 + 0.005 * band for band in range(80)),
}
ESPNET = PRESETS["espnet"]
NORMALISED = dataclasses.replace(ESPNET, **STATISTICS)
LMNT_RAW = dataclasses.replace(
    LMNT, stft_normalized=False, mel_norm="slaney", log="ln", scale=1.0, offset=0.0, clip=None, floor=1e-6
)
LMNT_DB = dataclasses.replace(LMNT, scale=1.0, offset=0.0, clip=(-80.0, 20.0))
EXACT = {
    "raise the floor": (PRESETS["coqui"], T2),
    "raise the floor, 24 kHz": (VOCOS, PRESETS["f5-tts"]),
    "ln to log10": (T2, dataclasses.replace(T2, log="log10")),
    "dB to ln": (dataclasses.replace(T2, log="db", scale=0.02, offset=1.0), T2),
    "HiFi-GAN framing, ln to dB": (MelSpec(), dataclasses.replace(MelSpec(), log="db")),
    "area norm to none": (T2, dataclasses.replace(T2, mel_norm="none", floor=1e-2)),
    "none to area norm": (VOCOS, dataclasses.replace(VOCOS, mel_norm="slaney")),
    "plain to STFT-normalised": (T2, dataclasses.replace(T2, stft_normalized=True)),
    "into statistics": (ESPNET, NORMALISED),
    "out of statistics": (NORMALISED, ESPNET),
    "everything at once, into a clip": (LMNT_RAW, LMNT),
    "out of a clip": (LMNT, LMNT_DB),
    "clamp to add": (PRESETS["coqui"], dataclasses.replace(T2, floor=1e-3, floor_mode="add")),
    "add to clamp": (dataclasses.replace(T2, floor_mode="add"), T2),
    "add to more": (dataclasses.replace(T2, floor_mode="add"), dataclasses.replace(T2, floor_mode="add", floor=1e-3)),
}


def per_neper(spec: MelSpec) -> float:
    return spec.scale * {"ln": 1.0, "log10": 1 / LN10, "db": 20 / LN10}[spec.log]


def padded_with_silence(waveform: Tensor) -> Tensor:
    """Every floor and clip is reached in digital silence."""
    return torch.nn.functional.pad(waveform, (0, 20000))


@pytest.mark.parametrize("pair", EXACT)
def test_an_exact_conversion_equals_the_target_computed_from_the_waveform(pair: str, speech: dict[int, Tensor]) -> None:
    source, target = EXACT[pair]
    waveform = padded_with_silence(0.7 * speech[source.sample_rate])
    expected = MelTransform(target)(waveform)
    if target.std is not None:
        expected = expected * torch.tensor(target.std)[:, None] + torch.tensor(target.mean)[:, None]
    assert can_convert(source, target).kind == "exact"
    converted = convert(MelTransform(source)(waveform), source, target)
    if target.std is not None:
        converted = converted * torch.tensor(target.std)[:, None] + torch.tensor(target.mean)[:, None]
    assert ((converted - expected).abs() / per_neper(target)).max() < 1e-4


def test_among_the_presets_only_these_convert() -> None:
    kinds = {
        (a, b): can_convert(source, target).kind
        for a, source in PRESETS.items()
        for b, target in PRESETS.items()
        if a != b
    }
    assert {pair for pair, kind in kinds.items() if kind == "exact"} == {
        ("coqui", "tacotron2"),
        ("vocos-24k", "f5-tts"),
    }
    assert {pair for pair, kind in kinds.items() if kind == "shifted"} == {
        ("hifigan", "tacotron2"),
        ("tacotron2", "hifigan"),
        ("hifigan", "nemo-hifigan"),
        ("nemo-hifigan", "hifigan"),
        ("tacotron2", "nemo-hifigan"),
        ("nemo-hifigan", "tacotron2"),
        ("coqui", "hifigan"),
        ("coqui", "nemo-hifigan"),
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_dialect_converts_to_itself_unchanged(name: str) -> None:
    mel = torch.randn(1, PRESETS[name].n_mels, 5)
    torch.testing.assert_close(convert(mel, PRESETS[name], PRESETS[name]), mel, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (T2, PRESETS["coqui"], "floor at magnitude 1e-05 cannot be lowered to 1e-08"),
        (T2, ESPNET, "f_min 0.0 against 80.0, f_max 8000.0 against 7600.0"),
        (MelSpec(), PRESETS["bigvgan-24k"], "sample_rate 22050 against 24000, n_mels 80 against 100"),
        (LMNT, dataclasses.replace(LMNT, clip=None), "clip at magnitude 0.0001 cannot be lowered to 1e-05"),
        (MelSpec(), dataclasses.replace(MelSpec(), magnitude_eps=1e-6), "magnitude_eps 1e-09 against 1e-06"),
        (T2, dataclasses.replace(T2, floor_mode="add"), "floor at magnitude 1e-05 cannot be lowered to 1e-09"),
    ],
)
def test_a_conversion_that_would_lose_is_refused_with_both_values(
    source: MelSpec, target: MelSpec, reason: str
) -> None:  # fault 32
    conversion = can_convert(source, target)
    assert conversion.kind == "no"
    assert reason in conversion.reason
    with pytest.raises(MelError, match=f"{source.name} cannot be turned into {target.name}"):
        convert(torch.zeros(1, source.n_mels, 4), source, target)


def test_a_mel_at_the_upper_clip_is_refused() -> None:
    mel = torch.full((1, 80, 4), 0.5)
    mel[0, 3, 2] = 1.0
    louder = dataclasses.replace(LMNT, clip=(0.0, 2.0))
    with pytest.raises(MelError, match="1 of 320 values lie at the upper clip"):
        convert(mel, LMNT, louder)
    convert(mel, LMNT, LMNT_DB)  # the same clip in other units loses nothing


SHIFTED = [(a, b) for a in ("hifigan", "tacotron2", "nemo-hifigan") for b in ("hifigan", "tacotron2", "nemo-hifigan")]


@pytest.mark.parametrize(("a", "b"), [(a, b) for a, b in SHIFTED if a != b])
def test_a_shifted_conversion_is_the_mel_of_the_sound_half_a_hop_away(
    a: str, b: str, speech: dict[int, Tensor]
) -> None:
    source, target = PRESETS[a], PRESETS[b]
    waveform = speech[22050]
    converted = convert(MelTransform(source)(waveform), source, target)
    direct = MelTransform(target)(waveform)
    assert converted.shape == direct.shape
    if source.framing == target.framing:
        moved = waveform
    elif target.framing == "same":
        moved = torch.nn.functional.pad(waveform, (128, -128))
    else:
        moved = torch.nn.functional.pad(waveform, (-128, 128))
    inner = slice(4, -4)  # the ends are padded differently
    error = (converted - MelTransform(target)(moved))[..., inner].abs()
    assert error.mean() < 2e-3
    assert error.max() < 0.15
    # Against the unmoved sound: what half a hop of speech amounts to.
    assert (converted - direct)[..., inner].abs().mean() < 0.4


def test_one_centred_frame_is_not_a_hop_of_sound() -> None:
    with pytest.raises(MelError, match="one frame"):
        convert(torch.zeros(1, 80, 1), T2, MelSpec())


# --- back to sound -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hifigan", "lmnt-diffwave"])
def test_the_pseudo_inverse_is_the_least_squares_solution_kept_positive(name: str, speech: dict[int, Tensor]) -> None:
    row, spec = REFERENCES[name], PRESETS[name]
    bands = reference_bands(row, 0.5 * speech[row.rate][0].double().numpy())[:, 40:60]
    filters = librosa.filters.mel(
        sr=row.rate, n_fft=row.n_fft, n_mels=80, fmin=row.f_min, fmax=row.f_max, htk=row.htk, norm=row.norm
    ).astype(np.float64)
    expected = np.maximum(np.linalg.pinv(filters) @ np.maximum(bands, 1e-5), 1e-5)
    magnitude = pseudo_inverse(torch.from_numpy(row.finish(bands)).float()[None], spec)[0].numpy()
    assert magnitude.shape == (513, 20)
    kept = 1e-4 if name != "lmnt-diffwave" else 0.02  # its clip raises the quietest bands
    np.testing.assert_allclose(magnitude, expected, atol=kept * expected.max())


def test_iterating_the_pseudo_inverse_approaches_non_negative_least_squares(speech: dict[int, Tensor]) -> None:
    spec, row = MelSpec(), REFERENCES["hifigan"]
    mel = MelTransform(spec)(speech[22050])[..., 40:44]
    filters = librosa.filters.mel(sr=row.rate, n_fft=1024, n_mels=80, fmin=0, fmax=8000).astype(np.float64)
    bands = mel[0].double().exp().numpy()
    best = np.linalg.norm([scipy.optimize.nnls(filters, frame)[1] for frame in bands.T])
    residuals = [
        np.linalg.norm(filters @ pseudo_inverse(mel, spec, iterations=count)[0].double().numpy() - bands)
        for count in (0, 50)
    ]
    assert best <= residuals[1] < 0.1 * residuals[0]


@pytest.mark.parametrize("name", PRESETS)
def test_griffin_lim_gives_a_hop_of_samples_per_frame(name: str) -> None:
    spec = PRESETS[name]
    for frames in (1, 7):
        mel = MelTransform(spec)(torch.zeros(1, 8 * spec.hop_length))[..., :frames]
        assert griffin_lim(mel, spec, n_iter=1).shape == (1, frames * spec.hop_length)  # fault 30


@pytest.mark.parametrize("name", ["hifigan", "tacotron2"])
def test_griffin_lim_puts_the_sound_where_the_framing_says(name: str, speech: dict[int, Tensor]) -> None:
    spec = PRESETS[name]
    transform = MelTransform(spec)
    mel = transform(speech[22050])
    waveform = griffin_lim(mel, spec, n_iter=12)

    def distance(offset: int) -> float:
        moved = torch.roll(waveform, offset, dims=-1)
        return float((transform(moved)[..., : mel.shape[-1]] - mel)[..., 4:-4].abs().mean())

    assert distance(0) < 0.25
    assert distance(0) < min(distance(-64), distance(64))


def test_griffin_lim_is_seeded_and_leaves_the_global_generator_alone(speech: dict[int, Tensor]) -> None:
    spec = MelSpec()
    mel = MelTransform(spec)(speech[22050][:, :12000].reshape(2, 6000))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batch = griffin_lim(mel, spec, n_iter=2, seed=5)
    assert torch.equal(torch.get_rng_state(), before)  # fault 66
    singles = torch.cat([griffin_lim(item[None], spec, n_iter=2, seed=5) for item in mel])
    torch.testing.assert_close(batch, singles, atol=1e-5, rtol=0)  # fault 67
    assert not torch.equal(batch, griffin_lim(mel, spec, n_iter=2, seed=6))
