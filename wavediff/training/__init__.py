"""Training with Lightning: it only wires what the other rooms offer."""

from wavediff.training.adapter_module import AdapterModule
from wavediff.training.adversarial import AdversarialModule
from wavediff.training.autoencoder_modules import AutoencoderModule, LinearAutoencoderModule
from wavediff.training.callbacks import AudioLogger, FullState, ModelExport
from wavediff.training.classification import ClassifierModule, ClipVariation
from wavediff.training.guards import AtomicCheckpointIO
from wavediff.training.inversion_module import InversionModule
from wavediff.training.module import DenoiserModule, MelDenoiserModule, TrainingModule
from wavediff.training.sound_module import SoundModule
from wavediff.training.vocoder_module import VocoderModule

__all__ = [
    "AdapterModule",
    "AdversarialModule",
    "AtomicCheckpointIO",
    "AudioLogger",
    "AutoencoderModule",
    "ClassifierModule",
    "ClipVariation",
    "DenoiserModule",
    "FullState",
    "InversionModule",
    "LinearAutoencoderModule",
    "MelDenoiserModule",
    "ModelExport",
    "SoundModule",
    "TrainingModule",
    "VocoderModule",
]
