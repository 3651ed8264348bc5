"""Whether the melody survives: F0 error in cents and voicing decisions, both from one pYIN track per signal."""

import functools

import numpy as np
from torch import Tensor

from wavediff.arguments import Values, check_sample_rate
from wavediff.audio import resample
from wavediff.metrics.signals import as_signal, of_pair

F0_MIN, F0_MAX = 65.0, 500.0  # [Hz]
PITCH_RATE = 16_000  # [Hz]
FRAME_LENGTH, HOP_LENGTH = 1024, 160  # [samples] at PITCH_RATE: 64 ms every 10 ms


def pitch_track(waveform: Values, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """F0 [Hz] (NaN where unvoiced) and the voicing decision, each (frames,), every 10 ms.

    pYIN (Mauch and Dixon 2014) of librosa, 65 to 500 Hz in steps of a tenth of a semitone, at 16 kHz.

    Raises:
        AudioError: the waveform is not (N,) of finite floats, or the rate is none.
    """
    samples = resample(as_signal(waveform, "waveform"), check_sample_rate(sample_rate), PITCH_RATE)
    return _pitch_track(samples.numpy().tobytes())


# Both figures below need both tracks, and pYIN takes longer than all the rest together.
@functools.lru_cache(maxsize=2)
def _pitch_track(samples: bytes) -> tuple[np.ndarray, np.ndarray]:
    import librosa

    f0, voiced, _ = librosa.pyin(
        np.frombuffer(samples, dtype=np.float32),
        fmin=F0_MIN,
        fmax=F0_MAX,
        sr=PITCH_RATE,
        frame_length=FRAME_LENGTH,
        hop_length=HOP_LENGTH,
    )
    return f0, voiced


@of_pair
def f0_rmse(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """Root mean square of 1200 * log2(F0_syn / F0_ref) over the frames voiced in both, in cents.

    Args:
        reference: waveform (N,).
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        Cents (100 are a semitone), on a grid of 10; None where no frame is voiced in both. See `pitch_track`.
    """
    f0_reference, voiced_reference = pitch_track(reference, sample_rate)
    f0_synthesised, voiced_synthesised = pitch_track(synthesised, sample_rate)
    both = voiced_reference & voiced_synthesised
    if not both.any():
        return None
    cents = 1200 * np.log2(f0_synthesised[both] / f0_reference[both])
    return float(np.sqrt(np.mean(cents**2)))


@of_pair
def voicing_error(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float:
    """Share of frames voiced in one signal and unvoiced in the other, in % of all frames. See `pitch_track`."""
    _, voiced_reference = pitch_track(reference, sample_rate)
    _, voiced_synthesised = pitch_track(synthesised, sample_rate)
    return 100.0 * float(np.mean(voiced_reference != voiced_synthesised))
