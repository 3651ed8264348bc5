"""The network that makes, of mels of another dialect, mels of frames that a vocoder was trained on."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from clips import write_clips
from runs import arguments, trainer
from torch import Tensor
from vocoders import untrained

from wavediff import MelSpec, StreamPool, Vocoder
from wavediff.audio import read_audio, resample
from wavediff.backbones import AdapterConfig, Condition, MelAdapter, SpectralConfig
from wavediff.backbones.adapter import AHEAD, on_plain_scale, plain
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.data.manifest import write_manifest
from wavediff.diffusion import CosineSchedule, PriorConfig, noise
from wavediff.engine import GraphedWalk
from wavediff.errors import ConfigError
from wavediff.mel import PRESETS, MelTransform
from wavediff.mel.dialects import band_centres
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.training import AdapterModule, VocoderModule

LONG = MelSpec.preset("cosyvoice2")
SMALL = AdapterConfig.of(LONG, 1024, channels=8, layers=2)
SHORT = SMALL.inner
CENTRED = AdapterConfig.of(MelSpec.preset("parallel-wavegan-24k"), 1024, channels=8, layers=1)
PRIOR = PriorConfig(power=0.85, start_time=0.2, phase_iterations=2)
CONFIG = ModelConfig(SpectralConfig(8, 8, 1), CosineSchedule(), "v", PRIOR, LONG, 24000, adapters=(SMALL,), n_fft=1024)
QUIETER = 1.5 * math.log(1024 / 1920)  # bands of noise in the shorter frames


def shaken() -> MelAdapter:
    """With random weights: fresh ones interpolate."""
    torch.manual_seed(0)
    network = MelAdapter(SMALL).requires_grad_(False)
    for weight in network.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return network


def mels(frames: int = 20) -> Tensor:
    """(2, 80, frames)"""
    return torch.randn(2, 80, frames, generator=torch.Generator().manual_seed(0)) - 3


def test_a_fresh_network_interpolates() -> None:
    """Frames lie a quarter of the long hop before and after the middle of theirs; beyond the ends nothing changes."""
    line = torch.arange(6.0).expand(1, 80, -1) - 5
    with torch.no_grad():
        made = MelAdapter(SMALL)(line)
    expected = torch.arange(-0.25, 5.5, 0.5).clamp(0, 5) - 5
    expected[[0, -1]] = torch.tensor([0.0, 5.0]) - 5
    difference = (made - expected)[:, :80]
    assert difference.mean().item() == pytest.approx(QUIETER, abs=0.02)
    assert (difference - QUIETER).abs().max() < 0.1  # of bands of few bins
    torch.testing.assert_close(difference, difference[..., :1].expand_as(difference), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name", ["espnet", "parallel-wavegan-24k", "speecht5", "coqui-default", "vocos-24k", "cosyvoice2"]
)
def test_fresh_networks_keep_the_level_of_noise(name: str) -> None:
    """Band by band, but for the lowest ones, which are narrower than a bin."""
    config = AdapterConfig.of(MelSpec.preset(name), 1024)
    waveform = 0.1 * torch.randn(4, 96_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = MelAdapter(config)(MelTransform(config.mel)(waveform))
    error = (made.mean((0, 2)) - MelTransform(config.inner)(waveform).mean((0, 2)))[10:]
    assert error.abs().max() < 0.15
    assert error.abs().mean() < 0.06


def test_centred_frames_stay_where_they_are() -> None:
    """The first of the frames that come of one lies in its middle."""
    config = dataclasses.replace(CENTRED, inner=dataclasses.replace(CENTRED.inner, hop_length=100))
    line = torch.arange(6.0).expand(1, 80, -1) - 5
    with torch.no_grad():
        made = MelAdapter(config)(line)
    expected = (torch.arange(18) / 3).clamp(max=5.0)
    torch.testing.assert_close(made[0, 0] - made[0, 0, 0], expected)
    assert MelAdapter(CENTRED)(line).shape == (1, 94, 6)


def test_frames_and_bands_that_it_makes() -> None:
    """Of 8 to 12.5 ms, a third of a frame apart at the most; more bands; a higher rate than 16 kHz."""
    names = ("cosyvoice2", "cosyvoice3", "speecht5", "espnet")
    made = [AdapterConfig.of(MelSpec.preset(name), 1024) for name in names]
    inner = [(config.inner.sample_rate, config.inner.hop_length, config.inner.n_mels) for config in made]
    assert inner == [(24000, 240, 90), (24000, 240, 80), (24000, 192, 83), (22050, 256, 92)]
    assert [config.pieces for config in made] == [2, 2, 2, 1]
    assert [config.beyond for config in made] == [(0, 10), (0, 0), (2, 1), (2, 10)]
    eight = AdapterConfig.of(MelSpec(sample_rate=8000, n_fft=512, win_length=320, hop_length=80, f_max=4000.0), 1024)
    assert (eight.inner.sample_rate, eight.inner.hop_length) == (24000, 240)


@pytest.mark.parametrize("name", ["speecht5", "parallel-wavegan-24k", "cosyvoice2", "lmnt-diffwave", "coqui-default"])
def test_the_bands_of_the_mel_are_among_those_that_it_makes(name: str) -> None:
    """Their centres, by librosa."""
    config = AdapterConfig.of(MelSpec.preset(name), 1024)
    own, made = (
        librosa.mel_frequencies(spec.n_mels + 2, fmin=spec.f_min, fmax=spec.f_max, htk=spec.mel_scale == "htk")
        for spec in (config.mel, config.inner)
    )
    below, above = config.beyond
    np.testing.assert_allclose(made[below : len(made) - above], own, atol=1e-3)
    assert made[0] < own[1] - own[0]  # nowhere is there room for one more
    assert made[-1] ** 2 / made[-2] > config.mel.sample_rate / 2
    centres = band_centres(config.inner).numpy()
    np.testing.assert_allclose(centres, made[1:-1], atol=2.0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="hop of 1021 samples has no whole part of 341"):
        AdapterConfig.of(dataclasses.replace(LONG, framing="center", hop_length=1021), 1024)
    for changes in (
        {"hop_length": 250},
        {"sample_rate": 22050, "f_max": 11000.0},
        {"framing": "center"},
        {"n_mels": 70},
    ):
        with pytest.raises(ConfigError, match=r"adapter\.inner: "):
            dataclasses.replace(SMALL, inner=dataclasses.replace(SHORT, **changes))  # type: ignore[arg-type]


def test_frames_depend_on_the_past_and_on_two_that_follow() -> None:
    network, other = shaken(), mels()
    other[:, :, 10:] += torch.rand(2, 80, 10)
    settled = 2 * (10 - AHEAD)
    torch.testing.assert_close(network(other)[..., :settled], network(mels())[..., :settled])
    other = mels()
    other[:, :, 9] += torch.rand(2, 80)
    moved = (network(other) - network(mels())).abs().amax((0, 1))
    assert moved[: 2 * (9 - AHEAD)].max() < 1e-5 < 1e-3 < moved[2 * (9 - AHEAD) : 2 * 10].min()


def test_the_level_says_nothing() -> None:
    network = shaken()
    torch.testing.assert_close(network(mels() + 2), network(mels()) + 2)
    assert network(mels() - 60).min() == pytest.approx(math.log(SHORT.floor))


def test_scales_are_brought_to_a_plain_logarithm() -> None:
    waveform = 0.1 * torch.randn(1, 9600, generator=torch.Generator().manual_seed(0))
    own = MelTransform(LONG)(waveform)
    statistics = {"mean": (-5.0,) * 80, "std": (2.0,) * 80}
    for changes in (statistics, {"log": "log10"}, {"log": "db", "scale": 0.5, "offset": 3.0}, {"floor_mode": "add"}):
        spec = dataclasses.replace(LONG, **changes)
        assert SMALL.takes(spec)
        torch.testing.assert_close(on_plain_scale(MelTransform(spec)(waveform), spec), own, atol=2e-3, rtol=0)
    normalised = dataclasses.replace(LONG, stft_normalized=True, floor=1e-9)
    torch.testing.assert_close(on_plain_scale(MelTransform(normalised)(waveform), normalised), own, atol=1e-4, rtol=0)
    assert plain(LONG) == LONG
    assert on_plain_scale(own, LONG) is own


@pytest.mark.parametrize("change", [{"hop_length": 240}, {"n_fft": 2048}, {"f_max": 12000.0}, {"mel_norm": "none"}])
def test_mels_of_another_structure_are_not_its_own(change: dict[str, object]) -> None:
    assert SMALL.takes(LONG)
    assert not SMALL.takes(dataclasses.replace(LONG, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"bands": 0}, {"bands": 3}, {"channels": -1}, {"layers": 65}])
def test_impossible_shapes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"adapter.{next(iter(wrong))}"):
        dataclasses.replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_it_needs_a_prior_that_reads_a_mel() -> None:
    with pytest.raises(ConfigError, match=r"adapters: .*prior\.power"):
        ModelConfig(mel=LONG, sample_rate=24000, adapters=(SMALL,))


def test_prior_and_network_work_in_the_frames_it_makes() -> None:
    vocoder = untrained(CONFIG)
    denoiser, mel = vocoder.denoiser, mels()
    assert denoiser.prior is not None
    assert denoiser.adapter is not None
    assert (vocoder.hop_length, vocoder.mel_spec, denoiser.prior.spec) == (480, LONG, SHORT)
    with torch.no_grad():
        told = denoiser.bind(Condition(mel)).cond
        assert told.mel is not None
        torch.testing.assert_close(told.mel, denoiser.adapter(mel))
    assert vocoder.decode(mel, 1, mel_spec=LONG).shape == (2, 20 * 480)


def test_it_has_nothing_to_do_in_another_dialect() -> None:
    """Its weights stay in the file all the same, and are there when the dialect is its own."""
    hifigan = dataclasses.replace(CONFIG, mel=MelSpec(), sample_rate=22050, n_fft=0)
    with_it = untrained(hifigan)
    config = dataclasses.replace(hifigan, adapters=())
    without = build_denoiser(config).eval().requires_grad_(False)
    weights = with_it.denoiser.state_dict()
    without.load_state_dict({name: weight for name, weight in weights.items() if not name.startswith("adapters.")})
    options = {"num_steps": 2, "mel_spec": MelSpec()}
    speech = Vocoder(config, without).decode(mels(), **options)  # type: ignore[arg-type]
    assert torch.equal(with_it.decode(mels(), **options), speech)  # type: ignore[arg-type]
    retuned = with_it.for_mels("cosyvoice2")
    assert torch.equal(retuned.denoiser.state_dict()["adapters.0.band_offset"], weights["adapters.0.band_offset"])
    assert retuned.denoiser.adapter is retuned.denoiser.adapters[0]
    assert with_it.denoiser.adapter is None


def test_speech_of_another_rate_is_resampled_at_the_end() -> None:
    """What the vocoder of the inner dialect makes of the adapted mel, by `resample`."""
    spec = MelSpec.preset("speecht5")
    adapter = AdapterConfig.of(spec, 1024, channels=8, layers=1)
    config = dataclasses.replace(CONFIG, mel=spec, sample_rate=16000, n_fft=0, adapters=(adapter,))
    vocoder = untrained(config)
    inner = untrained(dataclasses.replace(config, mel=adapter.inner, sample_rate=24000, adapters=()))
    weights = vocoder.denoiser.state_dict()
    inner.denoiser.load_state_dict({name: w for name, w in weights.items() if not name.startswith("adapters.")})
    mel = mels() - 2
    assert vocoder.denoiser.adapter is not None
    with torch.no_grad():
        adapted = vocoder.denoiser.adapter(vocoder.denoiser.on_plain_scale(mel))
    expected = resample(inner.decode(adapted, 2, seed=[3, 4], mel_spec=adapter.inner), 24000, 16000)
    speech = vocoder.decode(mel, 2, seed=[3, 4], mel_spec=spec)
    assert speech.shape == (2, 20 * 256)
    torch.testing.assert_close(speech, expected, atol=1e-5, rtol=0)
    states = list(vocoder.states(mel, 2, seed=[3, 4], mel_spec=spec))
    assert all(state.shape == speech.shape for state in states)
    torch.testing.assert_close(states[-1], speech, atol=1e-5, rtol=0)


def test_a_file_keeps_it_and_one_of_before_lacks_it(tmp_path: Path) -> None:
    vocoder = untrained(CONFIG)
    save_checkpoint(tmp_path / "a.safetensors", CONFIG, vocoder.denoiser.state_dict(), {})
    again = Vocoder.from_pretrained(tmp_path / "a.safetensors", device="cpu")
    assert again.config == CONFIG
    assert torch.equal(again.decode(mels(), 1, mel_spec=LONG), vocoder.decode(mels(), 1, mel_spec=LONG))
    former = {name: value for name, value in CONFIG.to_dict().items() if name != "adapters"}
    assert ModelConfig.from_dict(former) == dataclasses.replace(CONFIG, adapters=())


def test_info_names_the_dialects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = AdapterConfig.of(MelSpec(hop_length=128), 1024, channels=8, layers=1)
    config = dataclasses.replace(CONFIG, adapters=(SMALL, own))
    save_checkpoint(tmp_path / "a.safetensors", config, untrained(config).denoiser.state_dict(), {})
    assert main(["info", str(tmp_path / "a.safetensors"), "--json"]) == 0
    named, described = json.loads(capsys.readouterr().out)["adapters"]
    assert named == "cosyvoice2"
    assert "hop 128" in described


def test_a_pool_gives_each_stream_what_it_is_alone() -> None:
    vocoder = untrained(CONFIG)
    given = [mel - 2 for mel in mels(40)]
    pool = StreamPool(vocoder, 2, mel_spec=LONG)
    first, second = pool.open(seed=3), pool.open(seed=4)
    speech = {first: [pool.push({first: given[0][:, :8]})[first]], second: []}
    for place in range(0, 32, 4):
        pieces = {first: given[0][:, 8 + place : 12 + place], second: given[1][:, place : place + 4]}
        for stream, samples in pool.push(pieces).items():
            speech[stream].append(samples)
    speech[second].append(pool.push({second: given[1][:, 32:]})[second])
    for stream, mel, seed in ((first, given[0], 3), (second, given[1], 4)):
        alone = vocoder.decode(mel, 2, seed=seed, mel_spec=LONG, low_latency=True)
        whole = torch.cat([*speech[stream], pool.close(stream)])
        torch.testing.assert_close(whole, alone, atol=1e-4, rtol=0)


def test_a_graph_of_mels_that_are_filled_up_ends_each_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that a GPU would capture; the CPU draws the noise of a GPU."""
    monkeypatch.setattr(noise, "counts_on", lambda device: True)
    graphed, plain_one = untrained(CONFIG), untrained(CONFIG)

    def capture(function: Callable[..., Any], inputs: Sequence[Tensor]) -> Any:
        return lambda: None, function(*inputs)

    denoiser, options = graphed.denoiser, {"capture": capture, "device_type": "cpu"}
    for frames, lengths in ((24, None), (30, [30, 7]), (64, None)):
        graphed._graphs = GraphedWalk(denoiser, denoiser.backbone, 480, buckets=True, **options)
        made, expected = (
            vocoder.decode(mels(frames) - 2, 2, seed=[1, 2], lengths=lengths, mel_spec=LONG)
            for vocoder in (graphed, plain_one)
        )
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny vocoder of 22,050 Hz without such a network."""
    config = dataclasses.replace(CONFIG, mel=MelSpec(), sample_rate=22050, n_fft=0, adapters=())
    path = tmp_path / "start.safetensors"
    save_checkpoint(path, config, untrained(config).denoiser.state_dict(), {})
    return path


def test_training_moves_that_network_alone_and_what_is_trained_next_keeps_it(model: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "clips.jsonl", write_clips(tmp_path / "clips", 4, 4000))
    shape = {"mel": "cosyvoice2", "channels": 8, "layers": 2}
    init = {"init_from": str(model), "predicted_share": 0.5, "warmup_steps": 0, **shape}
    config = {
        "model": {"class_path": "wavediff.training.AdapterModule", "init_args": init},
        "data": {
            "train_manifest": str(tmp_path / "clips.jsonl"),
            "valid_manifest": str(tmp_path / "clips.jsonl"),
            "segment_length": 9600,
            "batch_size": 4,
        },
        "trainer": trainer(tmp_path, 3, {"class_path": "wavediff.training.ModelExport"}),
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps(config))
    assert main(arguments(tmp_path / "tiny.yaml")) == 0
    trained, before = load_checkpoint(tmp_path / "last.safetensors"), load_checkpoint(model).weights
    assert trained.config == dataclasses.replace(load_checkpoint(model).config, adapters=(SMALL,))
    assert all(torch.equal(trained.weights[name], before[name]) for name in before)
    assert trained.weights["adapters.0.output_projection.weight"].abs().max() > 0
    offset, path = trained.weights["adapters.0.band_offset"], str(tmp_path / "last.safetensors")
    goes_on = AdapterModule(path, LONG, channels=8, layers=2)
    assert torch.equal(goes_on.denoiser.state_dict()["adapters.0.band_offset"], offset)
    kept = trained.config
    vocoder = VocoderModule(kept.mel or LONG, kept.backbone, kept.schedule, "v", kept.prior, init_from=path)
    assert torch.equal(vocoder.denoiser.state_dict()["adapters.0.band_offset"], offset)
    assert not any("adapters" in name for name, weight in vocoder.named_parameters() if weight.requires_grad)


def test_a_vocoder_that_is_trained_on_a_dialect_of_another_rate_learns_it_itself(model: Path, tmp_path: Path) -> None:
    module = AdapterModule(str(model), "speecht5", channels=8, layers=1)
    path = tmp_path / "adapted.safetensors"
    save_checkpoint(path, module.config, module.denoiser.state_dict(), {})
    spec = MelSpec.preset("speecht5")
    assert Vocoder.from_pretrained(path, device="cpu").for_mels("speecht5").denoiser.rates is not None
    trained = VocoderModule(spec, CONFIG.backbone, CONFIG.schedule, "v", PRIOR, init_from=str(path))
    assert trained.denoiser.rates is None
    weights = module.denoiser.state_dict()
    assert torch.equal(trained.denoiser.state_dict()["backbone.band_offset"], weights["backbone.band_offset"])
    batch = {"waveform": 0.1 * torch.randn(2, 2560), "length": torch.tensor([2560, 2560])}
    adapted = {
        "waveform": 0.1 * torch.randn(2, 5120),
        "length": torch.tensor([5120, 5120]),
        "seed": torch.tensor([1, 2]),
    }
    assert trained.sample_rate == module.sample_rate == 16000
    assert trained.mel(batch).shape[1] == 80
    assert module.loss(adapted).mean.isfinite()
    assert module.heard(adapted).shape == (2, 5120)


def test_its_loss_is_the_distance_of_mels(model: Path) -> None:
    """A fresh network's is that of the interpolation; frames that see beyond the segment do not count."""
    module = AdapterModule(str(model), LONG, channels=8, layers=2)
    waveform = 0.1 * torch.randn(2, 9600, generator=torch.Generator().manual_seed(0))
    batch = {"waveform": waveform, "length": torch.tensor([9600, 7200])}
    mel = module.mel(batch)
    with torch.no_grad():
        made = MelAdapter(SMALL)(mel)
    difference = (made - MelTransform(SHORT)(waveform)).abs().mean(1)
    loss = module._distance(mel, batch)
    torch.testing.assert_close(loss.per_item, torch.stack([difference[0, 6:34].mean(), difference[1, 6:24].mean()]))
    assert module.heard(batch).shape == (2, 9600)


def test_white_noise_has_no_use_for_it(tmp_path: Path) -> None:
    path = tmp_path / "white.safetensors"
    config = ModelConfig(mel=MelSpec())
    save_checkpoint(path, config, build_denoiser(config).state_dict(), {})
    with pytest.raises(ConfigError, match=r"model\.init_from: .*white"):
        AdapterModule(str(path), LONG)
    with pytest.raises(ConfigError, match="predicted_share"):
        AdapterModule("bundled", LONG, predicted_share=1.5)


KNOWN = Vocoder.from_pretrained("bundled", device="cpu").config.adapters
ADAPTED = [name for name, spec in PRESETS.items() if any(adapter.takes(spec) for adapter in KNOWN)]


@pytest.mark.parametrize("name", ADAPTED)
def test_a_bundled_network_knows_the_mel_better_than_the_interpolation_does(name: str) -> None:
    vocoder = Vocoder.from_pretrained("bundled", device="cpu").for_mels(name)
    adapter = vocoder.denoiser.adapter
    assert adapter is not None
    spec, inner = adapter.config.mel, adapter.config.inner
    waveform = torch.as_tensor(read_audio(CLIP, spec.sample_rate)[0]).reshape(1, -1)
    mel = MelTransform(spec)(waveform)
    true = MelTransform(inner)(resample(waveform, spec.sample_rate, inner.sample_rate))
    with torch.no_grad():
        ours, theirs = (
            (made(mel)[..., : true.shape[-1]] - true[..., : made(mel).shape[-1]]).abs().mean().item()
            for made in (adapter, MelAdapter(adapter.config))
        )
    assert ours < 0.55 * theirs


@pytest.mark.parametrize("name", ADAPTED)
def test_a_bundled_network_streams_bit_by_bit(name: str) -> None:
    vocoder = Vocoder.from_pretrained("bundled", device="cpu").for_mels(name)
    mel = vocoder.mel(*read_audio(CLIP))[0][:, :120]
    options = {"mel_spec": vocoder.mel_spec}
    pieces = list(vocoder.stream(mel.split(37, -1), **options))
    assert torch.equal(torch.cat(pieces), vocoder.decode(mel, **options))
    low = torch.cat(list(vocoder.stream(mel.split(5, -1), low_latency=True, **options)))
    assert torch.equal(low, vocoder.decode(mel, low_latency=True, **options))
    assert vocoder.delay(low_latency=True) <= 330
