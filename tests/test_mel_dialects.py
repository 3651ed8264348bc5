"""Conversions between dialects against computing the target from the waveform, on real speech."""

import dataclasses
import math
from pathlib import Path

import librosa
import pytest
import soundfile as sf
import torch
from torch import Tensor

from wavediff.errors import MelError
from wavediff.mel import PRESETS, MelSpec, MelTransform, can_convert, convert

LN10 = math.log(10)
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


@pytest.fixture(scope="module")
def speech(ljspeech: Path) -> dict[int, Tensor]:
    """One test clip (1, N) at each sample rate."""
    waveform, rate = sf.read(ljspeech / "wavs" / "LJ001-0002.wav", dtype="float32")
    assert rate == 22050
    return {
        target: torch.from_numpy(librosa.resample(waveform, orig_sr=rate, target_sr=target))[None]
        for target in (22050, 24000)
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


@pytest.mark.parametrize(("field", "value"), [("pad_mode", "constant"), ("window", "hann-symmetric")])
def test_other_padding_or_window_alone_is_near_lossless(field: str, value: str) -> None:
    conversion = can_convert(T2, dataclasses.replace(T2, **{field: value}))
    assert conversion.kind == "shifted"
    assert conversion.reason == f"{field} {getattr(T2, field)} against {value}"


def test_one_centred_frame_is_not_a_hop_of_sound() -> None:
    with pytest.raises(MelError, match="one frame"):
        convert(torch.zeros(1, 80, 1), T2, MelSpec())
