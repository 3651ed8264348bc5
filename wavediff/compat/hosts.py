"""Hosts with a few calls: Coqui TTS, HiFi-GAN's scripts, NeMo, ESPnet, torchaudio, transformers, Vocos, F5-TTS."""

import os
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torchaudio.pipelines import Tacotron2TTSBundle

from wavediff.arguments import Values, as_waveform
from wavediff.compat.base import HostVocoder
from wavediff.errors import MelError
from wavediff.mel import MelTransform
from wavediff.mel.transform import as_mel
from wavediff.pipelines.vocoder import Vocoder


class HiFiGANVocoder(HostVocoder):
    """In the place of HiFi-GAN's `Generator(h)`: `y = generator(x)`; so do BigVGAN, Matcha-TTS and Grad-TTS.

    BigVGAN at 24 kHz needs a vocoder of its dialect and `mel_spec="bigvgan-24k"`.
    """

    dialect = "hifigan"

    def forward(self, x: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        mel = as_mel(x)
        return self.speech(mel if mel.ndim == 3 else mel[None])[:, None]

    def remove_weight_norm(self) -> None:
        """Nothing to remove; scripts call it after loading."""


class NeMoVocoder(HostVocoder):
    """In the place of NeMo's `HifiGanModel`, behind a `SpectrogramGenerator`."""

    dialect = "nemo-hifigan"

    def forward(self, *, spec: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        return self.convert_spectrogram_to_audio(spec=spec)[:, None]

    def convert_spectrogram_to_audio(self, spec: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, N)"""
        return self.speech(spec)


class ESPnetVocoder(HostVocoder):
    """The vocoder of ESPnet's `Text2Speech`, to be assigned: `text2speech.vocoder = ESPnetVocoder(...)`.

    `Text2Speech` hands over mels without their statistics. With `prefer_normalized_feats=True` it leaves them in: then
    pass the dialect with them, `dataclasses.replace(MelSpec.preset("espnet"), mean=..., std=...)`.
    """

    dialect = "espnet"

    @property
    def fs(self) -> int:
        """Sample rate in Hz."""
        return self.sample_rate

    def forward(self, feats: Values) -> Tensor:
        """(frames, n_mels) -> (N,)"""
        return self.speech(as_mel(feats).mT)


class TorchaudioVocoder(HostVocoder, Tacotron2TTSBundle.Vocoder):  # type: ignore[misc]
    """In the place of `bundle.get_vocoder()`, of torchaudio's Griffin-Lim bundles (`Tacotron2TTSBundle`).

    The bundles with WaveRNN need a vocoder of their dialect and `mel_spec="torchaudio-wavernn"`.
    """

    dialect = "tacotron2"

    def forward(self, specgrams: Values, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, n_mels, frames) and frames of each item (B,) -> (B, N) and samples of each item (B,), if given."""
        if lengths is None:
            return self.speech(specgrams), None
        return self.speech(specgrams, lengths), self.samples(lengths)


class TransformersVocoder(HostVocoder):
    """In the place of transformers' `SpeechT5HifiGan`, `FastSpeech2ConformerHifiGan` and their like."""

    dialect = "speecht5"

    @property
    def config(self) -> SimpleNamespace:
        """What the text-to-speech pipeline asks for: sample rate in Hz, and bands of the mel."""
        return SimpleNamespace(sampling_rate=self.sample_rate, model_in_dim=self.mel_spec.n_mels)

    def forward(self, spectrogram: Values) -> Tensor:
        """(frames, n_mels) -> (N,); (B, frames, n_mels) -> (B, N)

        A batch comes without lengths, filled up with frames of zeros, which would be loud: those are left silent.
        """
        spectrogram = as_mel(spectrogram)
        if spectrogram.ndim != 3 or len(spectrogram) == 1:
            return self.speech(spectrogram.mT)
        filled = (spectrogram != 0).any(2).flip(1)  # (B, frames), from the end
        lengths = filled.shape[1] - filled.int().argmax(1)  # an item of zeros keeps all its frames
        return self.speech(spectrogram.mT, lengths)


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


class CoquiVocoder(HostVocoder):
    """In the place of `synthesizer.vocoder_model`: `CoquiVocoder().attach(synthesizer)`.

    Coqui's models have audio settings of their own. LJ Speech's recipes are `mel_spec="coqui"`, the default here;
    what leaves the settings alone is "coqui-default".
    """

    dialect = "coqui"

    def inference(self, c: Values) -> Tensor:
        """(1, n_mels, frames) -> (1, 1, N)"""
        return self.speech(c)[:, None]

    def forward(self, x: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        return self.inference(x)

    def load_checkpoint(
        self, config: Any, checkpoint_path: str | os.PathLike[str], eval: bool = False, cache: bool = False
    ) -> None:
        """Take another wavediff model file; its own configuration counts, not Coqui's.

        Raises:
            CheckpointError: it is not an intact model file.
            MelError: it cannot take the host's mels.
        """
        self._take(Vocoder.from_pretrained(checkpoint_path, device=str(self.vocoder.device)))

    def attach(self, synthesizer: Any) -> None:
        """Let a `Synthesizer` speak with this vocoder.

        Its mels then arrive in the dialect of its acoustic model: what it undoes of that model's normalisation, it
        does again.

        Raises:
            MelError: its acoustic model has another sample rate; Coqui would stretch the mel.
        """
        ap = synthesizer.tts_model.ap
        if ap.sample_rate != self.sample_rate:
            raise MelError(
                f"CoquiVocoder: the acoustic model speaks at {ap.sample_rate} Hz, this vocoder at {self.sample_rate}; "
                "pass a vocoder trained at that rate"
            )
        synthesizer.vocoder_model, synthesizer.vocoder_ap = self, ap
        synthesizer.vocoder_config = {"audio": {"sample_rate": self.sample_rate}}
        synthesizer.output_sample_rate = self.sample_rate
