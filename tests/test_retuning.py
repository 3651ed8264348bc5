"""One vocoder's weights on mels of dialects that they were not trained on."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

import wavediff
from wavediff import Vocoder
from wavediff.audio import read_audio, resample
from wavediff.backbones import DiffWaveConfig
from wavediff.cli.main import main
from wavediff.errors import MelError
from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.stft import core_spec, in_core
from wavediff.models.config import ModelConfig, build_denoiser

CLIP = Path(wavediff.__file__).parent / "models" / "weights" / "clip.flac"


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return Vocoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def clip() -> tuple[Tensor, int]:
    waveform, rate = read_audio(CLIP)
    return waveform[: 2 * rate], rate


@pytest.mark.parametrize(
    "name",
    [
        "espnet",
        "coqui-default",
        "lmnt-diffwave",
        "speecht5",
        "vocos-24k",
        "bigvgan-24k",
        "torchaudio-wavernn",
        "parallel-wavegan-24k",
    ],
)
def test_speech_from_another_dialect_has_its_rate_and_the_spectrum_of_the_recording(
    vocoder: Vocoder, clip: tuple[Tensor, int], name: str
) -> None:
    spec, (waveform, rate) = MelSpec.preset(name), clip
    twin = vocoder.for_mels(name)
    mel = MelTransform(spec)(resample(waveform, rate, spec.sample_rate)[None])
    speech = twin.decode(mel, mel_spec=name)
    assert twin.sample_rate == spec.sample_rate
    assert speech.shape == (1, mel.shape[-1] * spec.hop_length)
    # Judged by a dialect that the speech was not made from, up to the edge that both know.
    judge = MelTransform(dataclasses.replace(MelSpec(), sample_rate=spec.sample_rate, f_max=7000.0, floor=1e-3))
    recorded, made = judge(resample(waveform, rate, spec.sample_rate)[None]), judge(speech)
    frames = min(recorded.shape[-1], made.shape[-1]) - 4
    moved = [made[..., k : frames + k] - recorded[..., 1 : frames + 1] for k in (0, 1, 2)]  # framings differ
    assert min(float(error.abs().mean()) for error in moved) < 0.3


def test_a_dialect_that_can_be_converted_needs_no_other_vocoder(vocoder: Vocoder) -> None:
    assert vocoder.for_mels("tacotron2") is vocoder
    assert vocoder.for_mels(None) is vocoder


def test_the_weights_and_the_searched_plans_are_the_same(vocoder: Vocoder) -> None:
    twin = vocoder.for_mels("espnet")
    assert twin.config.plans == vocoder.config.plans
    for name, weight in vocoder.denoiser.state_dict().items():
        assert torch.equal(twin.denoiser.state_dict()[name], weight)


def test_frames_that_overlap_too_little_are_refused_by_name(vocoder: Vocoder) -> None:
    with pytest.raises(MelError, match=r"cannot take it: mel.hop_length: 600 is more than half of win_length, 1024"):
        vocoder.for_mels(dataclasses.replace(MelSpec(), n_fft=2048, win_length=2048, hop_length=600))


@pytest.mark.parametrize("name", ["torchaudio-wavernn", "parallel-wavegan-24k", "cosyvoice2"])
def test_bands_of_longer_frames_become_those_of_the_networks(clip: tuple[Tensor, int], name: str) -> None:
    """Within a decibel, in the mean, of the bands that shorter frames of the same recording have."""
    spec, (waveform, rate) = MelSpec.preset(name), clip
    core = core_spec(spec, 1024)
    signal = resample(waveform, rate, spec.sample_rate)[None]
    brought, true = in_core(MelTransform(spec)(signal), spec, core), MelTransform(core)(signal)
    loud = true > true.max() - 6
    difference = (brought - true)[loud]
    assert loud.float().mean() > 0.3
    assert abs(float(difference.mean())) < 0.12
    assert float(difference.abs().mean()) < 0.4
    assert core_spec(MelSpec(), 1024) == core_spec(MelSpec(), 0) == MelSpec()


def test_a_network_that_takes_the_bands_themselves_is_refused() -> None:
    config = ModelConfig(DiffWaveConfig(channels=4, layers=2), mel=MelSpec())
    with pytest.raises(MelError, match=r"espnet .* this network takes the bands of its own dialect"):
        Vocoder(config, build_denoiser(config)).for_mels("espnet")


def test_decoding_without_it_is_an_error_that_tells_the_way(vocoder: Vocoder) -> None:
    with pytest.raises(MelError, match=r"vocoder\.for_mels\('vocos-24k'\), whose speech has 24000 Hz"):
        vocoder.decode(torch.full((100, 20), -5.0), mel_spec="vocos-24k")


def test_the_command_line_takes_it(clip: tuple[Tensor, int], tmp_path: Path) -> None:
    import numpy as np

    spec, (waveform, rate) = MelSpec.preset("vocos-24k"), clip
    mel = MelTransform(spec)(resample(waveform, rate, 24_000)[None])[0]
    np.save(f"{tmp_path}/m.npy", mel.numpy())
    options = ["--mel-spec", "vocos-24k", "--quiet", "--device", "cpu"]
    assert main(["vocode", f"{tmp_path}/m.npy", "-o", f"{tmp_path}/s.wav", *options]) == 0
    speech, made_at = read_audio(f"{tmp_path}/s.wav")
    assert (made_at, len(speech)) == (24_000, mel.shape[1] * 256)


@pytest.mark.parametrize("name", ["espnet", "parallel-wavegan-24k", "cosyvoice2"])
def test_what_lies_above_a_mel_that_ends_lower_than_the_networks_own_has_the_level_of_its_highest_bands(
    vocoder: Vocoder, name: str
) -> None:
    """Of white noise, whose geometric mean is the same everywhere; without it nothing is there."""
    config = dataclasses.replace(vocoder.config.of_dialect(MelSpec.preset(name)), adapters=())
    prior = build_denoiser(config).prior
    assert prior is not None
    spec, generator = prior.dialect, torch.Generator().manual_seed(0)
    mel = MelTransform(spec)(0.1 * torch.randn(1, 60 * spec.hop_length, generator=generator))
    _, magnitude = prior.spectra(mel)
    hertz = torch.linspace(0, spec.sample_rate / 2, magnitude.shape[-1])
    gap = (hertz > spec.f_max) & (hertz <= 8000 / 11025 * spec.sample_rate / 2)
    assert gap.sum() > 10
    recorded = prior.stft.analysis(0.1 * torch.randn(1, 60 * spec.hop_length, generator=generator)).abs()
    ratio = (magnitude[..., gap].log().mean() - recorded[..., 8:-8, gap].log().mean()).exp()
    assert ratio == pytest.approx(1, abs=0.2)
    assert magnitude[..., hertz > 8000 / 11025 * spec.sample_rate / 2 + 30].max() < 1e-3
    below = hertz < spec.f_max - 300
    torch.testing.assert_close(magnitude[..., below], prior.magnitude(in_core(mel, spec, prior.spec))[..., below])


def test_the_networks_own_dialect_is_not_filled(vocoder: Vocoder) -> None:
    assert vocoder.config.prior.reach == 0
    for name in ("hifigan", "vocos-24k"):
        prior = vocoder.for_mels(name).denoiser.prior
        assert prior is not None
        assert not prior.filled.any()
    again = vocoder.for_mels("bigvgan-24k").for_mels("espnet")  # the mel that it was trained on decides
    assert again.config.prior.reach == pytest.approx(8000 / 11025)
