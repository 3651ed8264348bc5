"""HiFi-GAN's generator, as scripts of its kind call it: HiFi-GAN itself, BigVGAN, Matcha-TTS, Grad-TTS."""

from torch import Tensor

from wavediff.arguments import Values
from wavediff.compat.base import HostVocoder
from wavediff.mel.shape import as_mel


class HiFiGANVocoder(HostVocoder):
    """In the place of `Generator(h)`: `y = generator(x)`.

    BigVGAN at 24 kHz needs a vocoder of its dialect and `mel_spec="bigvgan-24k"`.
    """

    dialect = "hifigan"

    def forward(self, x: Values) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        mel = as_mel(x)
        return self.speech(mel if mel.ndim == 3 else mel[None])[:, None]

    def remove_weight_norm(self) -> None:
        """Nothing to remove; scripts call it after loading."""
