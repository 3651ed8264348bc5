"""wavediff's models in the shape that other libraries expect, so that one line of a pipeline changes.

Each takes a `Vocoder` (by default the bundled one) and the dialect of the host's mels (by default what that host
usually gives), converts as `Vocoder.decode` does, and refuses at once what it could not convert. README.md beside this
file shows each in use.
"""

from wavediff.compat.base import HostVocoder
from wavediff.compat.diffusers import AudioOutput, DiffusersGenerator, DiffusersVocoder
from wavediff.compat.hosts import (
    CoquiVocoder,
    ESPnetVocoder,
    F5TTSVocoder,
    HiFiGANVocoder,
    NeMoVocoder,
    TorchaudioVocoder,
    TransformersVocoder,
    VocosVocoder,
)
from wavediff.compat.speechbrain import SpeechBrainHiFiGAN, SpeechBrainVocoder

__all__ = [
    "AudioOutput",
    "CoquiVocoder",
    "DiffusersGenerator",
    "DiffusersVocoder",
    "ESPnetVocoder",
    "F5TTSVocoder",
    "HiFiGANVocoder",
    "HostVocoder",
    "NeMoVocoder",
    "SpeechBrainHiFiGAN",
    "SpeechBrainVocoder",
    "TorchaudioVocoder",
    "TransformersVocoder",
    "VocosVocoder",
]
