"""What the values of a dialect's mels cannot be, whatever was recorded.

Everything is judged in nepers (natural logarithm of the band magnitude as the dialect reads it), so that one
set of limits serves every dialect. Measured on 92 clips of LJSpeech, LibriTTS, LibriSpeech and VCTK: speech spans
8.7 to 13.6 nepers (up to 24 with digital silence), its loudest value lies 0.5 to 3.2 below `_ceiling`; white noise
at full scale spans at least 2.2.
"""

import functools
import math

import torch
from torch import Tensor

from wavediff.mel.dialects import highest, lowest
from wavediff.mel.spec import MelSpec
from wavediff.mel.transform import analysis_window, compress, filterbank, nepers, stft_scale

# Nepers beyond the floor and the ceiling that are let pass: models that predict mels overshoot (2 is 17 dB).
MARGIN = 2.0
# Over several frames no sound has every value this close to white noise at full scale, or above it ...
_BRIGHT = 1.0
# ... or spans less than this.
_FLAT = 1.5
_SEVERAL_FRAMES = 8
_CACHED = 32  # dialects: more than there are presets


def value_fault(mel: Tensor, spec: MelSpec) -> str:
    """What is impossible about the values of a mel (..., n_mels, frames) in that dialect, or ""."""
    level = nepers(mel, spec)
    if float(level.min()) < math.log(lowest(spec)) - MARGIN:
        return "below its floor"
    if float((level - _ceiling(spec).to(mel.device)).max()) > MARGIN:
        return "louder than a waveform within +-1 can be"
    span = span_of(level)
    # A constant, as some hosts probe with, tells nothing, and a single frame little.
    if span == 0 or mel.shape[-1] < _SEVERAL_FRAMES:
        return ""
    if float((level - _full_scale_noise(spec).to(mel.device)).min()) > -_BRIGHT:
        return "everywhere as loud as noise at full scale"
    if span < _FLAT and float(level.max()) > math.log(lowest(spec)) + MARGIN:  # predicted silence is flat too
        return "flatter than any sound"
    return ""


def padded_frames(mel: Tensor, spec: MelSpec) -> str:
    """What is to be said of frames of a mel (..., n_mels, frames) that no sound has but padding, or "".

    The bands of a frame of sound differ. Those of padding, mostly with zeros, do not, and unless it is about as low as
    the lowest value of the sound it is heard as noise.
    """
    alike, level = mel.amax(-2) == mel.amin(-2), nepers(mel, spec).amin(-2)  # (..., frames)
    if mel.shape[-2] == 1 or not bool(alike.any()):
        return ""
    quiet = math.log(lowest(spec)) if bool(alike.all()) else max(math.log(lowest(spec)), float(level[~alike].min()))
    alike &= level > quiet + MARGIN
    if not bool(alike.any()):
        return ""
    *_, first = alike.nonzero()[0].tolist()
    silence = float(compress(torch.zeros(spec.n_mels, 1, dtype=torch.float32, device=mel.device), spec).min())
    return (
        f"{int(alike.sum())} of {alike.numel()} frames, the first at {first}, have one value in all bands, as padding "
        f"has, and would be noise; leave them out (lengths=), or fill up with silence, {silence:.4g}"
    )


def span_of(level: Tensor) -> float:
    """From the lowest value to the highest."""
    return float(level.max() - level.min())


@functools.lru_cache(maxsize=_CACHED)
def _ceiling(spec: MelSpec) -> Tensor:
    """Per band (n_mels, 1), nepers no waveform within +-1 exceeds: Cauchy-Schwarz on Parseval's theorem."""
    energy = float(analysis_window(spec).square().sum()) * spec.n_fft / 2
    bands = filterbank(spec).norm(dim=1) * stft_scale(spec) * math.sqrt(energy)
    return bands.clamp(lowest(spec), highest(spec)).log().unsqueeze(-1)


@functools.lru_cache(maxsize=_CACHED)
def _full_scale_noise(spec: MelSpec) -> Tensor:
    """Per band (n_mels, 1), nepers of white noise with power 1."""
    bands = filterbank(spec).sum(1) * stft_scale(spec) * float(analysis_window(spec).square().sum().sqrt())
    return bands.clamp(lowest(spec), highest(spec)).log().unsqueeze(-1)
