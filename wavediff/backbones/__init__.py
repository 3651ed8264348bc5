"""Networks: (x_t (B, N), t (B,), prepared condition) -> prediction (B, N). No schedules, no samplers."""

from wavediff.backbones.codec import Codec, CodecConfig, LinearCodec, LinearCodecConfig, MelCodec
from wavediff.backbones.conditioning import BackboneConfig, Condition
from wavediff.backbones.diffwave import DiffWave, DiffWaveConfig
from wavediff.backbones.halving import HalvingConfig, MelHalving
from wavediff.backbones.spectral import InversionConfig, MelInversion, SpectralConfig, SpectralNet
from wavediff.backbones.unet import UNet, UNetConfig

__all__ = [
    "BackboneConfig",
    "Codec",
    "CodecConfig",
    "Condition",
    "DiffWave",
    "DiffWaveConfig",
    "HalvingConfig",
    "InversionConfig",
    "LinearCodec",
    "LinearCodecConfig",
    "MelCodec",
    "MelHalving",
    "MelInversion",
    "SpectralConfig",
    "SpectralNet",
    "UNet",
    "UNetConfig",
]
