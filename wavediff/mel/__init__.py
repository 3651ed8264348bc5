"""Mel spectrograms: the one door.

`MelSpec` says what the numbers mean, `MelTransform` computes them from a waveform and `pseudo_inverse` goes back to
a linear magnitude; `convert` takes one dialect to another where that loses nothing; `check_mel` refuses what a
model could not use, and `diagnose` says what it looks like;
`read_mel`, `read_mel_pieces` and `write_mel` keep mels in files.
"""

from wavediff.mel.check import check_mel, checked_mel, in_dialect, in_dialect_pieces
from wavediff.mel.dialects import Conversion, can_convert, convert
from wavediff.mel.identify import Advice, Diagnosis, advise, diagnose, likely_dialects
from wavediff.mel.mel_files import MelInfo, read_mel, read_mel_info, read_mel_pieces, write_mel
from wavediff.mel.spec import PRESETS, MelSpec
from wavediff.mel.stft import FrameSTFT, SpectralEnvelope, pseudo_inverse
from wavediff.mel.transform import MelTransform

__all__ = [
    "PRESETS",
    "Advice",
    "Conversion",
    "Diagnosis",
    "FrameSTFT",
    "MelInfo",
    "MelSpec",
    "MelTransform",
    "SpectralEnvelope",
    "advise",
    "can_convert",
    "check_mel",
    "checked_mel",
    "convert",
    "diagnose",
    "in_dialect",
    "in_dialect_pieces",
    "likely_dialects",
    "pseudo_inverse",
    "read_mel",
    "read_mel_info",
    "read_mel_pieces",
    "write_mel",
]
