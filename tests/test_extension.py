"""The octave above 11 kHz: closed forms, and real audio of this repository's tests."""

import dataclasses
import itertools
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from sounds import small_generator
from torch import Tensor

from wavediff import BandExtension
from wavediff.audio import read_audio, read_info, resample, write_audio
from wavediff.backbones.bands import BandConfig, BandNet
from wavediff.cli.main import main
from wavediff.data.manifest import Utterance, write_manifest
from wavediff.errors import AudioError, CheckpointError, ConfigError
from wavediff.models import WEIGHTS
from wavediff.models.config import build_denoiser
from wavediff.pipelines.generator import Generator

RATE = 22_050


@pytest.fixture(scope="module")
def extension() -> BandExtension:
    return BandExtension.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """A second of the bundled clip, with silence, vowels and fricatives."""
    return read_audio(WEIGHTS / "clip.flac", RATE)[0][:RATE]


def noise(length: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed))


def above(waveform: Tensor, edge: float) -> Tensor:
    """What of (N,) at 44.1 kHz lies above an edge [Hz]; a slope of 1 kHz keeps it short in time."""
    hertz = torch.fft.rfftfreq(len(waveform), 1 / 44_100)
    slope = 0.5 - 0.5 * torch.cos(torch.pi * ((hertz - edge) / 1_000).clamp(0, 1))
    return torch.fft.irfft(torch.fft.rfft(waveform.double()) * slope, n=len(waveform))


def decibels(power: Tensor) -> float:
    return 10 * power.log10().item()


@pytest.mark.parametrize("sound", ["noise", "speech"])
def test_below_10_khz_it_is_the_sound_resampled(extension: BandExtension, speech: Tensor, sound: str) -> None:
    waveform = noise(RATE) if sound == "noise" else speech
    low, wide = resample(waveform, RATE, 2 * RATE), extension(waveform, RATE)
    assert wide.shape == (2 * len(waveform),)
    window = torch.hann_window(len(wide))
    added, power = (torch.fft.rfft((part * window).double()).abs().square() for part in (wide - low, low))
    assert decibels(added[:10_000].sum() / power.sum()) < -60  # a second: bins of 1 Hz
    assert decibels(added[11_025:].sum() / power.sum()) > -60


def test_noise_goes_on_without_a_gap_at_the_old_edge(extension: BandExtension) -> None:
    """From 9 to 13 kHz no 350 Hz are more than 9 dB below the loudest."""
    power = torch.fft.rfft(extension(noise(4 * RATE), RATE)).abs().square()
    hertz = len(power) / 22_050
    edges = [round(hertz * (9_000 + 350 * number)) for number in range(12)]
    levels = torch.stack([power[first:end].mean() for first, end in itertools.pairwise(edges)])
    assert decibels(levels.max() / levels.min()) < 9


def test_the_patches_join(extension: BandExtension) -> None:
    """At 15.5 kHz, where the band is repeated, what is copied of white noise is within 1.5 dB of what lies beside."""
    spectrum = extension.stft.analysis(noise(64 * 4_096)[None])
    power = torch.fft.rfft(extension.stft.synthesis(extension._copied(spectrum, 0))[0]).abs().square()
    hertz = len(power) / 22_050
    before, at, behind = (power[round(hertz * f) : round(hertz * (f + 350))].mean() for f in (14_300, 15_330, 16_360))
    assert abs(decibels(at / (before * behind).sqrt())) < 1.5


def test_a_burst_begins_above_11_khz_when_it_begins_below(extension: BandExtension) -> None:
    """Within 3 ms; 40 dB below the burst nothing comes before."""
    sound = torch.cat([torch.zeros(RATE // 4), noise(RATE // 4), torch.zeros(RATE // 4)])
    high = above(extension(sound, RATE), 11_025).square()
    level = torch.nn.functional.avg_pool1d(high[None], 22, 22)[0]  # 0.5 ms
    loud = level[500:1000].mean()
    start, end = 500, 1000  # of the burst, in halves of a millisecond: 250 ms are 501.1 of 22 samples
    assert level[: start - 6].max() < 1e-4 * loud
    assert level[start + 6 : start + 12].mean() > 0.25 * loud
    assert level[end + 10 :].max() < 1e-4 * loud


def test_noise_stays_noise_and_a_tone_a_tone(extension: BandExtension) -> None:
    """Kurtosis 3 of noise; of a tone of 6 kHz, the octave is one line too."""
    high = above(extension(noise(2 * RATE), RATE), 11_025)[4410:-4410]
    assert (high**4).mean() / high.square().mean() ** 2 == pytest.approx(3, abs=1)
    t = torch.arange(RATE) / RATE
    tone = 0.3 * torch.sin(2 * torch.pi * 6_000 * t)
    power = torch.fft.rfft(above(extension(tone, RATE), 11_025)[4410:-4410] * torch.hann_window(35_280)).abs().square()
    assert power.topk(8).values.sum() > 0.5 * power.sum()


def test_silence_stays_silence(extension: BandExtension) -> None:
    assert not extension(torch.zeros(5_000), RATE).any()
    sound = torch.cat([noise(RATE // 2), torch.zeros(RATE)])
    assert extension(sound, RATE)[RATE + 1_000 :].abs().max() < 10 ** (-90 / 20)


def test_ten_times_the_level_is_ten_times_the_octave(extension: BandExtension, speech: Tensor) -> None:
    loud, soft = extension(speech, RATE), extension(0.01 * speech, RATE)
    assert (above(soft, 11_025) * 100 - above(loud, 11_025)).norm() < 1e-3 * above(loud, 11_025).norm()


@pytest.mark.parametrize("sound", ["noise", "sawtooth"])
def test_a_loop_has_no_seam(extension: BandExtension, sound: str) -> None:
    """Round and round, what is added is above 10 kHz: a jump would be everywhere. Where it closes, no less of it."""
    loop = noise(7_351) if sound == "noise" else 0.3 * ((37 * torch.arange(7_351) / 7_351) % 1 - 0.5)
    wide = extension(loop, RATE, loop=True)
    low = resample(loop.repeat(3), RATE, 2 * RATE)[14_702:29_404]
    assert wide.shape == low.shape
    added = torch.fft.rfft((wide - low).double()).abs().square()
    assert decibels(added[:3_334].sum() / added.sum()) < -70  # bins of 3 Hz
    if sound == "noise":
        high = above(wide, 11_025)
        assert decibels(high[:512].square().mean() / high.square().mean()) == pytest.approx(0, abs=2)


def test_a_sound_depends_on_nothing_but_itself(extension: BandExtension, speech: Tensor) -> None:
    sounds = torch.stack([noise(8_000), speech[4_000:12_000]])
    before = torch.random.get_rng_state()
    together = extension(sounds, RATE)
    assert torch.equal(together, extension(sounds, RATE))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (extension(sounds[1], RATE) - together[1]).abs().max() < 1e-5


def test_nothing_exceeds_the_highest_peak(extension: BandExtension) -> None:
    loud = (20 * noise(4_000)).clamp(-1, 1)
    assert extension(loud, RATE).abs().max() <= 0.98 + 1e-6


def test_real_sounds_get_their_octave_back(extension: BandExtension, data_root: Path) -> None:
    """Recordings brought to 22.05 kHz: the energy above 11 kHz within 6 dB, where resampling leaves nothing."""
    for name in ("casino/casino-audio_card-fan-1.flac", "explosion/sci-fi-sounds_explosionCrunch_000.flac"):
        path = data_root / "sfx" / name
        real, rate = read_audio(path)
        wide = extension(resample(real, rate, RATE), RATE)[: len(real)]
        ours, theirs = (above(waveform, 11_100).square().sum() for waveform in (wide, real))
        assert decibels(ours / theirs) == pytest.approx(0, abs=6), name


def test_other_rates_and_no_waveforms_are_errors(extension: BandExtension) -> None:
    with pytest.raises(AudioError, match=r"sample_rate: 16000 Hz, .* takes 22050 Hz; resample"):
        extension(noise(100), 16_000)
    with pytest.raises(AudioError, match="waveform: "):
        extension(torch.zeros(2, 2, 100), RATE)
    with pytest.raises(AudioError, match=r"waveform: .* NaN"):
        extension(torch.tensor([0.0, float("nan")]), RATE)
    for length in (1, 2, 63):
        assert extension(noise(length), RATE).shape == (2 * length,)
        assert extension(noise(length), RATE, loop=True).shape == (2 * length,)


def test_a_model_file_gives_the_same_octave(extension: BandExtension, tmp_path: Path, speech: Tensor) -> None:
    extension.save(tmp_path / "a.safetensors")
    again = BandExtension.from_pretrained(tmp_path / "a.safetensors", "cpu")
    assert torch.equal(again(speech, RATE), extension(speech, RATE))
    assert again.facts == extension.facts
    with pytest.raises(CheckpointError, match="is a diffusion model, a band extension is needed"):
        BandExtension.from_pretrained(WEIGHTS / "vocoder.safetensors")
    with pytest.raises(CheckpointError, match="is a band extension, a diffusion model is needed"):
        Generator.from_pretrained(tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"extension\.channels: 0 is not"):
        BandConfig(channels=0)


def test_the_bundled_file_is_small(extension: BandExtension) -> None:
    assert (WEIGHTS / "extension.safetensors").stat().st_size < 200_000
    assert (extension.source_rate, extension.sample_rate) == (22_050, 44_100)


def test_the_network_sees_no_further_than_it_says() -> None:
    net = BandNet(BandConfig(channels=8, layers=2)).eval()
    levels = torch.rand(1, 15, 40)
    changed = levels.clone()
    changed[..., 20] += 1
    moved = (net(levels) != net(changed)).any(1)[0].nonzero()[:, 0]
    assert (int(moved.min()), int(moved.max())) == (20 - 5, 20 + 5)  # 1 + 1 + 3 frames to either side


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small generator at 22.05 kHz."""
    small = small_generator("unet")
    config = dataclasses.replace(small.config, sample_rate=RATE)
    denoiser = build_denoiser(config)
    denoiser.load_state_dict(small.denoiser.state_dict())
    Generator(config, denoiser.eval()).save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_pack_at_44_khz(model: Path, tmp_path: Path, extension: BandExtension) -> None:
    command = ["generate", "--checkpoint", str(model), "--num-steps", "2", "--quiet", "--raw", "--label", "glass"]
    assert main([*command, "--pack", str(tmp_path / "a"), "--sample-rate", "44100", "--seconds", "0.2"]) == 0
    (sound,) = json.loads((tmp_path / "a" / "manifest.json").read_text())["sounds"]
    assert (sound["sample_rate"], sound["seconds"]) == (44_100, 0.2)
    info = read_info(tmp_path / "a" / sound["file"])
    assert (info.sample_rate, info.frames) == (44_100, 8_820)
    written, _ = read_audio(tmp_path / "a" / sound["file"])
    plain = Generator.from_pretrained(model, "cpu").generate(1, 0.2, "glass", num_steps=2)[0]
    assert (written - extension(plain, RATE)).abs().max() < 1e-5
    assert main([*command, "--pack", str(tmp_path / "b"), "--sample-rate", "44100", "--seconds", "0.2"]) == 0
    assert (tmp_path / "b" / sound["file"]).read_bytes() == (tmp_path / "a" / sound["file"]).read_bytes()


@pytest.mark.parametrize("rate", [44_100, 48_000, 22_050])
def test_around_a_filling_a_recording_keeps_its_own_octave(
    model: Path, tmp_path: Path, rate: int, extension: BandExtension
) -> None:
    """Where it has one; of a recording of the generator's rate all of the octave is made."""
    sound = 2.2 * noise(rate // 2 + 1, 3)
    write_audio(tmp_path / "door.wav", sound, rate, subtype="FLOAT")
    command = ["generate", "--checkpoint", str(model), "--num-steps", "2", "--quiet", "--inpaint"]
    command += [str(tmp_path / "door.wav"), "--span", "0.2,0.3", "--sample-rate", "44100", "-o", str(tmp_path / "a")]
    assert main(command) == 0
    written, written_rate = read_audio(tmp_path / "a" / "door-000.wav")
    assert written_rate == 44_100
    if rate == RATE:
        filled = Generator.from_pretrained(model, "cpu").inpaint(sound, rate, 0.2, 0.3, num_steps=2)[0]
        assert (written - extension(filled, rate)).abs().max() < 1e-4
        return
    kept = resample(sound, rate, 44_100).clamp(-1, 1)
    assert len(written) == len(kept)
    assert (written[:8_820] - kept[:8_820]).abs().max() < 1e-4  # 16 bits
    assert (written[13_230:] - kept[13_230:]).abs().max() < 1e-4
    inside = slice(9_300, 12_800)
    assert (written[inside] - kept[inside]).abs().max() > 0.01
    power = torch.fft.rfft(written[inside]).abs().square()
    assert power[len(power) // 2 :].sum() > 1e-4 * power.sum()  # the filling has an octave as well


@pytest.mark.parametrize(("rate", "cure"), [("48000", "give 22050 or 44100"), ("0", "give 22050 or 44100")])
def test_rates_that_cannot_be_had_are_refused(
    model: Path, tmp_path: Path, rate: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--checkpoint", str(model), "-o", str(tmp_path / "a"), "--sample-rate", rate]) == 2
    error = capsys.readouterr().err
    assert f"--sample-rate: {rate} Hz" in error
    assert cure in error
    assert not (tmp_path / "a").exists()


def test_the_recipe_trains_and_its_table_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few steps on two bursts: the file is a band extension, and not the one that was begun with."""
    clips = []
    for number in range(2):
        write_audio(tmp_path / f"{number}.wav", noise(9_000, number) * torch.linspace(1, 0, 9_000) ** 2, 44_100)
        clips.append(Utterance(tmp_path / f"{number}.wav", 9_000 / 44_100, 44_100, label="glass"))
    manifest, output = str(tmp_path / "clips.jsonl"), str(tmp_path / "a.safetensors")
    write_manifest(tmp_path / "clips.jsonl", clips)
    for script, *options in (
        ("band.py", manifest, manifest, "-o", output, "--steps", "3"),
        ("band_table.py", manifest, "--extension", output),
    ):
        monkeypatch.setattr(sys, "argv", [script, *options])
        runpy.run_path(str(REPOSITORY / "recipes" / "sfx" / script), run_name="__main__")
    trained = BandExtension.from_pretrained(output, "cpu")
    assert (trained.facts["steps"], trained.facts["clips"]) == (3, 2)
    assert "| glass | 2 | " in capsys.readouterr().out
