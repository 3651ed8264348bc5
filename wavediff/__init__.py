"""wavediff: diffusion models that make sound.

A mel spectrogram to speech, with the bundled model and the bundled clip:

>>> import wavediff
>>> from wavediff.audio import read_audio
>>> from wavediff.cli.demo import CLIP
>>> vocoder = wavediff.Vocoder.from_pretrained()
>>> waveform, sample_rate = read_audio(CLIP, frames=22_050)  # (N,), one second
>>> mel = vocoder.mel(waveform, sample_rate)
>>> mel.shape  # (B, n_mels, frames)
torch.Size([1, 80, 86])
>>> vocoder.decode(mel, seed=0).shape  # (B, frames * hop_length)
torch.Size([1, 22016])
>>> vocoder(waveform, sample_rate).shape  # both at once: copy synthesis
torch.Size([22016])

and sounds from nothing:

>>> wavediff.Generator.from_pretrained().generate(count=2, seconds=0.5, label="glass", num_steps=5).shape
torch.Size([2, 11025])
"""

from typing import TYPE_CHECKING, Any

import wavediff.environment  # noqa: F401  before torch
from wavediff.errors import WavediffError
from wavediff.version import __version__

if TYPE_CHECKING:
    from wavediff.mel import MelSpec
    from wavediff.pipelines.extension import BandExtension
    from wavediff.pipelines.generator import Generator
    from wavediff.pipelines.stream_pool import StreamPool
    from wavediff.pipelines.vocoder import Vocoder

__all__ = ["BandExtension", "Generator", "MelSpec", "StreamPool", "Vocoder", "WavediffError", "__version__"]


def __getattr__(name: str) -> Any:
    """What needs torch is loaded where it is first asked for: it takes seconds, and a command may end before."""
    if not name.startswith("_"):
        from wavediff.mel import MelSpec
        from wavediff.pipelines.extension import BandExtension
        from wavediff.pipelines.generator import Generator
        from wavediff.pipelines.stream_pool import StreamPool
        from wavediff.pipelines.vocoder import Vocoder

        classes = (BandExtension, Generator, MelSpec, StreamPool, Vocoder)
        globals().update({each.__name__: each for each in classes})
    if name in globals():  # parts such as `wavediff.mel` are there now, too
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
