"""Back from a mel: the pseudo-inverse against numpy and SciPy, Griffin-Lim by what it must keep."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.optimize
import soundfile as sf
import torch
from mel_references import REFERENCES, reference_bands
from torch import Tensor

from wavediff.mel import PRESETS, MelSpec, MelTransform, pseudo_inverse
from wavediff.mel.griffin_lim import griffin_lim
from wavediff.mel.transform import expand, stft_scale


@pytest.fixture(scope="module")
def speech(ljspeech: Path) -> Tensor:
    """One test clip (1, N) at 22050 Hz."""
    return torch.from_numpy(sf.read(ljspeech / "wavs" / "LJ001-0002.wav", dtype="float32")[0])[None]


@pytest.mark.parametrize("name", ["hifigan", "lmnt-diffwave"])
def test_the_pseudo_inverse_is_the_least_squares_solution_kept_positive(name: str, speech: Tensor) -> None:
    row, spec = REFERENCES[name], PRESETS[name]
    bands = reference_bands(row, 0.5 * speech[0].double().numpy())[:, 40:60]
    filters = librosa.filters.mel(
        sr=row.rate, n_fft=row.n_fft, n_mels=80, fmin=row.f_min, fmax=row.f_max, htk=row.htk, norm=row.norm
    ).astype(np.float64)
    expected = np.maximum(np.linalg.pinv(filters) @ np.maximum(bands, 1e-5), 1e-5)
    magnitude = pseudo_inverse(torch.from_numpy(row.finish(bands)).float()[None], spec)[0].numpy()
    assert magnitude.shape == (513, 20)
    kept = 1e-4 if name != "lmnt-diffwave" else 0.02  # its clip raises the quietest bands
    np.testing.assert_allclose(magnitude, expected, atol=kept * expected.max())


def test_iterating_the_pseudo_inverse_approaches_non_negative_least_squares(speech: Tensor) -> None:
    spec, row = MelSpec(), REFERENCES["hifigan"]
    mel = MelTransform(spec)(speech)[..., 40:44]
    filters = librosa.filters.mel(sr=row.rate, n_fft=1024, n_mels=80, fmin=0, fmax=8000).astype(np.float64)
    bands = mel[0].double().exp().numpy()
    best = np.linalg.norm([scipy.optimize.nnls(filters, frame)[1] for frame in bands.T])
    residuals = [
        np.linalg.norm(filters @ pseudo_inverse(mel, spec, iterations=count)[0].double().numpy() - bands)
        for count in (0, 50)
    ]
    assert best <= residuals[1] < 0.1 * residuals[0]


@pytest.mark.parametrize("name", ["hifigan", "lmnt-diffwave"])
def test_iterations_are_multiplicative_updates_of_all_bins(name: str, speech: Tensor) -> None:
    """Lee and Seung 2001, equation 4, in float64: also of bins that no band reaches, and of a batch."""
    spec, row = PRESETS[name], REFERENCES[name]
    mel = MelTransform(spec)(speech)[..., 40:60]
    filters = librosa.filters.mel(
        sr=row.rate, n_fft=row.n_fft, n_mels=80, fmin=row.f_min, fmax=row.f_max, htk=row.htk, norm=row.norm
    ).astype(np.float64)
    filters *= stft_scale(spec)
    bands = expand(mel, spec)[0].double().numpy()
    magnitude = np.maximum(np.linalg.pinv(filters) @ bands, 1e-5)
    for _ in range(5):
        magnitude *= filters.T @ bands / np.maximum(filters.T @ (filters @ magnitude), 1e-30)
    ours = pseudo_inverse(torch.cat([mel, mel + 1]), spec, iterations=5)
    assert ours.shape == (2, 513, 20)
    np.testing.assert_allclose(ours[0].double().numpy(), np.maximum(magnitude, 1e-5), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_griffin_lim_gives_a_hop_of_samples_per_frame(name: str) -> None:
    spec = PRESETS[name]
    for frames in (1, 7):
        mel = MelTransform(spec)(torch.zeros(1, 8 * spec.hop_length))[..., :frames]
        assert griffin_lim(mel, spec, n_iter=1).shape == (1, frames * spec.hop_length)  # fault 30


@pytest.mark.parametrize("name", ["hifigan", "tacotron2"])
def test_griffin_lim_puts_the_sound_where_the_framing_says(name: str, speech: Tensor) -> None:
    spec = PRESETS[name]
    transform = MelTransform(spec)
    mel = transform(speech)
    waveform = griffin_lim(mel, spec, n_iter=12)

    def distance(offset: int) -> float:
        moved = torch.roll(waveform, offset, dims=-1)
        return float((transform(moved)[..., : mel.shape[-1]] - mel)[..., 4:-4].abs().mean())

    assert distance(0) < 0.25
    assert distance(0) < min(distance(-64), distance(64))


def test_griffin_lim_is_seeded_and_leaves_the_global_generator_alone(speech: Tensor) -> None:
    spec = MelSpec()
    mel = MelTransform(spec)(speech[:, :12000].reshape(2, 6000))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batch = griffin_lim(mel, spec, n_iter=2, seed=5)
    assert torch.equal(torch.get_rng_state(), before)  # fault 66
    singles = torch.cat([griffin_lim(item[None], spec, n_iter=2, seed=5) for item in mel])
    torch.testing.assert_close(batch, singles, atol=1e-5, rtol=0)  # fault 67
    assert not torch.equal(batch, griffin_lim(mel, spec, n_iter=2, seed=6))


def test_griffin_lim_gives_several_threads_what_it_gives_one() -> None:
    spec = MelSpec()
    mel = torch.full((1, 80, 4), -5.0)
    expected, interval = griffin_lim(mel, spec, n_iter=1, seed=5), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: griffin_lim(mel, spec, n_iter=1, seed=5), range(200)))
    finally:
        sys.setswitchinterval(interval)
    assert all(torch.equal(each, expected) for each in found)
