"""Variations of training segments: what they do to a sine, and that they belong to the item."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import RATE, write_clips

from wavediff.backbones.conditioning import VARIATION_FEATURES
from wavediff.data.augment import EQUALISED, Augment, Variation
from wavediff.data.dataset import SegmentDataset
from wavediff.errors import ConfigError

RANGE = Augment(share=1.0, gain=(-12.0, 0.0), speed=(0.9, 1.2), tilt=0.3)


def sine(frequency: float, length: int = 8000) -> torch.Tensor:
    """Frequency in cycles a sample, amplitude 0.1."""
    return 0.1 * torch.sin(2 * math.pi * frequency * torch.arange(length))


def test_by_default_nothing_changes() -> None:
    generator = torch.Generator().manual_seed(0)
    assert all(Augment().draw(generator) == Variation() for _ in range(20))
    x = sine(0.1)
    assert torch.equal(Variation().apply(x, RATE), x)


def test_draws_fill_their_ranges_and_take_their_share() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [Augment(0.5, (-12.0, 0.0), (0.9, 1.2), 0.3).draw(generator) for _ in range(2000)]
    varied = [draw for draw in draws if draw != Variation()]
    assert len(varied) == pytest.approx(1000, abs=100)
    assert {draw.speed for draw in varied} == {18, 19, 20, 21, 22, 23, 24}
    gains = [20 * math.log10(draw.gain) for draw in varied]
    assert -12 <= min(gains) < -11.5 < -0.5 < max(gains) <= 0
    assert max(abs(draw.tilt) for draw in varied) == pytest.approx(0.3, abs=0.01)
    more = [Augment(1.0, stretch=(0.5, 2.0), equaliser=6.0).draw(generator) for _ in range(2000)]
    assert 0.5 <= min(draw.stretch for draw in more) < 0.51 < 1.98 < max(draw.stretch for draw in more) <= 2
    bands = [band for draw in more for band in draw.bands]
    assert -6 <= min(bands) < -5.9 < 5.9 < max(bands) <= 6


@pytest.mark.parametrize("speed", [18, 24])
def test_speed_moves_the_pitch(speed: int) -> None:
    variation = Variation(speed=speed)
    y = variation.apply(sine(0.05, variation.source_length(8000)), RATE)[500:7500]
    assert len(y) == 7000
    found = np.abs(np.fft.rfft(y.numpy() * np.hanning(7000), 70000)).argmax() / 70000
    assert found == pytest.approx(0.05 * speed / 20, rel=1e-3)
    assert y.abs().max().item() == pytest.approx(0.1, rel=1e-2)


@pytest.mark.parametrize("frequency", [0.01, 0.25, 0.45])
def test_tilt_is_the_filter_it_says_it_is(frequency: float) -> None:
    y = Variation(tilt=0.3).apply(sine(frequency), RATE)[100:]
    expected = abs(1 - 0.3 * np.exp(-2j * np.pi * frequency))  # 1 - c z^-1
    assert y.square().mean().sqrt().item() == pytest.approx(0.1 / math.sqrt(2) * expected, rel=2e-3)


@pytest.mark.parametrize("stretch", [0.7, 1.4])
def test_a_stretch_keeps_the_pitch(stretch: float) -> None:
    variation = Variation(stretch=stretch)
    source = sine(0.05, variation.source_length(22050))
    y = variation.apply(source, 22050)
    assert len(y) == pytest.approx(22050, abs=2)
    found = np.abs(np.fft.rfft(y[5000:15000].numpy() * np.hanning(10000), 100_000)).argmax() / 100_000
    assert found == pytest.approx(0.05, rel=2e-3)


@pytest.mark.parametrize("gain", [-6.0, 6.0])
@pytest.mark.parametrize("band", range(len(EQUALISED)))
def test_a_band_of_the_equaliser_changes_its_centre_most(band: int, gain: float) -> None:
    gains = tuple(gain if index == band else 0.0 for index in range(len(EQUALISED)))
    found = []
    for center in EQUALISED:
        y = Variation(bands=gains).apply(sine(center / 22050, 22050), 22050)[8000:]
        found.append(20 * math.log10(y.square().mean().sqrt().item() / (0.1 / math.sqrt(2))))
    assert found[band] == pytest.approx(gain, abs=0.05)
    assert all(abs(other) < abs(gain) / 2 for index, other in enumerate(found) if index != band)


def test_what_is_told_is_nothing_where_nothing_is_varied() -> None:
    assert not Variation(gain=0.5).told().any()
    told = Variation(speed=10, tilt=0.1, stretch=2.0, bands=(5.0, 0.0, -10.0)).told()
    assert told.tolist() == pytest.approx([-1.0, 1.0, 0.1, 0.5, 0.0, -1.0])
    assert len(told) == VARIATION_FEATURES


def test_nothing_is_clipped() -> None:
    loud = Variation(gain=20.0).apply(sine(0.05), RATE)
    assert loud.abs().max().item() == pytest.approx(1.0)
    assert Variation(gain=0.5).apply(sine(0.05), RATE).abs().max().item() == pytest.approx(0.05, rel=1e-3)


def test_a_varied_item_has_its_length_and_depends_on_its_seed_alone(tmp_path: Path) -> None:
    clips = write_clips(tmp_path, 2)
    plain, varied = SegmentDataset(clips, RATE, 300), SegmentDataset(clips, RATE, 300, augment=RANGE)
    for seed in range(30):
        item = varied[0, seed]
        assert item["waveform"].shape == (300,)
        assert item["length"] == 300
        assert torch.equal(item["waveform"], varied[0, seed]["waveform"])
        assert item["variation"].shape == (VARIATION_FEATURES,)
    assert any(not torch.equal(varied[0, seed]["waveform"], plain[0, seed]["waveform"]) for seed in range(3))
    short = SegmentDataset(clips, RATE, 2000, augment=Augment(1.0, speed=(1.2, 1.2)))[0, 0]
    assert short["length"] == 750  # of 900 samples
    assert not short["waveform"][750:].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 2.0},
        {"tilt": 1.0},
        {"gain": (3.0, -3.0)},
        {"speed": (0.1, 1.0)},
        {"gain": (0.0, 90.0)},
        {"stretch": (0.1, 1.0)},
        {"equaliser": -1.0},
    ],
)
def test_impossible_ranges_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="augment"):
        Augment(**wrong)
