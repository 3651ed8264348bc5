"""The mel dialects a second time: by librosa and numpy in float64, from what their projects' own sources state."""

import dataclasses
import math
from collections.abc import Callable

import librosa
import numpy as np
import scipy.signal

LN10 = math.log(10)


@dataclasses.dataclass
class Reference:
    """One row of the dialects, as their projects' own sources state it."""

    rate: int
    n_fft: int
    win: int
    hop: int
    framing: str  # "center", "hifigan" or "nemo"
    bands: int
    f_min: float
    f_max: float
    htk: bool
    norm: str | None
    finish: Callable[[np.ndarray], np.ndarray]
    per_neper: float  # how far a value moves when the magnitude grows by a factor e


def ln(floor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.log(np.maximum(x, floor))


def log10(x: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(x, 1e-10))


def coqui_default(x: np.ndarray) -> np.ndarray:
    level = 20 * np.log10(np.maximum(x, 1e-8)) - 20
    return np.clip(8 * (level + 100) / 100 - 4, -4, 4)


def lmnt(x: np.ndarray) -> np.ndarray:
    level = 20 * np.log10(np.maximum(x / np.sqrt(384), 1e-5)) - 20  # 384 = sum of the squared window
    return np.clip((level + 100) / 100, 0, 1)


A = (22050, 1024, 1024, 256)
H = (24000, 1024, 1024, 256)
REFERENCES = {
    "hifigan": Reference(*A, "hifigan", 80, 0, 8000, False, "slaney", ln(1e-5), 1),
    "tacotron2": Reference(*A, "center", 80, 0, 8000, False, "slaney", ln(1e-5), 1),
    "torchaudio-wavernn": Reference(22050, 2048, 1100, 275, "center", 80, 40, 11025, False, "slaney", ln(1e-5), 1),
    "coqui": Reference(*A, "center", 80, 0, 8000, False, "slaney", ln(1e-8), 1),
    "coqui-default": Reference(*A, "center", 80, 0, 11025, False, "slaney", coqui_default, 1.6 / LN10),
    "lmnt-diffwave": Reference(*A, "center", 80, 20, 11025, True, None, lmnt, 0.2 / LN10),
    "espnet": Reference(*A, "center", 80, 80, 7600, False, "slaney", log10, 1 / LN10),
    "parallel-wavegan-24k": Reference(24000, 2048, 1200, 300, "center", 80, 80, 7600, False, "slaney", log10, 1 / LN10),
    "speecht5": Reference(16000, 1024, 1024, 256, "center", 80, 80, 7600, False, "slaney", log10, 1 / LN10),
    "vocos-24k": Reference(*H, "center", 100, 0, 12000, True, None, ln(1e-7), 1),
    "f5-tts": Reference(*H, "center", 100, 0, 12000, True, None, ln(1e-5), 1),
    "bigvgan-24k": Reference(*H, "hifigan", 100, 0, 12000, False, "slaney", ln(1e-5), 1),
    "nemo-hifigan": Reference(*A, "nemo", 80, 0, 8000, False, "slaney", ln(1e-5), 1),
    "cosyvoice2": Reference(24000, 1920, 1920, 480, "hifigan", 80, 0, 8000, False, "slaney", ln(1e-5), 1),
    "cosyvoice3": Reference(24000, 1920, 1920, 480, "hifigan", 80, 0, 12000, False, "slaney", ln(1e-5), 1),
}


def reference_bands(row: Reference, waveform: np.ndarray) -> np.ndarray:
    """Linear band magnitudes in float64, by librosa."""
    window = scipy.signal.get_window("hann", row.win, fftbins=row.framing != "nemo")
    if row.framing != "center":
        pad = (row.n_fft - row.hop) // 2
        waveform = np.pad(waveform, pad, mode="reflect" if row.framing == "hifigan" else "constant")
    spectrum = librosa.stft(
        waveform,
        n_fft=row.n_fft,
        hop_length=row.hop,
        win_length=row.win,
        window=window,
        center=row.framing == "center",
        pad_mode="reflect",
    )
    eps = 1e-9 if row.framing == "hifigan" else 0.0
    filters = librosa.filters.mel(
        sr=row.rate,
        n_fft=row.n_fft,
        n_mels=row.bands,
        fmin=row.f_min,
        fmax=row.f_max,
        htk=row.htk,
        norm=row.norm,
        dtype=np.float64,
    )
    return filters @ np.sqrt(np.abs(spectrum) ** 2 + eps)
