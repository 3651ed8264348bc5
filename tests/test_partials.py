"""First phases that go on from frame to frame: closed forms of steady tones, and real speech."""

import math

import pytest
import torch
from torch import Tensor

from wavediff.audio import read_audio
from wavediff.cli.demo import CLIP
from wavediff.mel import FrameSTFT, MelSpec
from wavediff.mel.griffin_lim import find_phase
from wavediff.mel.phases import TURN, Partials, advance

SPECS = [MelSpec(), MelSpec(hop_length=200, framing="center"), MelSpec(sample_rate=24_000, win_length=800)]
IDS = ["hifigan", "hop of 200", "short window"]


def tones(spec: MelSpec, frames: int) -> tuple[Tensor, tuple[float, ...]]:
    """Two steady partials (1, N), and their frequencies [Hz]."""
    frequencies = (311.3, 1302.0)
    time = torch.arange(frames * spec.hop_length, dtype=torch.float64) / spec.sample_rate
    waves = [level * torch.sin(2 * math.pi * f * time + f) for level, f in zip((1.0, 0.3), frequencies, strict=True)]
    return torch.stack(waves).sum(0).float()[None], frequencies


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex64)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors of phases, in turns."""
    return float(((one - other) / (2 * math.pi)).sub(0.5).remainder(1).sub(0.5).abs().max())


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_steady_tones_go_on_as_they_do(spec: MelSpec) -> None:
    waveform, frequencies = tones(spec, 30)
    stft = FrameSTFT(spec)
    true = stft.analysis(waveform)[:, 4:-4]  # beyond the ends lie zeros
    start = noise(true.shape)
    start[:, 0] = true[:, 0]
    found = Partials(spec).push(true.abs(), start)
    for frequency in frequencies:
        peak = round(frequency / spec.sample_rate * spec.n_fft)
        around = slice(peak - 1, peak + 2)
        # The top of a parabola is off by .02 of a bin at the most, which is .005 turns for each hop.
        assert apart(found.angle()[:, :8, around], true.angle()[:, :8, around]) < 0.05
        step = 2 * math.pi * frequency * spec.hop_length / spec.sample_rate
        assert apart(found.angle()[:, 1:, peak] - found.angle()[:, :-1, peak], torch.tensor(step)) < 0.01


def test_a_glide_is_followed() -> None:
    """From 400 to 600 Hz: with the frequency of one end of each hop, phases would be .8 turns off."""
    spec = MelSpec()
    time = torch.arange(36 * spec.hop_length, dtype=torch.float64) / spec.sample_rate
    rate = 200 / float(time[-1])  # [Hz / s]
    waveform = torch.sin(2 * math.pi * (400 * time + rate * time.square() / 2)).float()[None]
    true = FrameSTFT(spec).analysis(waveform)[:, 4:-4]
    found = Partials(spec).push(true.abs(), true)[:, 20]
    peak = int(true[0, 20].abs().argmax())
    assert apart(found.angle()[:, peak], true[:, 20].angle()[:, peak]) < 0.2


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_phases_are_those_of_a_plain_recursion(spec: MelSpec) -> None:
    magnitude, start = noise((2, 23, spec.n_fft // 2 + 1)).abs(), noise((2, 23, spec.n_fft // 2 + 1), seed=1)
    found, step = Partials(spec).push(magnitude, start), advance(magnitude, spec)[0]
    bins = step.owner.shape[2]
    assert bins == round(2000 / spec.sample_rate * spec.n_fft)
    assert torch.equal(found[..., bins:], start[..., bins:])
    for item in range(2):
        phase = [float(x) % (2 * math.pi) for x in start[item, 0, :bins].angle()]
        for frame in range(1, 23):
            owner, turns = step.owner[item, frame].tolist(), step.turns[item, frame].tolist()
            phase = [phase[owner[k]] + 2 * math.pi * turns[k] / TURN for k in range(bins)]
            assert apart(found[item, frame, :bins].angle(), torch.tensor(phase)) < 1e-3


def test_each_bin_belongs_to_the_peak_that_rises_beside_it() -> None:
    spec = MelSpec()
    magnitude = torch.full((1, 1, 513), 0.1)
    for peak, width in ((5, 3), (20, 6), (60, 9)):
        for k in range(-width, width + 1):
            magnitude[0, 0, peak + k] = 2.0 - 1.9 * abs(k) / (width + 1)
    owner = advance(magnitude, spec)[0].owner[0, 0].tolist()
    assert set(owner[3:8]) == {5}
    assert set(owner[15:26]) == {20}
    assert set(owner[52:69]) == {60}
    assert owner[12] == 12  # level ground goes on for itself


@pytest.mark.parametrize("pieces", [[1] * 40, [7, 1, 32], [40], [2, 38]])
def test_pieces_change_no_bit(pieces: list[int]) -> None:
    spec = MelSpec()
    magnitude, start = noise((2, 40, 513)).abs(), noise((2, 40, 513), seed=1)
    whole, stream = Partials(spec).push(magnitude, start), Partials(spec)
    parts = zip(magnitude.split(pieces, 1), start.split(pieces, 1), strict=True)
    assert torch.equal(torch.cat([stream.push(*part) for part in parts], 1), whole)


def test_speech_needs_fewer_iterations_from_them() -> None:
    """Below 2 kHz; as many iterations as make the same of noise are several times as many."""
    spec, (waveform, _) = MelSpec(), read_audio(CLIP)
    stft, speech = FrameSTFT(spec), waveform[None, : 200 * spec.hop_length]
    magnitude = stft.analysis(speech).abs()
    drawn = stft.analysis(torch.randn(speech.shape, generator=torch.Generator().manual_seed(0)))

    def inconsistency(start: Tensor, n_iter: int) -> float:
        low = magnitude[..., :93]
        found = stft.analysis(find_phase(magnitude, start, [stft], n_iter)).abs()[..., :93]
        return float(torch.linalg.norm(found - low) / torch.linalg.norm(low))

    going_on = Partials(spec).push(magnitude, drawn)
    assert inconsistency(going_on, 4) < inconsistency(drawn, 16)
    assert inconsistency(going_on, 0) < 0.7 * inconsistency(drawn, 0)


def test_silence_stays_finite() -> None:
    found = Partials(MelSpec()).push(torch.zeros(1, 5, 513), torch.zeros(1, 5, 513, dtype=torch.complex64))
    assert torch.view_as_real(found).isfinite().all()
