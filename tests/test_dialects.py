"""One vocoder under training, told mels of several dialects."""

import pytest
import torch
from vocoders import untrained

from wavediff.backbones import SpectralConfig
from wavediff.diffusion import CosineSchedule, ItemNoise, MelLoss, PriorConfig, SpectralLoss
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec, MelTransform
from wavediff.models.config import ModelConfig
from wavediff.pipelines.vocoder import Vocoder
from wavediff.training.dialects import Dialects, as_predicted, sharing

NAMES = ["hifigan", "vocos-24k", "speecht5", "parallel-wavegan-24k"]
PRIOR = PriorConfig(power=0.8, start_time=0.2, phase_iterations=4)


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    config = ModelConfig(SpectralConfig(bands=16, channels=8, layers=2), CosineSchedule(), "v", PRIOR, MelSpec())
    return untrained(config)


def batch(samples: int = 12_800) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(2, samples, generator=generator)
    return {"waveform": waveform, "length": torch.tensor([samples, samples // 2]), "seed": torch.tensor([0, 1])}


def test_every_dialect_is_drawn_with_its_own_mel_and_rate(vocoder: Vocoder) -> None:
    dialects, seen, given = Dialects(vocoder.config, vocoder.denoiser, NAMES), {}, batch()
    for seed in range(40):
        told = dialects.tell(given, ItemNoise([seed, seed + 1]))
        seen[told.bound.denoiser.prior.dialect.name] = told  # type: ignore[union-attr]
    assert sorted(seen) == sorted(NAMES)
    for name, told in seen.items():
        spec = MelSpec.preset(name)
        expected = MelTransform(spec)(told.waveform)[..., : told.waveform.shape[1] // spec.hop_length]
        torch.testing.assert_close(told.bound.cond.mel, expected, atol=1e-3, rtol=0)
        assert told.waveform.shape[1] % spec.hop_length == 0
        rate = min(spec.sample_rate, 22_050)
        assert told.waveform.shape[1] == pytest.approx(12_800 * rate / 22_050, abs=spec.hop_length)
        assert told.lengths.tolist()[1] == pytest.approx(6_400 * rate / 22_050, abs=1)
    assert torch.equal(seen["vocos-24k"].waveform[:, :6_400], given["waveform"][:, :6_400])  # as if it had 24 kHz


def test_the_weights_are_the_very_same(vocoder: Vocoder) -> None:
    twin = sharing(vocoder.config.of_dialect(MelSpec.preset("vocos-24k")), vocoder.denoiser)
    own = dict(vocoder.denoiser.named_parameters())
    assert all(weight is own[name] for name, weight in twin.named_parameters())
    assert twin.backbone.stft is not vocoder.denoiser.backbone.stft
    dialects = Dialects(vocoder.config, vocoder.denoiser, NAMES)
    assert not list(dialects.parameters())
    assert not dialects.state_dict()


def test_a_batch_with_mels_of_its_own_stays_as_it_is(vocoder: Vocoder) -> None:
    dialects, given = Dialects(vocoder.config, vocoder.denoiser, NAMES), batch()
    mel = torch.full((2, 80, 50), -4.0)
    for seed in range(6):
        told = dialects.tell(given | {"mel": mel}, ItemNoise([seed, seed]))
        assert told.bound.cond.mel is mel
        assert told.waveform is given["waveform"]


@pytest.mark.parametrize("name", ["hifigan", "espnet", "speecht5"])
def test_a_mel_is_changed_as_much_as_is_said_in_every_logarithm(name: str) -> None:
    """A constant mel is not blurred: an offset of at most .25 nepers and noise of at most .15 are left."""
    spec = MelSpec.preset(name)
    neper = {"ln": 1.0, "log10": 0.4342945, "db": 8.685890}[spec.log] * spec.scale
    unit = neper if spec.std is None else neper / torch.tensor(spec.std)[:, None]
    mel = torch.zeros(60, spec.n_mels, 200)
    change = (as_predicted(mel, spec, ItemNoise(range(60))) - mel) / unit
    level, grain = change.mean((1, 2)), change.std((1, 2))
    assert -0.26 < level.min() < -0.15
    assert 0.15 < level.max() < 0.26
    assert 0.0 <= grain.min() < 0.05
    assert 0.1 < grain.max() < 0.155


def test_steps_in_time_are_blurred_and_items_change_alone() -> None:
    spec, mel = MelSpec(), torch.zeros(8, 80, 40)
    mel[..., 20:] = -4.0
    changed = as_predicted(mel, spec, ItemNoise(range(8)))
    rise = (changed[..., 19] - changed[..., 18]).mean(1)
    assert rise.min() < -0.6  # a quarter of the step, at the most
    assert rise.min() > -1.1
    alone = as_predicted(mel[3:4], spec, ItemNoise([3]))
    torch.testing.assert_close(alone[0], changed[3])


def test_impossible_dialects_are_refused(vocoder: Vocoder) -> None:
    with pytest.raises(ConfigError, match=r"model.predicted_share: 1.5 is outside 0 to 1"):
        Dialects(vocoder.config, vocoder.denoiser, NAMES, 1.5)
    codec = ModelConfig(mel=MelSpec())
    with pytest.raises(ConfigError, match=r"model.dialects: vocos-24k needs other weights"):
        Dialects(codec, untrained(codec).denoiser, ["vocos-24k"])


def test_the_mel_distance_is_the_level_that_is_amiss_and_does_not_hear_where_in_a_band_a_tone_lies() -> None:
    distance, time = MelLoss(MelSpec()), torch.arange(22_050) / 22_050
    tones = torch.sin(2 * torch.pi * torch.tensor([[7000.0], [7012.0]]) * time)
    noise = 0.1 * torch.randn(2, 22_050, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(distance(2 * noise, noise), torch.full((2,), 0.6931), atol=5e-3, rtol=0)
    moved = tones[1:] + noise[:1], tones[:1] + noise[:1]
    assert distance(*moved) < 0.2 * SpectralLoss(MelSpec())(*moved)
    vocoder = Dialects(config := ModelConfig(mel=MelSpec()), untrained(config).denoiser, [], distance=MelLoss)
    told = vocoder.tell(batch(), ItemNoise([0, 1]))
    assert isinstance(told.distance, MelLoss)
