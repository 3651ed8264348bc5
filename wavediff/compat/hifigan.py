"""HiFi-GAN's generator, as scripts of its kind call it: HiFi-GAN itself, BigVGAN, Matcha-TTS, Grad-TTS."""

from torch import Tensor

from wavediff.compat.base import HostVocoder


class HiFiGANVocoder(HostVocoder):
    """In the place of `Generator(h)`: `y = generator(x)`.

    BigVGAN at 24 kHz needs a vocoder of its dialect and `mel_spec="bigvgan-24k"`.
    """

    dialect = "hifigan"

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_mels, frames) -> (B, 1, N)"""
        return self.speech(x if x.ndim == 3 else x[None])[:, None]

    def remove_weight_norm(self) -> None:
        """Nothing to remove; scripts call it after loading."""
