"""Levels: hiss in silence, DC offset, peak, clipping; and of the band above 8 kHz, where many mels say nothing."""

import math

import numpy as np
import torch
from torch import Tensor

from wavediff.audio.finish import FULL_SCALE
from wavediff.errors import AudioError
from wavediff.metrics.pitch import HOP_LENGTH, PITCH_RATE, pitch_track
from wavediff.metrics.signals import of_pair, of_synthesised

SILENCE_FRAME = 0.02  # [s]
SILENCE_LEVEL = -60.0  # [dBFS]
LOWEST_LEVEL = -120.0  # [dBFS], so that digital silence has a figure


def _dbfs(mean_square: float) -> float:
    return max(10 * math.log10(mean_square), LOWEST_LEVEL) if mean_square > 0 else LOWEST_LEVEL


@of_pair
def noise_floor(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """Level of the synthesised signal where the reference is silent, in dBFS.

    20 log10 of the synthesised signal's RMS over all 20 ms frames in which the reference's RMS is below
    -60 dBFS; 0 dBFS is an RMS of 1.

    Args:
        reference: waveform (N,), full scale 1.
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        dBFS, not below -120; None where the reference has no silent frame.
    """
    frame = round(SILENCE_FRAME * sample_rate)
    frames = len(reference) // frame
    ours = reference[: frames * frame].double().view(frames, frame).square().mean(1)  # (frames,)
    theirs = synthesised[: frames * frame].double().view(frames, frame).square().mean(1)
    silent = ours < 10 ** (SILENCE_LEVEL / 10)
    return _dbfs(theirs[silent].mean().item()) if silent.any() else None


@of_synthesised
def dc_offset(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float:
    """|mean| of the synthesised signal, in parts of full scale."""
    return abs(synthesised.double().mean().item())


@of_synthesised
def peak(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float:
    """Largest |sample| of the synthesised signal, in parts of full scale."""
    return synthesised.abs().max().item()


@of_synthesised
def clipped(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float:
    """Number of synthesised samples at or beyond the largest 16-bit value, 32767 / 32768."""
    return float((synthesised.abs() >= FULL_SCALE).sum().item())


BAND_START = 8000.0  # [Hz]
LOWEST_RATE = 22_050  # [Hz]
WINDOW_SECONDS = 0.025
POWER_FLOOR = 1e-12  # of the band; a full-scale sine has 0.25


@of_pair
def high_band_voiced(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """Error of the log power above 8 kHz in the reference's voiced frames, in dB.

    The figure is the mean of 10 log10 P_Y - 10 log10 P_X over the frames. P_X and P_Y are the powers of the reference
    and of the synthesised signal in all bins from 8 kHz to half of the sample rate (Hann window of 25 ms, every 10 ms).
    The voicing is the reference's, see `pitch_track`. Frames in which the reference's RMS is below -60 dBFS are left
    out.

    Powers are added up before the logarithm: a mean of logarithms over bins would not notice what a smooth signal lacks
    in the peaks.

    Args:
        reference: waveform (N,), full scale 1.
        synthesised: waveform (N,).
        sample_rate: [Hz], at least 22,050.

    Returns:
        dB, negative where the synthesised signal is too soft; None where there is no such frame.

    Raises:
        AudioError: `sample_rate` is below 22,050 Hz.
    """
    return _error(reference, synthesised, sample_rate, voiced=True)


@of_pair
def high_band_unvoiced(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """As `high_band_voiced`, in the frames that are neither voiced nor silent, such as fricatives."""
    return _error(reference, synthesised, sample_rate, voiced=False)


def _error(reference: Tensor, synthesised: Tensor, sample_rate: int, *, voiced: bool) -> float | None:
    if sample_rate < LOWEST_RATE:
        raise AudioError(
            f"sample_rate: {sample_rate} Hz leaves too little above 8 kHz for high_band_voiced and high_band_unvoiced; "
            f"compare recordings of at least {LOWEST_RATE} Hz, or leave these metrics out"
        )
    _, decisions = pitch_track(reference, sample_rate)
    ours, theirs = (_frames(waveform, sample_rate, len(decisions)) for waveform in (reference, synthesised))
    loud = ours.square().mean(1) >= 10 ** (SILENCE_LEVEL / 10)
    chosen = loud & torch.from_numpy(np.asarray(decisions) == voiced)
    if not chosen.any():
        return None
    return (_log_power(theirs[chosen], sample_rate) - _log_power(ours[chosen], sample_rate)).mean().item()


def _frames(waveform: Tensor, sample_rate: int, count: int) -> Tensor:
    """(count, 25 ms): frame k is centred at k * 10 ms, as those of `pitch_track` are; zeros beyond the ends."""
    length = round(WINDOW_SECONDS * sample_rate)
    starts = (
        (torch.arange(count, dtype=torch.float64, device="cpu") * (HOP_LENGTH / PITCH_RATE * sample_rate))
        .round()
        .long()
    )
    beyond = max(0, int(starts[-1]) + length - length // 2 - len(waveform))
    padded = torch.nn.functional.pad(waveform.double(), (length // 2, beyond))
    return padded[starts[:, None] + torch.arange(length, device="cpu")]


def _log_power(frames: Tensor, sample_rate: int) -> Tensor:
    """10 log10 of the power of all bins from 8 kHz on, (frames,) in dB."""
    length = frames.shape[1]
    window = torch.hann_window(length, dtype=frames.dtype, device=frames.device)
    power = (torch.fft.rfft(frames * window) / window.sum()).abs().square()
    band = power[:, torch.fft.rfftfreq(length, 1 / sample_rate, dtype=torch.float32, device="cpu") >= BAND_START].sum(1)
    return 10 * band.clamp(min=POWER_FLOOR).log10()
