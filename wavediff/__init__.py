"""wavediff: diffusion models that make sound.

vocoder = wavediff.Vocoder.from_pretrained("model.safetensors")
speech = vocoder.decode(mel)            # (B, n_mels, frames) -> (B, frames * hop_length)
speech = vocoder(waveform, sample_rate) # copy synthesis
sounds = wavediff.Generator.from_pretrained().generate(count=4, label="glass")
"""

from wavediff.errors import WavediffError
from wavediff.mel import MelSpec
from wavediff.pipelines.generator import Generator
from wavediff.pipelines.vocoder import Vocoder
from wavediff.version import __version__

__all__ = ["Generator", "MelSpec", "Vocoder", "WavediffError", "__version__"]
