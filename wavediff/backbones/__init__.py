"""Networks: (x_t (B, N), t (B,), prepared condition) -> prediction (B, N). No schedules, no samplers."""

from wavediff.backbones.adapter import AdapterConfig, MelAdapter
from wavediff.backbones.codec import Codec, CodecConfig, LinearCodec, LinearCodecConfig, MelCodec
from wavediff.backbones.conditioning import BackboneConfig, Condition
from wavediff.backbones.diffwave import DiffWave, DiffWaveConfig
from wavediff.backbones.spectral import InversionConfig, MelInversion, SpectralConfig, SpectralNet
from wavediff.backbones.unet import UNet, UNetConfig

__all__ = [
    "AdapterConfig",
    "BackboneConfig",
    "Codec",
    "CodecConfig",
    "Condition",
    "DiffWave",
    "DiffWaveConfig",
    "InversionConfig",
    "LinearCodec",
    "LinearCodecConfig",
    "MelAdapter",
    "MelCodec",
    "MelInversion",
    "SpectralConfig",
    "SpectralNet",
    "UNet",
    "UNetConfig",
]
