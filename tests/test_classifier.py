"""The sound classifier: what does not change its answer, its file, its training, and the bundled one on real sounds."""

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY
from torch import Tensor
from torch.nn import functional as F

from wavediff.audio import read_audio, write_audio
from wavediff.cli.main import main
from wavediff.data.corpora.classes import ClassFolders
from wavediff.errors import AudioError, CheckpointError, ConfigError, DataError
from wavediff.metrics.classifier import (
    BUNDLED,
    TIME_STRIDE,
    SoundClassifier,
    SoundClassifierConfig,
    load_classifier,
    save_classifier,
)
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig
from wavediff.training.classification import ClassifierModule, ClipVariation
from wavediff.training.module import labels_of

CONFIG = SoundClassifierConfig(22050, ("a", "b", "c"), width=8, channels=4, n_mels=32)
BUNDLED_MODELS = {"vocoder": BUNDLED.with_name("vocoder.safetensors"), "classifier": BUNDLED}


def burst(length: int, seed: int, level: float = 0.5) -> Tensor:
    """(1, length) of noise that fades."""
    noise = torch.randn(1, length, generator=torch.Generator().manual_seed(seed))
    return level * torch.linspace(1, 0.1, length) * noise / noise.abs().max()


@pytest.fixture(scope="module")
def classifier() -> SoundClassifier:
    """Random weights, also in the statistics that training would have left."""
    torch.manual_seed(0)
    built = SoundClassifier(CONFIG)
    for _ in range(40):
        built(torch.cat([burst(9000, seed) for seed in range(4)]))
    return built.eval().requires_grad_(False)


@pytest.fixture
def model_file(classifier: SoundClassifier, tmp_path: Path) -> Path:
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, CONFIG, classifier.state_dict(), {"steps": 3})
    return path


@pytest.mark.parametrize("length", [300, 1000, 5000, 12345])
def test_silence_behind_a_clip_changes_nothing(classifier: SoundClassifier, length: int) -> None:
    clip = burst(length, length)
    alone = classifier.embed(clip)
    for zeros in (1, 255, 1000, 40_000):
        torch.testing.assert_close(classifier.embed(F.pad(clip, (0, zeros))), alone, rtol=0, atol=1e-5)
    whispers = F.pad(clip, (0, 20_000)) + 1e-5 * burst(length + 20_000, 1)  # 90 dB below
    torch.testing.assert_close(classifier.embed(whispers), alone, rtol=0, atol=0.02)
    assert (classifier.embed(burst(length, length + 1)) - alone).abs().max() > 0.005  # it does tell clips apart


def test_silence_before_a_clip_is_not_pooled(classifier: SoundClassifier) -> None:
    clip = burst(8000, 1)
    step = TIME_STRIDE * CONFIG.mel.hop_length
    late = classifier.embed(F.pad(clip, (10 * step, 0)))
    torch.testing.assert_close(late, classifier.embed(F.pad(clip, (step, 0))), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gain", [1e-7, 1e-3, 0.1, 30.0])
def test_the_level_changes_nothing(classifier: SoundClassifier, gain: float) -> None:
    clip = burst(8000, 2)
    torch.testing.assert_close(classifier(gain * clip), classifier(clip), rtol=0, atol=1e-4)


def test_clips_of_a_batch_do_not_depend_on_each_other(classifier: SoundClassifier) -> None:
    clips = [burst(length, length) for length in (700, 6000, 3000)]
    batch = torch.cat([F.pad(clip, (0, 6000 - clip.shape[1])) for clip in clips])
    alone = torch.cat([classifier(clip) for clip in clips])
    torch.testing.assert_close(classifier(batch), alone, rtol=0, atol=1e-5)


def test_any_length_and_rate_gives_finite_logits(classifier: SoundClassifier) -> None:
    for waveform in (torch.zeros(2, 5000), torch.ones(2, 1), torch.full((2, 50), 1e-12), burst(30, 0).repeat(2, 1)):
        assert classifier(waveform).isfinite().all()
    for sample_rate in (4000, 8000, 16_000, 44_100, 384_000):
        config = SoundClassifierConfig(sample_rate, ("a", "b"), width=4, channels=4)
        assert config.mel.f_max == sample_rate / 2
        assert SoundClassifier(config).eval()(burst(3000, 0)).shape == (1, 2)


@pytest.mark.parametrize(
    "waveform",
    [torch.zeros(5), torch.zeros(1, 0), torch.zeros(1, 9, dtype=torch.int16), torch.tensor([[0.1, float("nan")]])],
)
def test_what_is_no_waveform_is_refused(classifier: SoundClassifier, waveform: Tensor) -> None:
    with pytest.raises(AudioError, match="waveform: "):
        classifier(waveform)


def test_what_is_saved_is_loaded(model_file: Path, classifier: SoundClassifier, tmp_path: Path) -> None:
    loaded, facts = load_classifier(model_file)
    assert (loaded.config, facts, loaded.training) == (CONFIG, {"steps": 3}, False)
    clip = burst(5000, 3)
    assert torch.equal(loaded(clip), classifier(clip))
    half = tmp_path / "half.safetensors"
    save_classifier(half, CONFIG, classifier.state_dict(), half=True)
    torch.testing.assert_close(load_classifier(half).classifier(clip), classifier(clip), rtol=0, atol=0.01)


def test_counters_too_large_for_half_precision_are_not_stored(classifier: SoundClassifier, tmp_path: Path) -> None:
    weights = classifier.state_dict()
    weights["blocks.0.norm.num_batches_tracked"] = torch.tensor(1_000_000)
    save_classifier(tmp_path / "half.safetensors", CONFIG, weights, half=True)
    load_classifier(tmp_path / "half.safetensors")


def test_a_damaged_file_is_refused(model_file: Path) -> None:  # fault 36, fault 37
    whole = model_file.read_bytes()
    generator = random.Random(0)
    for _ in range(60):
        place = generator.randrange(len(whole))
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]):
            model_file.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=model_file.name):
                load_classifier(model_file)


def test_each_loader_refuses_the_other_kind_and_says_what_takes_it(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a sound classifier, .*`wavediff evaluate --generated`"):
        load_checkpoint(model_file)
    with pytest.raises(CheckpointError, match=r"is a diffusion model, .*`wavediff vocode`"):
        load_classifier(BUNDLED_MODELS["vocoder"])  # written before there were kinds
    save_checkpoint(tmp_path / "new.safetensors", ModelConfig(), {})
    with pytest.raises(CheckpointError, match="is a diffusion model"):
        load_classifier(tmp_path / "new.safetensors")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"width": 0}, "width"),
        ({"width": 10**9}, "width"),
        ({"channels": "4"}, "channels"),
        ({"n_mels": 40}, "n_mels"),
        ({"sample_rate": 1}, "sample_rate"),
        ({"labels": []}, "labels"),
        ({"labels": ["a", "a"]}, "labels"),
        ({"labels": [1, 2]}, "labels"),
        ({"labels": "ab"}, "table"),
        ({"class_path": "builtins.eval"}, "table"),
    ],
)
def test_a_configuration_out_of_bounds_is_refused_before_anything_is_built(
    change: dict, match: str
) -> None:  # fault 44
    with pytest.raises(ConfigError, match=match):
        SoundClassifierConfig.from_dict(CONFIG.to_dict() | change)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": ["a", "b"]}, "labels"),
        ({"width": 9}, "width"),
        ({"channels": 5}, "channels"),
        ({"n_mels": 48}, "n_mels"),
    ],
)
def test_weights_of_another_configuration_are_refused(  # fault 43
    classifier: SoundClassifier, tmp_path: Path, change: dict, match: str
) -> None:
    other = SoundClassifierConfig.from_dict(CONFIG.to_dict() | change)
    save_classifier(tmp_path / "m.safetensors", other, classifier.state_dict())
    with pytest.raises(CheckpointError, match=match):
        load_classifier(tmp_path / "m.safetensors")


def test_info_describes_a_classifier(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model_file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["labels"], facts["facts"]) == ("classifier", ["a", "b", "c"], {"steps": 3})


# Training


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of 3 x 10 clips that a mel tells apart: a low tone, a high one and noise, of several lengths."""
    folder = tmp_path_factory.mktemp("corpus")
    for index in range(10):
        time = torch.arange(2000 + 400 * index) / 8000
        sounds = {"low": torch.sin(2000 * time), "high": torch.sin((12_000 + 300 * index) * time)}
        sounds["noise"] = burst(len(time), index)[0]
        for label, sound in sounds.items():
            write_audio(folder / "sounds" / label / f"{index}.wav", 0.3 * sound, 8000)
    fractions = ["--valid-fraction", "0.2", "--test-fraction", "0.1"]
    assert main(["prepare", "classes", str(folder / "sounds"), "-o", str(folder), "--quiet", "--pack", *fractions]) == 0
    return folder


def train(recipe: str, corpus: Path, root: Path, steps: int, *more: str) -> None:
    options = {
        "data.train_manifest": corpus / "train.jsonl",
        "data.valid_manifest": corpus / "valid.jsonl",
        "data.segment_length": 8000,
        "data.batch_size": 7,
        "model.labels": corpus / "train.jsonl",
        "model.sample_rate": 8000,
        "trainer.max_steps": steps,
        "trainer.accelerator": "cpu",
        "trainer.default_root_dir": root,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    config = REPOSITORY / "recipes" / recipe / "classifier.yaml"
    assert main(["train", "--config", str(config), *(f"--{key}={value}" for key, value in options.items()), *more]) == 0


def test_a_short_training_learns_and_exports_what_was_validated(corpus: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    quick = ["--model.channels=8", "--model.warmup_steps=3", "--model.learning_rate=0.01", "--model.balance=0.5"]
    train("sfx", corpus, tmp_path, 200, *quick, "--data.repeats=20")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("valid/accuracy")[-1].value == 1
    loaded, facts = load_classifier(tmp_path / "last.safetensors")
    assert loaded.config.labels == ("high", "low", "noise")
    assert facts["steps"] == 200
    lines = (corpus / "test.jsonl").read_text().splitlines()
    for row in map(json.loads, lines):
        waveform, _ = read_audio(corpus / row["path"])
        assert loaded.config.labels[loaded(waveform[None]).argmax()] == row["label"]


@pytest.mark.parametrize("recipe", ["sfx", "sc09"])
def test_every_recipe_runs_for_a_step(recipe: str, corpus: Path, tmp_path: Path) -> None:
    train(recipe, corpus, tmp_path, 1, "--data.repeats=1", "--trainer.precision=32-true")
    assert load_classifier(tmp_path / "last.safetensors").facts["steps"] == 1
    given = yaml.safe_load((REPOSITORY / "recipes" / recipe / "classifier.yaml").read_text())["model"]["init_args"]
    config = SoundClassifierConfig(given["sample_rate"], tuple(given["labels"]))
    assert sum(parameter.numel() for parameter in SoundClassifier(config).parameters()) < 400_000


def batch_of(count: int) -> dict[str, Tensor]:
    lengths = torch.tensor([2000 + 500 * index for index in range(count)])
    waveforms = [F.pad(burst(int(n), int(n)), (0, 6000 - int(n))) for n in lengths]
    label = torch.arange(count) % 3
    return {"waveform": torch.cat(waveforms), "length": lengths, "seed": torch.arange(count) + 5, "label": label}


def test_a_batch_gives_the_same_loss_each_time_and_leaves_the_global_generator_alone() -> None:
    module = ClassifierModule(["a", "b", "c"], channels=4).eval()
    before = torch.get_rng_state()
    losses = [module.loss(batch_of(4)).mean.item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), before)
    other = batch_of(4) | {"seed": torch.arange(4) + 50}
    assert module.loss(other).mean.item() != losses[0]


def test_without_variation_the_loss_is_the_cross_entropy() -> None:
    plain = ClipVariation(0.0, (20.0, 60.0), 0.0, 0.0, 0.0, 0.0, 0.0)
    module = ClassifierModule(["a", "b", "c"], channels=4, variation=plain, label_smoothing=0.0).eval()
    batch = batch_of(4)
    expected = -module.classifier(batch["waveform"]).log_softmax(1)[torch.arange(4), batch["label"]].mean()
    assert module.loss(batch).mean.item() == pytest.approx(expected.item(), rel=1e-4)
    module.class_weight.copy_(torch.tensor([2.0, 0.5, 1.0]))
    per_item = -module.classifier(batch["waveform"]).log_softmax(1)[torch.arange(4), batch["label"]]
    weighted = (per_item * torch.tensor([2.0, 0.5, 1.0, 2.0])).mean().item()
    assert module.loss(batch).mean.item() == pytest.approx(weighted, rel=1e-4)


def test_variations_keep_the_padding_silent_and_the_targets_whole() -> None:
    module = ClassifierModule(["a", "b", "c"])
    batch, targets = batch_of(6), F.one_hot(torch.arange(6) % 3, 3).float()
    noise = module.noise(batch)
    loud = ClipVariation(noise_share=1.0, noise_level=(10.0, 10.0), shift=0.0, mix_share=0.0)
    noisy, same = loud.waveforms(batch["waveform"], batch["length"], targets, 22050, noise)
    assert torch.equal(same, targets)
    for clip, length, original in zip(noisy, batch["length"], batch["waveform"], strict=True):
        assert clip[length:].abs().max() == 0
        added = clip[:length] - original[:length] / original.abs().max()
        assert added.std().item() == pytest.approx(10 ** (-10 / 20), rel=0.1)
    mixed = ClipVariation(noise_share=0.0, shift=0.0, mix_share=1.0)
    waveform, soft = mixed.waveforms(batch["waveform"], batch["length"], targets, 22050, noise)
    assert soft.sum(1).tolist() == pytest.approx([1] * 6)
    unit = batch["waveform"] / batch["waveform"].abs().amax(1, keepdim=True)
    share = soft[torch.arange(6), torch.arange(6) % 3][:, None]
    torch.testing.assert_close(waveform, share * unit + (1 - share) * unit.roll(1, 0), rtol=0, atol=1e-6)


def test_masks_silence_no_more_than_their_share_of_the_clip() -> None:
    module = ClassifierModule(["a", "b", "c"])
    batch = batch_of(8) | {"waveform": torch.cat([F.pad(burst(4000, seed), (0, 2000)) for seed in range(8)])}
    features = module.classifier.features(batch["waveform"])
    full = features._replace(bands=features.valid[:, None].expand_as(features.bands).float())
    masked = ClipVariation(band_mask=0.25, time_mask=0.5).features(full, module.noise(batch)).bands
    count = int(full.valid[0].sum())
    frames = (masked.amax(1) > 0).sum(1)
    bands = (masked.amax(2) > 0).sum(1)
    assert ((frames >= count // 2 - 1) & (frames <= count)).all()
    assert ((bands >= 48 - 1) & (bands <= 64)).all()
    assert len(set(frames.tolist())) > 1
    assert len(set(bands.tolist())) > 1


@pytest.mark.parametrize(
    "wrong", [{"noise_share": 2.0}, {"dropout": 1.0}, {"noise_level": (3.0, 1.0)}, {"shift": -1.0}, {"time_mask": -0.1}]
)
def test_variations_out_of_bounds_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"model\.variation"):
        ClipVariation(**wrong)


def test_labels_are_given_or_read(corpus: Path, tmp_path: Path) -> None:
    assert labels_of(["b", "a"]) == ("b", "a")
    for name in ("train.jsonl", "train.safetensors"):
        assert labels_of(str(corpus / name)) == ("high", "low", "noise")
    with pytest.raises(ConfigError, match=r"model\.labels"):
        labels_of("high")
    unlabelled = tmp_path / "m.jsonl"
    rows = [json.loads(line) for line in (corpus / "train.jsonl").read_text().splitlines()]
    del rows[3]["label"]
    unlabelled.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="without a label"):
        labels_of(str(unlabelled))


# The bundled one


def test_the_bundled_classifier_is_small_and_says_how_it_came_about() -> None:
    loaded, facts = load_classifier()
    assert BUNDLED.stat().st_size < 1_000_000
    assert len(loaded.config.labels) == 12
    assert facts["steps"] > 0
    assert facts["train_manifest"]


def test_the_bundled_classifier_knows_sounds_it_was_not_trained_on(data_root: Path) -> None:
    classifier = load_classifier().classifier
    labels = classifier.config.labels
    clips = [clip for clip in ClassFolders(data_root / "sfx").clips() if clip.split == "test"]
    right, noise_right = 0, 0
    for number, clip in enumerate(clips):
        waveform, _ = read_audio(clip.path, classifier.config.sample_rate)
        quiet_and_padded = F.pad(0.05 * waveform, (0, 30_000))
        right += labels[classifier(quiet_and_padded[None]).argmax()] == clip.label
        noise = torch.randn(1, len(waveform), generator=torch.Generator().manual_seed(number))
        noise_right += labels[classifier(noise).argmax()] == clip.label
    assert len(clips) >= 50
    assert right / len(clips) >= 0.85
    assert noise_right / len(clips) < 0.4
