"""The frame-synchronous STFT, the spectral envelope and the search for a phase."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from wavediff.audio import read_audio
from wavediff.cli.demo import CLIP
from wavediff.errors import ConfigError
from wavediff.mel import PRESETS, FrameSTFT, MelSpec, MelTransform, SpectralEnvelope, pseudo_inverse
from wavediff.mel.griffin_lim import (
    PhaseInBlocks,
    find_phase,
    look_ahead,
    phase_in_blocks,
)
from wavediff.mel.phases import MAX_OCTAVES, iterations_of_rates, lower_rates

SPEC = MelSpec()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def speech(ljspeech: Path) -> Tensor:
    """(1, N), whole frames of one test clip."""
    waveform, _ = read_audio(ljspeech / "wavs" / "LJ001-0002.wav")
    return waveform[None, : len(waveform) // 256 * 256]


@pytest.mark.parametrize("name", [name for name, spec in PRESETS.items() if 2 * spec.hop_length <= spec.win_length])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_synthesis_undoes_analysis_in_every_dialect_and_for_the_shortest_signals(name: str, frames: int) -> None:
    stft = FrameSTFT(PRESETS[name])
    torch.manual_seed(0)
    x = torch.randn(2, frames * stft.hop_length)
    spectrum = stft.analysis(x)
    assert spectrum.shape == (2, frames, stft.n_fft // 2 + 1)
    torch.testing.assert_close(stft.synthesis(spectrum), x, atol=2e-5, rtol=0)


@pytest.mark.parametrize("framing", ["same", "center"])
def test_a_frame_is_librosas_frame_of_the_dialects_moment(framing: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 20 * 256)
    ours = FrameSTFT(MelSpec(framing=framing)).analysis(x)[0].T.numpy()
    padded = np.pad(x[0].numpy(), (384 if framing == "same" else 512, 1024))
    theirs = librosa.stft(padded, n_fft=1024, hop_length=256, window="hann", center=False)[:, :20]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_windows_that_hardly_overlap_are_refused() -> None:
    with pytest.raises(ConfigError, match="half of win_length"):
        FrameSTFT(MelSpec(hop_length=600))


def test_what_sampling_leaves_behind_does_not_stop_training() -> None:
    stft = FrameSTFT(SPEC)
    with torch.inference_mode():
        stft.synthesis(stft.analysis(torch.randn(1, 1024)))
    x = torch.randn(1, 1024, requires_grad=True)
    stft.synthesis(stft.analysis(x)).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x), atol=1e-4, rtol=0)


def test_the_envelope_of_white_noise_is_its_level() -> None:
    """A signal whose spectrum is known: E |X|^2 = sigma^2 sum w^2 in every bin."""
    torch.manual_seed(0)
    sigma = 0.05
    mel = MelTransform(SPEC)(sigma * torch.randn(1, 256 * 400))
    envelope = SpectralEnvelope(SPEC, power=1.0)(mel)
    expected = sigma * FrameSTFT(SPEC).noise_level
    inner = envelope[:, 5:-5, 8:]  # the lowest band hears fewer bins
    # Bands sum magnitudes, whose mean is sqrt(pi) / 2 of their root mean square.
    assert inner.mean().item() == pytest.approx(expected * np.sqrt(np.pi) / 2, rel=0.05)
    assert inner.std() < 0.15 * inner.mean()


def test_the_envelope_follows_gain_by_its_power_and_is_flat_above_the_mel(speech: Tensor) -> None:
    transform = MelTransform(SPEC)
    loud = transform(speech)[..., 40:80]
    quiet = transform(0.5 * speech)[..., 40:80]
    for power in (0.0, 0.5, 1.0):
        envelope = SpectralEnvelope(SPEC, power=power)
        ratio = envelope(loud) / envelope(quiet)
        assert ratio.median().item() == pytest.approx(2**power, rel=1e-3)
    top = envelope(loud)[..., 380:]
    torch.testing.assert_close(top, top[..., :1].expand_as(top))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bands": 4}, "bands: 4 .* must be odd"),
        ({"frames": 0}, "frames: 0 is not"),
        ({"power": 1.5}, "power: 1.5 is not"),
    ],
)
def test_an_envelope_out_of_bounds_is_refused(wrong: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SpectralEnvelope(SPEC, **wrong)


def test_a_phase_is_found_as_well_as_librosa_finds_it(speech: Tensor) -> None:
    """Same magnitudes, same number of iterations: as consistent a spectrogram as an independent implementation's."""
    magnitude = FrameSTFT(SPEC).analysis(speech).abs()
    stft = FrameSTFT(SPEC)

    def inconsistency(waveform: Tensor) -> float:
        n = min(waveform.shape[-1], speech.shape[-1])
        found = stft.analysis(torch.nn.functional.pad(waveform, (0, speech.shape[-1] - n))).abs()
        return (torch.linalg.norm(found - magnitude) / torch.linalg.norm(magnitude)).item()

    torch.manual_seed(0)
    ours = inconsistency(find_phase(magnitude, stft.analysis(torch.randn_like(speech)), [stft], 32))
    # librosa centres frame k on sample 256 k: half a hop later it sees the same frames, but for the edges.
    theirs = librosa.griffinlim(magnitude[0].T.numpy(), n_iter=32, hop_length=256, random_state=0, momentum=0.99)
    shifted = torch.from_numpy(np.pad(theirs, (128, 0)))[None, : speech.shape[-1]]
    assert ours < 1.1 * inconsistency(shifted)
    # More iterations come closer, and the right phase is a fixed point.
    assert ours < 0.8 * inconsistency(find_phase(magnitude, stft.analysis(torch.randn_like(speech)), [stft], 4))
    torch.testing.assert_close(find_phase(magnitude, stft.analysis(speech), [stft], 3), speech, atol=1e-3, rtol=0)


@pytest.mark.parametrize("framing", ["same", "center"])
def test_a_lower_rate_has_the_first_bins_of_a_low_signal(framing: str) -> None:
    """A signal below the lower half of the band, every second or fourth sample of it, in an FFT as much shorter."""
    spec = MelSpec(framing=framing)
    time = torch.arange(40 * 256)
    waveform = sum(torch.sin(2 * torch.pi * hertz / 22_050 * time + hertz) for hertz in (120.0, 700.0, 1900.0))
    full = FrameSTFT(spec).analysis(waveform[None])
    quarter, half = lower_rates(spec, 2)
    for rate, divisor in ((quarter, 4), (half, 2)):
        found = divisor * rate.analysis(waveform[None, ::divisor])
        assert found.shape[:2] == full.shape[:2]
        inner = slice(4, -4)  # beyond an end lie zeros: a step, which has all frequencies
        torch.testing.assert_close(found[:, inner], full[:, inner, : found.shape[2]], atol=0.1, rtol=0)  # peaks: 256


def test_lengths_that_no_lower_rate_divides_keep_the_full_one() -> None:
    def hops(hop_length: int, framing: str) -> list[int]:
        spec = MelSpec(hop_length=hop_length, framing=framing)
        return [rate.hop_length for rate in lower_rates(spec, 2)]

    assert hops(275, "center") == [275, 275]
    assert hops(150, "center") == [75, 75]
    assert hops(150, "same") == [150, 150]  # a hop has a middle
    assert hops(200, "same") == [50, 100]


@pytest.mark.parametrize("octaves", range(MAX_OCTAVES + 1))
def test_every_iteration_has_one_rate(octaves: int) -> None:
    for n_iter in (0, 1, 2, 3, 80, 81):
        counts = iterations_of_rates(n_iter, octaves)
        assert len(counts) == octaves + 1
        assert sum(counts) == n_iter
        assert min(counts) >= 0
        assert counts[-1] > 0 or n_iter == 0


def test_iterations_at_lower_rates_find_a_phase_as_well() -> None:
    """In the band that they have, and in all of it; a quarter of the iterations at the full rate alone does not."""
    stft, (waveform, _) = FrameSTFT(SPEC), read_audio(CLIP)
    speech = waveform[None, : 200 * SPEC.hop_length]
    magnitude, start = stft.analysis(speech).abs(), torch.randn(speech.shape, generator=seeded(0))

    def inconsistency(rates: list[FrameSTFT], n_iter: int, bins: int) -> float:
        found = stft.analysis(find_phase(magnitude, stft.analysis(start), rates, n_iter)).abs()[..., :bins]
        return (torch.linalg.norm(found - magnitude[..., :bins]) / torch.linalg.norm(magnitude[..., :bins])).item()

    for bins in (128, 513):
        lower = inconsistency([*lower_rates(SPEC, 2), stft], 80, bins)
        assert lower < 1.3 * inconsistency([stft], 80, bins)
        assert lower < 0.75 * inconsistency([stft], 20, bins)


def test_blocks_find_a_phase_as_well_as_the_whole_does_with_few_iterations(speech: Tensor) -> None:
    stft = FrameSTFT(SPEC)
    magnitude, noise = stft.analysis(speech).abs(), torch.randn(1, speech.shape[1], generator=seeded(0))

    def inconsistency(waveform: Tensor) -> float:
        found = stft.analysis(waveform).abs()
        return (torch.linalg.norm(found - magnitude) / torch.linalg.norm(magnitude)).item()

    blocks = inconsistency(phase_in_blocks(magnitude, noise, stft))
    assert blocks < inconsistency(find_phase(magnitude, stft.analysis(noise), [stft], 16))
    assert blocks > inconsistency(find_phase(magnitude, stft.analysis(noise), [stft], 200))  # or it would be too good


def test_what_is_settled_in_blocks_depends_on_few_frames_after_it(speech: Tensor) -> None:
    stft = FrameSTFT(SPEC)
    magnitude, noise = stft.analysis(speech).abs()[:, :40], torch.randn(1, 40, stft.hop_length, generator=seeded(0))
    whole, other = PhaseInBlocks(stft).push(magnitude, noise, True), magnitude.clone()
    other[:, 27:] = 1.0
    changed = PhaseInBlocks(stft).push(other, noise, True)
    assert whole is not None
    assert changed is not None
    same = (whole == changed).all(2)[0]
    assert same[: 27 - look_ahead(stft)].all()
    assert not same[24:].any()  # the block that holds frame 27, and all after it


def test_an_item_that_ends_early_is_settled_as_if_it_were_alone(speech: Tensor) -> None:
    stft = FrameSTFT(SPEC)
    magnitude, noise = stft.analysis(speech).abs()[:, :30], torch.randn(1, 30, stft.hop_length, generator=seeded(0))
    for length in (1, 3, 18, 25):
        ended = magnitude.clone()
        ended[:, length:] = 0
        padded = PhaseInBlocks(stft).push(ended, noise, True)
        alone = PhaseInBlocks(stft).push(magnitude[:, :length], noise[:, :length], True)
        assert padded is not None
        torch.testing.assert_close(padded[:, :length], alone, atol=1e-4, rtol=0)


def test_a_phase_depends_on_its_own_start_alone(speech: Tensor) -> None:
    stft = FrameSTFT(SPEC)
    magnitude = pseudo_inverse(MelTransform(SPEC)(speech)[..., 20:60], SPEC).transpose(1, 2)
    starts = torch.randn(3, 40 * 256, generator=torch.Generator().manual_seed(0))
    together = find_phase(magnitude.expand(3, -1, -1), stft.analysis(starts), [stft], 5)
    alone = torch.cat([find_phase(magnitude, stft.analysis(start[None]), [stft], 5) for start in starts])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_a_graph_that_is_captured_reads_no_weight_that_another_length_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    stft = FrameSTFT(MelSpec.preset("hifigan"))
    spectrum = stft.analysis(torch.randn(1, 10 * stft.hop_length))
    expected, kept = stft.synthesis(spectrum), stft._last_weight
    monkeypatch.setattr("wavediff.mel.stft.is_captured", lambda device: True)
    assert stft.weight(10) is not kept
    assert torch.equal(stft.synthesis(spectrum), expected)
    stft.synthesis(spectrum[:, :5])
    assert stft._last_weight is kept
