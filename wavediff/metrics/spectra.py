"""How far apart two spectra are: log-mel L1, multi-resolution STFT distance, mel cepstral distortion."""

import functools
import math

import torch
from torch import Tensor

from wavediff.audio import resample
from wavediff.libraries import require_torchaudio
from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.stft import stft_magnitude
from wavediff.metrics.signals import of_pair

# (n_fft, hop_length, win_length) [samples]
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
CEPSTRA = 13
CEPSTRAL_DECIBELS = 10 * math.sqrt(2) / math.log(10)
# A full warping path is quadratic in memory; 2048 frames are 24 s.
WARPING_BLOCK = 2048


@functools.cache
def _mel_transform() -> MelTransform:
    return MelTransform(MelSpec.preset("hifigan"))


def log_mel(waveform: Tensor, sample_rate: int) -> Tensor:
    """Natural-log mel (80, frames) of a waveform (N,) in the `hifigan` dialect, resampled to 22,050 Hz first.

    Whatever dialect a model was conditioned on, models are compared in this one.
    """
    transform = _mel_transform()
    with torch.inference_mode():
        return transform(resample(waveform, sample_rate, transform.spec.sample_rate)[None])[0]  # (80, frames)


@of_pair
def log_mel_l1(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float:
    """Mean |log m_ref - log m_syn| over 80 bands (0 to 8,000 Hz) and all frames, in nat (natural logarithm).

    Args:
        reference: waveform (N,), full scale 1.
        synthesised: waveform (N,).
        sample_rate: [Hz]; other rates than 22,050 are resampled to it.

    Returns:
        nat, 0 for identical signals; 0.115 nat is 1 dB. Magnitudes are clamped at 1e-5 before the logarithm.

    Source: the mel L1 term of HiFi-GAN (Kong et al. 2020, arXiv 2010.05646, eq. 5).
    """
    return (log_mel(reference, sample_rate) - log_mel(synthesised, sample_rate)).abs().mean().item()


@of_pair
def mr_stft(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float:
    """Multi-resolution STFT distance: mean over three resolutions of spectral convergence + log-magnitude L1.

    With X the reference's and Y the synthesised magnitudes, one resolution gives
    ||X - Y||_F / ||X||_F + mean |ln X - ln Y|; the resolutions are n_fft 1024 / 2048 / 512, hop 120 / 240 / 50
    and window 600 / 1200 / 240 samples at the signal's own rate, so values at different rates do not compare.

    Args:
        reference: waveform (N,), at least 1,025 samples.
        synthesised: waveform (N,).
        sample_rate: [Hz], unused: the resolutions are in samples.

    Returns:
        A number without unit, 0 for identical signals. Not symmetric: the reference's energy normalises.

    Source: Parallel WaveGAN (Yamamoto et al. 2020, arXiv 1910.11480, eq. 3 to 6), with its three resolutions.
    """
    total = 0.0
    for resolution in STFT_RESOLUTIONS:
        X = stft_magnitude(reference, *resolution)  # (n_fft // 2 + 1, frames)
        Y = stft_magnitude(synthesised, *resolution)
        convergence = torch.linalg.vector_norm(X - Y) / torch.linalg.vector_norm(X)
        total += (convergence + (X.log() - Y.log()).abs().mean()).item()
    return total / len(STFT_RESOLUTIONS)


def mel_cepstra(log_mels: Tensor) -> Tensor:
    """c_1 .. c_13 (13, frames): orthonormal DCT-II over the bands of natural-log mels (n_mels, frames).

    c_0, the overall level, is left out.
    """
    require_torchaudio()
    from torchaudio.functional import create_dct

    with torch.device(log_mels.device):  # torchaudio takes the default device and type
        basis = create_dct(CEPSTRA + 1, log_mels.shape[0], norm="ortho").to(log_mels.dtype)  # (n_mels, 14)
    return (log_mels.T @ basis)[:, 1:].T


def cepstral_distortion(reference: Tensor, synthesised: Tensor) -> float:
    """The mel cepstral distortion of `mcd` in dB, from natural-log mels (n_mels, frames) of equally many frames."""
    from librosa.sequence import dtw

    blocks = zip(
        mel_cepstra(reference).split(WARPING_BLOCK, dim=1),
        mel_cepstra(synthesised).split(WARPING_BLOCK, dim=1),
        strict=True,
    )
    distance, steps = 0.0, 0
    for ours, theirs in blocks:
        cost, path = dtw(ours.numpy(), theirs.numpy(), metric="euclidean")
        distance += float(cost[-1, -1])
        steps += len(path)
    return CEPSTRAL_DECIBELS * distance / steps


@of_pair
def mcd(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float:
    """Mel cepstral distortion after dynamic time warping, in dB.

    MCD = 10 / ln 10 * mean over the warping path of sqrt(2 * sum_{m=1..13} (c_m - c'_m)^2), where c_m are the
    orthonormal DCT-II coefficients 1 to 13 of the 80-band natural-log *amplitude* mels of `log_mel` (hop 256 at
    22,050 Hz). The path minimises the summed Euclidean distance, with steps (1, 1), (1, 0), (0, 1), within
    consecutive blocks of 24 s; the mean is over the path's steps.

    Args:
        reference: waveform (N,), full scale 1.
        synthesised: waveform (N,).
        sample_rate: [Hz]; other rates than 22,050 are resampled to it.

    Returns:
        dB, 0 for identical signals; independent of a gain that keeps the mels above their floor. MCDs from
        other cepstra (WORLD or SPTK envelopes, power mels, other orders) have other scales and do not compare.
        Times sqrt(2 / 80) = 0.158, it is the RMS difference in dB between the cepstrally smoothed mel spectra.

    Source: Kubichek 1993 (doi 10.1109/PACRIM.1993.407206) for the constant; 13 MFCCs of 80-band log mels with
    warping as in Weiss et al. 2021 (arXiv 2011.03568), there without the constant.
    """
    return cepstral_distortion(log_mel(reference, sample_rate), log_mel(synthesised, sample_rate))
