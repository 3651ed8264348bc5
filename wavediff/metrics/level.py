"""Faults one hears without a reference spectrum: hiss in silence, DC offset, peak, clipping."""

import math

from torch import Tensor

from wavediff.metrics.signals import of_pair, of_synthesised

SILENCE_FRAME = 0.02  # [s]
SILENCE_LEVEL = -60.0  # [dBFS]
LOWEST_LEVEL = -120.0  # [dBFS], so that digital silence has a figure
FULL_SCALE = 32767 / 32768  # the largest 16-bit sample


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
