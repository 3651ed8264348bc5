"""The network that makes two frames of each frame of a mel of 20 ms."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import write_clips
from runs import arguments, trainer
from torch import Tensor
from vocoders import untrained

from wavediff import MelSpec, StreamPool, Vocoder
from wavediff.audio import read_audio
from wavediff.backbones import Condition, HalvingConfig, MelHalving, SpectralConfig
from wavediff.backbones.halving import AHEAD, LONG, SHORT, is_halved, plain
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.data.manifest import write_manifest
from wavediff.diffusion import CosineSchedule, PriorConfig, noise
from wavediff.engine import GraphedWalk
from wavediff.errors import ConfigError
from wavediff.mel import MelTransform
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.training import HalvingModule, VocoderModule

SMALL = HalvingConfig(channels=8, layers=2)
PRIOR = PriorConfig(power=0.85, start_time=0.2, phase_iterations=2)
CONFIG = ModelConfig(SpectralConfig(8, 8, 1), CosineSchedule(), "v", PRIOR, LONG, 24000, halving=SMALL, n_fft=1024)
QUIETER = 1.5 * math.log(1024 / 1920)  # bands of noise in the shorter frames


def shaken() -> MelHalving:
    """With random weights: fresh ones interpolate."""
    torch.manual_seed(0)
    network = MelHalving(SMALL).requires_grad_(False)
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
        made = MelHalving(SMALL)(line)
    expected = torch.arange(-0.25, 5.5, 0.5).clamp(0, 5) - 5
    expected[[0, -1]] = torch.tensor([0.0, 5.0]) - 5
    torch.testing.assert_close(made, (expected + QUIETER).expand(1, 80, -1))


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
    assert network(mels() - 30).min() == pytest.approx(math.log(SHORT.floor))


def test_scales_are_brought_to_a_plain_logarithm() -> None:
    waveform = 0.1 * torch.randn(1, 9600, generator=torch.Generator().manual_seed(0))
    own = MelTransform(LONG)(waveform)
    statistics = {"mean": (-5.0,) * 80, "std": (2.0,) * 80}
    for changes in (statistics, {"log": "log10"}, {"log": "db", "scale": 0.5, "offset": 3.0}, {"floor_mode": "add"}):
        spec = dataclasses.replace(LONG, **changes)
        assert is_halved(spec)
        torch.testing.assert_close(plain(MelTransform(spec)(waveform), spec), own, atol=2e-3, rtol=0)
    normalised = dataclasses.replace(LONG, stft_normalized=True, floor=1e-9)
    torch.testing.assert_close(plain(MelTransform(normalised)(waveform), normalised), own, atol=1e-4, rtol=0)
    assert plain(own, LONG) is own


@pytest.mark.parametrize("change", [{"hop_length": 240}, {"n_fft": 2048}, {"f_max": 12000.0}, {"mel_norm": "none"}])
def test_mels_of_another_structure_are_not_its_own(change: dict[str, object]) -> None:
    assert is_halved(MelSpec.preset("cosyvoice2"))
    assert not is_halved(dataclasses.replace(LONG, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"bands": 0}, {"bands": 3}, {"channels": -1}, {"layers": 65}])
def test_impossible_shapes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"halving.{next(iter(wrong))}"):
        HalvingConfig(**wrong)


def test_it_needs_a_prior_that_reads_a_mel() -> None:
    with pytest.raises(ConfigError, match=r"halving: .*prior\.power"):
        ModelConfig(mel=LONG, sample_rate=24000, halving=SMALL)


def test_prior_and_network_work_in_the_frames_it_makes() -> None:
    vocoder = untrained(CONFIG)
    denoiser, mel = vocoder.denoiser, mels()
    assert denoiser.prior is not None
    assert denoiser.halving is not None
    assert (vocoder.hop_length, vocoder.mel_spec, denoiser.prior.spec) == (480, LONG, SHORT)
    with torch.no_grad():
        told = denoiser.bind(Condition(mel)).cond
        assert told.mel is not None
        torch.testing.assert_close(told.mel, denoiser.halving(mel))
    assert vocoder.decode(mel, 1, mel_spec=LONG).shape == (2, 20 * 480)


def test_it_has_nothing_to_do_in_another_dialect() -> None:
    """Its weights stay in the file all the same, and are there when the dialect is its own."""
    hifigan = dataclasses.replace(CONFIG, mel=MelSpec(), sample_rate=22050, n_fft=0)
    with_it = untrained(hifigan)
    config = dataclasses.replace(hifigan, halving=None)
    without = build_denoiser(config).eval().requires_grad_(False)
    weights = with_it.denoiser.state_dict()
    without.load_state_dict({name: weight for name, weight in weights.items() if not name.startswith("halving.")})
    options = {"num_steps": 2, "mel_spec": MelSpec()}
    speech = Vocoder(config, without).decode(mels(), **options)  # type: ignore[arg-type]
    assert torch.equal(with_it.decode(mels(), **options), speech)  # type: ignore[arg-type]
    retuned = with_it.for_mels("cosyvoice2")
    assert torch.equal(retuned.denoiser.state_dict()["halving.band_offset"], weights["halving.band_offset"])
    assert retuned.denoiser.halved == LONG


def test_a_file_keeps_it_and_one_of_before_lacks_it(tmp_path: Path) -> None:
    vocoder = untrained(CONFIG)
    save_checkpoint(tmp_path / "a.safetensors", CONFIG, vocoder.denoiser.state_dict(), {})
    again = Vocoder.from_pretrained(tmp_path / "a.safetensors", device="cpu")
    assert again.config == CONFIG
    assert torch.equal(again.decode(mels(), 1, mel_spec=LONG), vocoder.decode(mels(), 1, mel_spec=LONG))
    former = {name: value for name, value in CONFIG.to_dict().items() if name != "halving"}
    assert ModelConfig.from_dict(former) == dataclasses.replace(CONFIG, halving=None)


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
    config = dataclasses.replace(CONFIG, mel=MelSpec(), sample_rate=22050, n_fft=0, halving=None)
    path = tmp_path / "start.safetensors"
    save_checkpoint(path, config, untrained(config).denoiser.state_dict(), {})
    return path


def test_training_moves_that_network_alone_and_what_is_trained_next_keeps_it(model: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "clips.jsonl", write_clips(tmp_path / "clips", 4, 4000))
    init = {"init_from": str(model), "halving": dataclasses.asdict(SMALL), "predicted_share": 0.5, "warmup_steps": 0}
    config = {
        "model": {"class_path": "wavediff.training.HalvingModule", "init_args": init},
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
    assert trained.config == dataclasses.replace(load_checkpoint(model).config, halving=SMALL)
    assert all(torch.equal(trained.weights[name], before[name]) for name in before)
    assert trained.weights["halving.output_projection.weight"].abs().max() > 0
    offset, path = trained.weights["halving.band_offset"], str(tmp_path / "last.safetensors")
    assert torch.equal(HalvingModule(path).denoiser.state_dict()["halving.band_offset"], offset)
    kept = trained.config
    vocoder = VocoderModule(kept.mel or LONG, kept.backbone, kept.schedule, "v", kept.prior, init_from=path)
    assert torch.equal(vocoder.denoiser.state_dict()["halving.band_offset"], offset)
    assert not any("halving" in name for name, weight in vocoder.named_parameters() if weight.requires_grad)


def test_its_loss_is_the_distance_of_mels(model: Path) -> None:
    """A fresh network's is that of the interpolation; frames that see beyond the segment do not count."""
    module = HalvingModule(str(model), SMALL)
    waveform = 0.1 * torch.randn(2, 9600, generator=torch.Generator().manual_seed(0))
    batch = {"waveform": waveform, "length": torch.tensor([9600, 7200])}
    mel = module.mel(batch)
    with torch.no_grad():
        made = MelHalving(SMALL)(mel)
    difference = (made - MelTransform(SHORT)(waveform)).abs().mean(1)
    loss = module._distance(mel, batch)
    torch.testing.assert_close(loss.per_item, torch.stack([difference[0, 6:34].mean(), difference[1, 6:24].mean()]))
    assert module.heard(batch).shape == (2, 9600)


def test_white_noise_has_no_use_for_it(tmp_path: Path) -> None:
    path = tmp_path / "white.safetensors"
    config = ModelConfig(mel=MelSpec())
    save_checkpoint(path, config, build_denoiser(config).state_dict(), {})
    with pytest.raises(ConfigError, match=r"model\.init_from: .*white"):
        HalvingModule(str(path))
    with pytest.raises(ConfigError, match="predicted_share"):
        HalvingModule("bundled", SMALL, predicted_share=1.5)


@pytest.fixture(scope="module")
def retuned() -> Vocoder:
    """The bundled one, for mels of these frames."""
    return Vocoder.from_pretrained("bundled", device="cpu").for_mels("cosyvoice2")


def test_the_bundled_network_knows_the_mel_of_short_frames_better_than_the_interpolation_does(retuned: Vocoder) -> None:
    waveform = torch.as_tensor(read_audio(CLIP, 24000)[0]).reshape(1, -1)
    waveform = waveform[:, : waveform.shape[1] // 480 * 480]
    mel, true, halving = MelTransform(LONG)(waveform), MelTransform(SHORT)(waveform), retuned.denoiser.halving
    assert halving is not None
    with torch.no_grad():
        ours, theirs = ((made(mel) - true).abs().mean().item() for made in (halving, MelHalving(HalvingConfig())))
    assert ours < 0.55 * theirs < 0.25


def test_the_bundled_network_streams_bit_by_bit(retuned: Vocoder) -> None:
    mel = retuned.mel(*read_audio(CLIP))[0][:, :120]
    options = {"mel_spec": retuned.mel_spec}
    pieces = list(retuned.stream(mel.split(37, -1), **options))
    assert torch.equal(torch.cat(pieces), retuned.decode(mel, **options))
    low = torch.cat(list(retuned.stream(mel.split(5, -1), low_latency=True, **options)))
    assert torch.equal(low, retuned.decode(mel, low_latency=True, **options))
    assert retuned.delay(low_latency=True) <= 300
