"""Models of a listener: STOI and wide-band PESQ, from the `eval` extra."""

import math
import warnings

import torch
from torch import Tensor

from wavediff.audio import resample
from wavediff.errors import MissingExtraError
from wavediff.metrics.signals import of_pair

PESQ_RATE = 16_000  # [Hz]
# The ITU's code keeps 50 utterances of at least 0.2 s with pauses of at least 0.2 s, and writes past its
# tables at the 51st: 20 s cannot hold so many.
PESQ_SECONDS = 20
PESQ_LOWEST = 1.0


@of_pair
def stoi(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """Short-time objective intelligibility, about 0 to 1, higher is better.

    Computed by pystoi, which resamples to its own 10 kHz.

    Args:
        reference: waveform (N,).
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        The classical (not the extended) STOI; None where the reference holds less than 0.4 s of sound.

    Raises:
        MissingExtraError: pystoi is not installed.

    Source: Taal et al. 2010, A short-time objective intelligibility measure.
    """
    try:
        import pystoi
    except ImportError as error:
        raise MissingExtraError("pystoi", "eval", "the STOI metric") from error
    if not reference.any():
        return None
    with warnings.catch_warnings():
        # pystoi warns and returns 1e-5 where it has too few frames: no figure is better than that one.
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(reference.double().numpy(), synthesised.double().numpy(), sample_rate))
        except RuntimeWarning:
            return None


@of_pair
def pesq(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """Wide-band PESQ (MOS-LQO, 1.0 to 4.64), higher is better.

    Both signals are resampled to 16 kHz. Signals longer than 20 s are cut into equal pieces of at most that
    length, and the mean over the pieces is returned.

    Args:
        reference: waveform (N,).
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        MOS-LQO, 1.0 for digital silence in place of sound; None where the reference holds no speech or is shorter
        than 0.25 s.

    Raises:
        MissingExtraError: pesq is not installed.

    Source: ITU-T P.862.2 (2007), as packaged in pesq 0.0.4.
    """
    try:
        import pesq as itu
    except ImportError as error:
        raise MissingExtraError("pesq", "eval", "the PESQ metric") from error
    ours = resample(reference, sample_rate, PESQ_RATE)
    theirs = resample(synthesised, sample_rate, PESQ_RATE)
    pieces = math.ceil(len(ours) / (PESQ_SECONDS * PESQ_RATE))
    scores = []
    for one, other in zip(torch.tensor_split(ours, pieces), torch.tensor_split(theirs, pieces), strict=True):
        # The ITU's code divides by the level it finds.
        if not one.any():
            continue
        if not other.any():
            scores.append(PESQ_LOWEST)
            continue
        try:
            scores.append(float(itu.pesq(PESQ_RATE, one.numpy(), other.numpy(), "wb")))
        except (itu.NoUtterancesError, itu.BufferTooShortError):
            continue
    return sum(scores) / len(scores) if scores else None
