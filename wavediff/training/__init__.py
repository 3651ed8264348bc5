"""Training with Lightning: it only wires what the other rooms offer."""

from wavediff.training.adversarial import AdversarialModule
from wavediff.training.autoencoder_modules import AutoencoderModule, LinearAutoencoderModule
from wavediff.training.callbacks import AudioLogger, FullState, ModelExport
from wavediff.training.checkpoint_io import AtomicCheckpointIO
from wavediff.training.classification import ClassifierModule, ClipVariation
from wavediff.training.module import DenoiserModule, TrainingModule, VocoderModule
from wavediff.training.sound_modules import DiffWaveSoundModule, SoundModule, UNetModule
from wavediff.training.vocoder_modules import DiffWaveModule, SpectralModule

__all__ = [
    "AdversarialModule",
    "AtomicCheckpointIO",
    "AudioLogger",
    "AutoencoderModule",
    "ClassifierModule",
    "ClipVariation",
    "DenoiserModule",
    "DiffWaveModule",
    "DiffWaveSoundModule",
    "FullState",
    "LinearAutoencoderModule",
    "ModelExport",
    "SoundModule",
    "SpectralModule",
    "TrainingModule",
    "UNetModule",
    "VocoderModule",
]
