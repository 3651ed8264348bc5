"""The network that improves the pseudo-inverse of a mel."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from clips import write_manifests
from runs import MEL, arguments, trainer
from torch import Tensor

from wavediff import MelSpec, Vocoder
from wavediff.audio import read_audio
from wavediff.backbones import Condition, InversionConfig, MelInversion, SpectralConfig
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.diffusion import CosineSchedule, PriorConfig
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.training import InversionModule, VocoderModule

SMALL = InversionConfig(bands=3, width=8, channels=16, layers=2)
SPEC = MelSpec(**MEL)  # type: ignore[arg-type]
PRIOR = PriorConfig(power=0.85, start_time=0.2, phase_iterations=2)


def shaken(config: InversionConfig = SMALL) -> MelInversion:
    """With random weights: fresh ones change nothing."""
    torch.manual_seed(0)
    network = MelInversion(config).requires_grad_(False)
    for weight in network.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return network


def magnitudes(frames: int = 20) -> Tensor:
    """(2, frames, 65)"""
    return torch.rand(2, frames, 65, generator=torch.Generator().manual_seed(0)) + 0.01


def test_a_fresh_network_changes_nothing_and_a_trained_one_only_its_bands() -> None:
    assert torch.equal(MelInversion(SMALL)(magnitudes()), magnitudes())
    changed = shaken()(magnitudes())
    assert torch.equal(changed[..., 24:], magnitudes()[..., 24:])
    steps = (changed / magnitudes()).log().abs().amax((0, 1))
    assert steps[2:16].min() > 0.1
    assert steps[23] < 0.5 * steps[16:20].max()  # it fades


def test_a_frame_depends_on_earlier_ones_alone() -> None:
    network, other = shaken(), magnitudes()
    other[:, 10:] *= 1 + torch.rand(2, 10, 65)
    same = network(other)[:, :10], network(magnitudes())[:, :10]
    torch.testing.assert_close(*same, rtol=1e-5, atol=0)
    other = magnitudes()
    other[:, 9] *= 1 + torch.rand(2, 65)
    moved = (network(other) / network(magnitudes()) - 1).abs().amax((0, 2))
    assert moved[10:18].min() > 1e-4 > moved[18:].max()  # two layers look four frames back each


def test_the_level_says_nothing() -> None:
    network = shaken()
    torch.testing.assert_close(network(300 * magnitudes()), 300 * network(magnitudes()), rtol=1e-3, atol=0)


@pytest.mark.parametrize("wrong", [{"bands": 0}, {"width": 0}, {"channels": -1}, {"layers": 65}])
def test_impossible_shapes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"inversion.{next(iter(wrong))}"):
        InversionConfig(**wrong)


def test_it_needs_a_prior_that_reads_a_mel() -> None:
    with pytest.raises(ConfigError, match=r"inversion: .*prior\.power"):
        ModelConfig(mel=MelSpec(), inversion=SMALL)


def test_the_bundled_vocoder_knows_the_spectrum_of_its_clip_better_than_the_pseudo_inverse_does() -> None:
    """And keeps the bands of the mel, which are right."""
    vocoder = Vocoder.from_pretrained("bundled")
    waveform, rate = read_audio(CLIP, vocoder.sample_rate)
    mel, denoiser = vocoder.mel(waveform, rate), vocoder.denoiser
    prior = denoiser.prior
    assert prior is not None
    with torch.no_grad():
        magnitude, pseudo_inverse = denoiser.bind(Condition(mel)).cond.magnitude, prior.spectra(mel)[1]
    assert magnitude is not None
    length = mel.shape[2] * vocoder.mel_spec.hop_length
    samples = torch.as_tensor(waveform).reshape(1, -1)[:, :length]
    recorded = FrameSTFT(prior.spec).analysis(torch.nn.functional.pad(samples, (0, length - samples.shape[1]))).abs()
    ours, theirs = (
        ((m - recorded).abs()[..., :64].sum() / recorded[..., :64].sum()).item() for m in (magnitude, pseudo_inverse)
    )
    assert ours < 0.6 * theirs < 0.2
    bands = [prior.weights @ m.transpose(1, 2) for m in (magnitude, pseudo_inverse)]
    assert (bands[0] / bands[1]).log().abs().mean() < 0.05


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny vocoder without such a network."""
    config = ModelConfig(SpectralConfig(8, 8, 1), CosineSchedule(), "v", PRIOR, SPEC, SPEC.sample_rate)
    torch.manual_seed(0)
    path = tmp_path / "start.safetensors"
    save_checkpoint(path, config, build_denoiser(config).state_dict(), {})
    return path


def train(model: Path, folder: Path, steps: int) -> Path:
    """Some steps; the model file that they make."""
    manifests = write_manifests(folder / "clips")
    init = {"init_from": str(model), "inversion": dataclasses.asdict(SMALL), "warmup_steps": 0}
    config = {
        "model": {"class_path": "wavediff.training.InversionModule", "init_args": init},
        "data": {
            "train_manifest": str(manifests[0]),
            "valid_manifest": str(manifests[1]),
            "segment_length": 2048,
            "batch_size": 4,
        },
        "trainer": trainer(folder, steps, {"class_path": "wavediff.training.ModelExport"}),
    }
    (folder / "tiny.yaml").write_text(json.dumps(config))
    assert main(arguments(folder / "tiny.yaml")) == 0
    return folder / "last.safetensors"


def test_training_moves_that_network_alone_and_what_is_trained_next_keeps_it(model: Path, tmp_path: Path) -> None:
    trained = load_checkpoint(train(model, tmp_path, 3))
    before, weights = load_checkpoint(model).weights, trained.weights
    assert trained.config.inversion == SMALL
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert weights["inversion.output_projection.weight"].abs().max() > 0
    path = str(tmp_path / "last.safetensors")
    again = InversionModule(path)
    assert torch.equal(again.denoiser.state_dict()["inversion.band_offset"], weights["inversion.band_offset"])
    config = trained.config
    vocoder = VocoderModule(SPEC, config.backbone, config.schedule, "v", config.prior, init_from=path)
    assert torch.equal(vocoder.denoiser.state_dict()["inversion.band_offset"], weights["inversion.band_offset"])
    learns = {name for name, weight in vocoder.named_parameters() if weight.requires_grad}
    assert learns
    assert not any("inversion" in name for name in learns)


def test_its_loss_is_the_distance_from_the_spectrum_of_the_recording(model: Path) -> None:
    """0 of the recording's own magnitudes, and half of what it is with twice the distance."""
    module = InversionModule(str(model), SMALL)
    generator = torch.Generator().manual_seed(0)
    batch = {"waveform": 0.1 * torch.randn(2, 2048, generator=generator), "length": torch.tensor([2048, 1500])}
    prior = module.denoiser.prior
    assert prior is not None
    bound, recorded = module.bind(batch), prior.stft.analysis(batch["waveform"]).abs()

    def loss(magnitude: Tensor) -> Tensor:
        cond = dataclasses.replace(bound.cond, magnitude=magnitude)
        return module._distance(dataclasses.replace(bound, cond=cond), batch["waveform"], batch["length"]).per_item

    assert loss(recorded).abs().max() == 0
    torch.testing.assert_close(loss(3 * recorded), 2 * loss(2 * recorded))
    frames, peak = slice(2, 2048 // SPEC.hop_length - 2), recorded[0, :, :24].amax(-1)
    expected = (recorded[0, :, :24].sum(-1) / peak)[frames].mean()
    torch.testing.assert_close(loss(2 * recorded)[0], expected)


def test_white_noise_has_no_use_for_it(tmp_path: Path) -> None:
    path = tmp_path / "white.safetensors"
    config = ModelConfig(mel=SPEC, sample_rate=SPEC.sample_rate)
    save_checkpoint(path, config, build_denoiser(config).state_dict(), {})
    with pytest.raises(ConfigError, match=r"model\.init_from: .*white"):
        InversionModule(str(path))
