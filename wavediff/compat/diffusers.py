"""Calls in the manner of diffusers' audio pipelines."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavediff.arguments import Values, as_list, whole
from wavediff.compat.base import HostVocoder
from wavediff.diffusion.noise import check_seed
from wavediff.errors import ConfigError, SamplingError
from wavediff.mel.transform import as_mel
from wavediff.pipelines.generator import Generator
from wavediff.pipelines.sounds import MAX_COUNT

Generators = torch.Generator | Sequence[torch.Generator] | None


class AudioOutput(NamedTuple):
    """What `diffusers.AudioPipelineOutput` holds.

    Attributes:
        audios: (B, 1, N), in [-1, 1].
    """

    audios: np.ndarray


class DiffusersGenerator:
    """A sound generator called as `DanceDiffusionPipeline` is.

    Args:
        generator: the model; None for the bundled one.
        label: class of the sounds, if the model knows any.
        seed: decides the noise of calls without a `torch.Generator`.

    Raises:
        ConfigError: `generator` is no generator of wavediff.
        SamplingError: the seed is not possible.
    """

    def __init__(self, generator: Generator | None = None, label: str | None = None, seed: int = 0) -> None:
        if generator is not None and not isinstance(generator, Generator):
            raise ConfigError(f"generator: expected a wavediff.Generator, got a {type(generator).__name__}; load one")
        check_seed(seed)
        self.generator = Generator.from_pretrained() if generator is None else generator
        self.label, self.seed = label, seed

    @property
    def sample_rate(self) -> int:
        """Of the sounds, in Hz."""
        return self.generator.sample_rate

    def to(self, device: str | torch.device) -> "DiffusersGenerator":
        """Move the model."""
        self.generator.to(device)
        return self

    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        audio_length_in_s: float | None = None,
        return_dict: bool = True,
        *,
        label: str | Sequence[str] | None = None,
    ) -> AudioOutput | tuple[np.ndarray]:
        """Sounds from noise.

        Args:
            batch_size: how many.
            num_inference_steps: steps of sampling; None for the model's own.
            generator: gives the seeds and moves on, so that the next call makes other sounds; one a sound, or one for
                all. None takes this object's seed, each time.
            audio_length_in_s: length of each.
            return_dict: whether to return `AudioOutput`; else a plain tuple.
            label: class, instead of this object's; one for all, or one a sound.

        Returns:
            audios (batch_size, 1, N), in [-1, 1].

        Raises:
            ConfigError, SamplingError: as `Generator.generate`; also another number of generators than of sounds.
        """
        batch_size = whole(batch_size, "batch_size", 1, MAX_COUNT, SamplingError)
        seed = self.seed if generator is None else draw_seeds(generator, batch_size)
        sounds = self.generator.generate(
            batch_size,
            audio_length_in_s,
            self.label if label is None else label,
            num_steps=num_inference_steps,
            seed=seed,
        )
        return _output(sounds, return_dict)


class DiffusersVocoder(HostVocoder):
    """The same call with a mel: for pipelines whose last stage is a vocoder."""

    dialect = "hifigan"

    def forward(
        self,
        mel: Values,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        return_dict: bool = True,
        *,
        lengths: Sequence[int] | Tensor | None = None,
    ) -> AudioOutput | tuple[np.ndarray]:
        """(B, n_mels, frames) -> audios (B, 1, N); the other arguments are those of `DiffusersGenerator`.

        Raises:
            MelError, SamplingError: as `Vocoder.decode`.
        """
        mel = as_mel(mel)
        batch = mel if mel.ndim == 3 else mel[None]
        seed = self.seed if generator is None else draw_seeds(generator, len(batch))
        steps = self.num_steps if num_inference_steps is None else num_inference_steps
        return _output(self.speech(batch, lengths, num_steps=steps, seed=seed), return_dict)


def draw_seeds(generator: torch.Generator | Sequence[torch.Generator], count: int) -> list[int]:
    """A seed an item, from the generator of each or from one for all, which move on by it.

    Raises:
        SamplingError: another number of generators than of items.
    """
    generators = [generator] * count if isinstance(generator, torch.Generator) else as_list(generator)
    if generators is None or not all(isinstance(one, torch.Generator) for one in generators):
        raise SamplingError(f"generator: {generator!r:.60} is no torch.Generator, nor a list of them; give one")
    if len(generators) != count:
        raise SamplingError(f"generator: {len(generators)} of them for {count} items; give one, or one an item")
    return [int(torch.randint(2**62, (1,), generator=one, device=one.device)) for one in generators]


def _output(sounds: Tensor, return_dict: bool) -> AudioOutput | tuple[np.ndarray]:
    audios = sounds[:, None].cpu().numpy()  # (B, 1, N)
    return AudioOutput(audios) if return_dict else (audios,)
