"""Vocos's three calls, and what F5-TTS makes of them."""

from typing import Any

import torch
from torch import Tensor

from wavediff.arguments import Values, as_waveform
from wavediff.compat.base import HostVocoder
from wavediff.mel import MelTransform


class VocosVocoder(HostVocoder):
    """In the place of `Vocos`: decode, forward for copy synthesis, feature_extractor."""

    dialect = "vocos-24k"

    def feature_extractor(self, audio: Values, **kwargs: Any) -> Tensor:
        """The mel of recordings at `sample_rate`, in the host's dialect: (N,) or (B, N) -> (B, n_mels, frames)

        Keywords, which Vocos has for its models of codec tokens, are not used.
        """
        samples = as_waveform(audio, "audio")
        transform = MelTransform(self.mel_spec).to(self.vocoder.device)
        with torch.no_grad():
            return transform(samples.reshape(-1, samples.shape[-1]).to(self.vocoder.device, torch.float32))

    def decode(self, features_input: Values, **kwargs: Any) -> Tensor:
        """(B, n_mels, frames) -> (B, N); keywords are not used, as in `feature_extractor`."""
        return self.speech(features_input)

    def forward(self, audio_input: Values, **kwargs: Any) -> Tensor:
        """Copy synthesis: (B, N) -> (B, N')"""
        return self.decode(self.feature_extractor(audio_input))


class F5TTSVocoder(VocosVocoder):
    """In the place of what F5-TTS's `load_vocoder` returns: decode(mel (B, n_mels, frames)) -> (B, N)."""

    dialect = "f5-tts"
