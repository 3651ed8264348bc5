"""The bundled generator: gates on what it must not lose, judged by the bundled classifier."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavediff import Generator
from wavediff.audio import read_audio, trim
from wavediff.audio.finish import find_faults
from wavediff.metrics import mr_stft
from wavediff.metrics.classifier import load_classifier
from wavediff.models import WEIGHTS

LABELS = (
    "casino",
    "drum",
    "engine",
    "explosion",
    "footstep",
    "glass",
    "laser",
    "metal",
    "powerup",
    "punch",
    "switch",
    "wood",
)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def sounds(generator: Generator) -> Tensor:
    """Two of each class, as they come."""
    return generator.generate(24, label=[*LABELS, *LABELS], seed=100)


def test_it_is_small_enough_to_come_with_the_package(generator: Generator) -> None:
    assert (WEIGHTS / Generator.bundled).stat().st_size < 20_000_000
    assert generator.classes == LABELS
    assert generator.seconds == pytest.approx(1.486, abs=0.001)


def test_the_classifier_hears_the_classes(sounds: Tensor) -> None:
    """80 % of many; of these few at least two thirds, which by chance would be a twelfth."""
    classifier = load_classifier().classifier
    with torch.inference_mode():
        found = [int(classifier(trim(sound, 22050)[None]).argmax()) for sound in sounds]
    right = sum(index == number % 12 for number, index in enumerate(found))
    assert right >= 16


def test_nothing_is_silent_clipped_off_centre_or_cut(sounds: Tensor) -> None:
    for number, sound in enumerate(sounds):
        assert find_faults(sound) == (), LABELS[number % 12]


def test_seeds_make_different_sounds_of_a_class(generator: Generator) -> None:
    """A model that always makes the same sound would pass every other test."""
    pair = generator.generate(2, label="laser", seed=3)
    assert mr_stft(pair[0], pair[1], 22050) > 0.5
    alone = generator.generate(1, label="laser", seed=4)[0]
    assert (alone - pair[1]).norm() < 0.02 * alone.norm()  # rounding, grown over the steps; small models are tighter


def test_a_short_sound_ends_in_silence(generator: Generator) -> None:
    sound = generator.generate(1, label="switch", seed=1)[0]
    assert sound[-11025:].abs().max() < 10 ** (-50 / 20) < sound.abs().max()


def test_an_engine_loops_without_a_seam(generator: Generator) -> None:
    loop = generator.generate(1, 1.0, "engine", loop=True, seed=2)[0]
    steps = loop.repeat(2).diff().abs()
    assert steps[len(loop) - 1] < 6 * steps.square().mean().sqrt()
    around, elsewhere = loop.repeat(2)[len(loop) - 1102 : len(loop) + 1102].std(), loop.std()
    assert 0.4 < around / elsewhere < 2.5  # neither a gap nor a bump


def test_the_autoencoder_returns_real_sounds(generator: Generator, data_root: Path) -> None:
    """Glass, wood and metal through the latents and back: nearer to the recording than another one is."""
    assert generator.autoencoder is not None
    recordings = [
        read_audio(sorted((data_root / "sfx" / label).glob("*.flac"))[0], 22050)[0][:16384]
        for label in ("glass", "wood", "metal")
    ]
    for index, sound in enumerate(recordings):
        decoded = generator.autoencoder.decode(generator.autoencoder.encode(sound[None]), [0])[0, : len(sound)]
        other = recordings[index - 1]
        length = min(len(sound), len(other))
        assert mr_stft(sound, decoded, 22050) < 0.6 * mr_stft(sound[:length], other[:length], 22050)
