"""What all hosts' vocoders are: a `Vocoder` as a module, told once which dialect its host's mels are of."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from wavediff.arguments import Values
from wavediff.diffusion.noise import check_seed
from wavediff.errors import ConfigError, MelError
from wavediff.mel import MelSpec
from wavediff.mel.transform import as_spec
from wavediff.pipelines.vocoder import Vocoder


class HostVocoder(nn.Module):
    """A vocoder in the shape that a host library expects; subclasses add the host's calls.

    The seed is fixed, so the same mel always gives the same speech: some hosts ask twice and compare. The weights stay
    float32 and in evaluation mode, whatever the host does to the module that holds them.

    Args:
        vocoder: the model; None for the bundled one, which takes most dialects (`Vocoder.for_mels`).
        mel_spec: dialect of the host's mels, or its preset's name; None for `dialect`.
        num_steps: how much work, as `Vocoder.decode` takes it.
        seed: decides the noise of every item.

    Raises:
        MelError: the vocoder cannot take mels of that dialect.
        ConfigError: `vocoder` is none, or no preset is called so.
        SamplingError: the number of steps or the seed is not possible.
    """

    dialect: ClassVar[str]
    """Preset of the mels that the host gives by default."""

    def __init__(
        self,
        vocoder: Vocoder | None = None,
        mel_spec: MelSpec | str | None = None,
        num_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        given = self.dialect if mel_spec is None else mel_spec
        self.mel_spec = as_spec(given)
        check_seed(seed)
        self.num_steps, self.seed = num_steps, seed
        self._take(Vocoder.from_pretrained() if vocoder is None else vocoder)

    def _take(self, vocoder: Vocoder) -> None:
        if not isinstance(vocoder, Vocoder):
            cure = "pass wavediff.Vocoder.from_pretrained(...)"
            raise ConfigError(f"vocoder: {type(self).__name__} takes a Vocoder, got a {type(vocoder).__name__}; {cure}")
        try:
            vocoder = vocoder.for_mels(self.mel_spec)
        except MelError as error:
            raise MelError(
                f"{type(self).__name__}: {error}; or pass mel_spec= if the host's mels are of another dialect"
            ) from error
        vocoder.plan(self.num_steps)
        self.vocoder = vocoder
        self.denoiser = vocoder.denoiser.eval()  # hosts look for parameters, to find out about the device

    @property
    def sample_rate(self) -> int:
        """Of the speech, in Hz."""
        return self.vocoder.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples a mel frame becomes."""
        return self.vocoder.hop_length

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a host that is trained does not train its vocoder here."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What .to(), .cuda(), .half() of this module and of any around it come down to. Only the device is followed.
        self.vocoder.to(fn(torch.empty(0, device=self.vocoder.device)).device)
        return self

    def speech(self, mel: Values, lengths: Sequence[int] | Tensor | None = None, **options: Any) -> Tensor:
        """Speech from the host's mel.

        Between framings a frame is dropped or repeated, as `wavediff.mel.convert` tells, so the speech may be a hop
        shorter or longer than frames * hop_length.

        Args:
            mel: (n_mels, frames) or (B, n_mels, frames) in the host's dialect.
            lengths: frames of each item; what is beyond them is not looked at, and silent in the speech.
            options: of `Vocoder.decode`, instead of this object's.

        Returns:
            (N,) or (B, N), in [-1, 1].

        Raises:
            MelError, SamplingError: as `Vocoder.decode`.
        """
        options = {"num_steps": self.num_steps, "seed": self.seed, **options}
        return self.vocoder.decode(mel, lengths=lengths, mel_spec=self.mel_spec, **options)

    def samples(self, frames: Any) -> Any:
        """How many samples of speech mels of so many frames, a number or a tensor, become."""
        added = (self.vocoder.mel_spec.framing == "center") - (self.mel_spec.framing == "center")  # by the conversion
        return (frames + added) * self.hop_length
