"""Numbers at their limits: NaN and infinity, half precision, silence, offsets, bits that come again."""

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sounds import small_generator
from torch import Tensor, nn
from vocoders import untrained

from wavediff import Generator, Vocoder
from wavediff.audio import read_audio, write_audio
from wavediff.backbones import DiffWaveConfig
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.errors import AudioError, CheckpointError, MelError, SamplingError, WavediffError
from wavediff.mel import MelSpec, write_mel
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser

NO_NUMBERS = [math.nan, math.inf, -math.inf]
DIFFWAVE = ModelConfig(DiffWaveConfig(channels=16, layers=8, dilation_cycle=4), mel=MelSpec.preset("hifigan"))


@pytest.fixture(scope="module")
def bundled() -> Vocoder:
    return Vocoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def diffwave() -> Vocoder:
    """Untrained, but with an output that depends on everything in it."""
    return untrained(DIFFWAVE)


@pytest.fixture(scope="module")
def clips(request: pytest.FixtureRequest) -> list[tuple[Tensor, int]]:
    """Two seconds of the bundled clip; and of recordings of LJSpeech, where they are."""
    paths = [CLIP]
    with contextlib.suppress(pytest.skip.Exception):
        paths += sorted((request.getfixturevalue("ljspeech") / "wavs").iterdir())[:3]
    return [(waveform[:44_100], rate) for waveform, rate in map(read_audio, paths)]


def decibels(signal: Tensor) -> float:
    """Level against full scale, root mean square."""
    return 10 * math.log10(float(signal.double().square().mean()) + 1e-30)


# NaN and infinity end in an error and leave no file


def overflowing(denoiser: nn.Module) -> None:
    """Weights that are numbers, which any file may hold, of a network whose output is none."""
    with torch.no_grad():
        denoiser.backbone.output_projection.weight.fill_(3e38)  # type: ignore[union-attr,operator]


def test_a_model_whose_output_overflows_gives_an_error_and_no_file(  # fault 65
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocoder = Vocoder(DIFFWAVE, build_denoiser(DIFFWAVE).eval().requires_grad_(False))
    overflowing(vocoder.denoiser)
    vocoder.save(tmp_path / "model.safetensors")
    mel = torch.full((80, 12), -3.0)
    write_mel(tmp_path / "mel.safetensors", mel, MelSpec.preset("hifigan"))
    for attempt in (
        lambda: vocoder.decode(mel),
        lambda: list(vocoder.stream(mel.split(5, 1))),
        lambda: list(vocoder.states(mel)),
    ):
        with pytest.raises(SamplingError, match="step 1 of 6 gave NaN or infinite"):
            attempt()
    arguments = ["--checkpoint", str(tmp_path / "model.safetensors"), "--quiet"]
    for source in (str(CLIP), str(tmp_path / "mel.safetensors")):
        assert main(["vocode", source, "-o", str(tmp_path / "out.wav"), *arguments]) == 2
        assert "gave NaN or infinite samples" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mel.safetensors", "model.safetensors"]


def test_a_generator_whose_output_overflows_gives_an_error_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = small_generator("diffwave")
    overflowing(generator.denoiser)
    generator.save(tmp_path / "model.safetensors")
    for attempt in (
        lambda: generator.generate(seconds=0.1),
        lambda: list(generator.states(0.1)),
        lambda: generator.vary(torch.zeros(800), 8000),
    ):
        with pytest.raises(SamplingError, match="NaN or infinite"):
            attempt()
    arguments = ["generate", "--checkpoint", str(tmp_path / "model.safetensors"), "--seconds", "0.1", "--quiet"]
    assert main([*arguments, "-o", str(tmp_path / "out")]) == 2
    assert "NaN or infinite" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model.safetensors"]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 1e6])
def test_a_weight_that_is_no_number_in_the_file_is_not_saved(diffwave: Vocoder, tmp_path: Path, value: float) -> None:
    """1e6 is one, but not in float16."""
    weights = {name: weight.clone() for name, weight in diffwave.denoiser.state_dict().items()}
    next(iter(weights.values())).view(-1)[0] = value
    with pytest.raises(CheckpointError, match="weights are NaN or infinite"):  # fault 46
        save_checkpoint(tmp_path / "model.safetensors", DIFFWAVE, weights, {}, half=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_mel_or_waveform_that_holds_none_is_neither_used_nor_written(
    bundled: Vocoder, tmp_path: Path, value: float
) -> None:
    mel, waveform = torch.full((80, 40), -5.0), torch.zeros(4000)
    mel[3, 20], waveform[77] = value, value
    attempts: list[tuple[type[WavediffError], Any]] = [
        (MelError, lambda: bundled.decode(mel, 1)),
        (MelError, lambda: list(bundled.stream(mel.split(16, 1), 1))),
        (MelError, lambda: list(bundled.states(mel, 1))),
        (MelError, lambda: write_mel(tmp_path / "a.npy", mel, bundled.mel_spec)),
        (MelError, lambda: write_mel(tmp_path / "a.safetensors", mel, bundled.mel_spec)),
        (AudioError, lambda: bundled.mel(waveform, 22_050)),
        (AudioError, lambda: bundled(waveform, 16_000)),
        (AudioError, lambda: small_generator("free").vary(waveform, 8000)),
        (AudioError, lambda: write_audio(tmp_path / "a.wav", waveform, 16_000, subtype="FLOAT")),
    ]
    for error, attempt in attempts:
        with pytest.raises(error, match="NaN or infinite"):
            attempt()
    assert not list(tmp_path.iterdir())


def test_a_waveform_too_loud_for_a_mel_is_not_vocoded(bundled: Vocoder) -> None:
    """Its numbers are finite, their squares are not."""
    with pytest.raises(AudioError, match=r"^waveform: its samples reach .*e\+30, and full scale is 1"):
        bundled(1e30 * torch.randn(8000), 22_050)


@pytest.mark.parametrize("guidance", NO_NUMBERS)
def test_guidance_that_is_no_number_is_refused(
    guidance: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = small_generator("unet")
    with pytest.raises(SamplingError, match=f"guidance: {guidance}"):
        generator.generate(label="glass", guidance=guidance)
    generator.save(tmp_path / "model.safetensors")
    arguments = ["generate", "--checkpoint", str(tmp_path / "model.safetensors"), "--label", "glass", "--quiet"]
    assert main([*arguments, f"--guidance={guidance}", "-o", str(tmp_path / "out.wav")]) == 2
    assert "guidance" in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()


# Precision


def test_bfloat16_stays_near_float32_over_all_steps(diffwave: Vocoder, clips: list[tuple[Tensor, int]]) -> None:
    """On real speech, six steps: the difference is 30 dB below the signal, and comes of rounding, not of a drift."""
    for waveform, rate in clips[:2]:
        mel = diffwave.mel(waveform, rate)[..., :60]
        exact = diffwave.decode(mel)
        try:
            rounded = diffwave.to("cpu", torch.bfloat16).decode(mel)
        finally:
            diffwave.to("cpu", torch.float32)
        assert rounded.dtype == torch.float32
        assert decibels(rounded - exact) < decibels(exact) - 30
        assert abs(decibels(rounded) - decibels(exact)) < 0.1


def test_weights_stored_in_half_are_rounded_once_and_sound_the_same(
    bundled: Vocoder, clips: list[tuple[Tensor, int]], tmp_path: Path
) -> None:
    """Beside full weights that are as far from what float16 holds as they can be.

    The magnitudes are rounded before their phases are searched, and that search makes much of little.
    """
    generator = torch.Generator().manual_seed(0)
    state = bundled.denoiser.state_dict()
    full = {name: w * (1 + 2.0**-11 * (torch.rand(w.shape, generator=generator) - 0.5)) for name, w in state.items()}
    save_checkpoint(tmp_path / "full.safetensors", bundled.config, full, {})
    save_checkpoint(tmp_path / "half.safetensors", bundled.config, full, {}, half=True)
    halved = load_checkpoint(tmp_path / "half.safetensors").weights
    assert any(not torch.equal(halved[name].float(), full[name]) for name in full)
    vocoders = [Vocoder.from_pretrained(tmp_path / f"{name}.safetensors", "cpu") for name in ("full", "half")]
    vocoders[1].save(tmp_path / "again.safetensors", half=True)
    again = load_checkpoint(tmp_path / "again.safetensors").weights
    assert all(torch.equal(again[name], halved[name]) for name in halved)
    for waveform, rate in clips:
        mel = bundled.mel(waveform, rate)
        one, other = (vocoder.decode(mel) for vocoder in vocoders)
        assert decibels(one - other) < decibels(one) - 20
        distance = (bundled.mel(one, bundled.sample_rate) - bundled.mel(other, bundled.sample_rate)).abs().mean()
        assert distance < 0.02  # nepers; from copy synthesis to the recording it is 0.1


# Silence, offsets, full scale


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_digital_silence_becomes_silence(bundled: Vocoder, num_steps: int) -> None:
    """A recording of zeros, and a pause of zeros between words: at most -80 dBFS."""
    speech = bundled(torch.zeros(22_050), bundled.sample_rate, num_steps=num_steps)
    assert decibels(speech) < -80
    assert float(speech.abs().max()) < 10 ** (-75 / 20)
    words, rate = read_audio(CLIP, frames=44_100)
    spoken = torch.cat([words[:22_050], torch.zeros(11_025), words[22_050:]])
    pause = bundled(spoken, rate, num_steps=num_steps)[22_050 + 2048 : 33_075 - 2048]  # but two windows at its ends
    assert decibels(pause) < -80


def test_speech_has_no_offset(bundled: Vocoder, clips: list[tuple[Tensor, int]]) -> None:
    """|mean| below 1e-4 of full scale, whatever the recording's."""
    for waveform, rate in clips:
        for offset in (0.0, 0.01):
            speech = bundled(waveform + offset, rate)
            assert abs(float(speech.double().mean())) < 1e-4


# Bits that come again


def test_the_same_seed_gives_the_same_bits(bundled: Vocoder, clips: list[tuple[Tensor, int]]) -> None:  # fault 66
    """On one machine with one number of threads: another object, after other work, by `decode` or as a stream."""
    again = Vocoder.from_pretrained(device="cpu")
    for waveform, rate in clips[:2]:
        mel = bundled.mel(waveform, rate)
        speech = bundled.decode(mel, seed=5)
        assert not torch.equal(speech, bundled.decode(mel, seed=6))
        assert torch.equal(bundled.decode(mel, seed=5), speech)
        assert torch.equal(again.decode(mel, seed=5), speech)
        assert torch.equal(torch.cat(list(again.stream(mel.split(41, -1), seed=5)), 1), speech)
    first, second = (Generator.from_pretrained(device="cpu").generate(2, 0.2, num_steps=3, seed=5) for _ in range(2))
    assert torch.equal(first, second)


def test_in_company_and_with_other_threads_only_rounding_differs(
    bundled: Vocoder, diffwave: Vocoder, clips: list[tuple[Tensor, int]]
) -> None:
    """In a batch within 1e-4; with other threads 50 dB below the speech."""
    for vocoder in (bundled, diffwave):
        mels = torch.cat([vocoder.mel(waveform, rate)[..., :80] for waveform, rate in clips[:3]])
        singles = torch.cat([vocoder.decode(mel[None], seed=3) for mel in mels])
        torch.testing.assert_close(vocoder.decode(mels, seed=3), singles, rtol=0, atol=1e-4)
        for threads in (2, 3):
            torch.set_num_threads(threads)  # conftest sets it back
            for mel, single in zip(mels, singles, strict=True):
                difference = vocoder.decode(mel, seed=3) - single
                assert decibels(difference) < decibels(single) - 50
        torch.set_num_threads(1)
