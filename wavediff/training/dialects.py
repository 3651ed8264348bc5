"""Mels of many dialects, and as acoustic models predict them, for one vocoder under training."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.audio import resample
from wavediff.backbones import Condition
from wavediff.diffusion import ItemNoise, SpectralLoss
from wavediff.diffusion.losses import Distance
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.transform import PER_NEPER
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.denoiser import Bound, Denoiser

_BLUR = (0.25, 0.5, 0.25)  # over frames
_NOISE, _OFFSET = 0.15, 0.25  # [nepers], the most


@dataclass(frozen=True)
class Told:
    """A batch in a drawn dialect.

    Attributes:
        bound: the denoiser, told the mels.
        waveform: (B, frames * hop_length) at the dialect's rate.
        lengths: (B,) valid samples.
        distance: of estimates from the waveform, by the spectra of the dialect.
    """

    bound: Bound
    waveform: Tensor
    lengths: Tensor
    distance: Distance


class Dialects(nn.Module):
    """The weights of one denoiser behind the frames of several dialects.

    A dialect of a higher rate takes the samples as if they were its own, so that speech is quicker and higher there,
    as another speed would make it; to a lower rate they are resampled.

    Args:
        config: of the model.
        denoiser: whose weights are shared; it keeps them.
        presets: names of dialects; one that stands there twice is drawn twice as often. None is the model's own alone.
        predicted_share: of the batches whose mels are made to look predicted: blurred over time, noisy, offset.
        distance: the class of the distance of estimates.

    Raises:
        ConfigError: a preset whose mels the network cannot take, or a share outside [0, 1].
    """

    def __init__(
        self,
        config: ModelConfig,
        denoiser: Denoiser,
        presets: Sequence[str],
        predicted_share: float = 0.0,
        distance: Callable[[MelSpec], nn.Module] = SpectralLoss,
    ) -> None:
        super().__init__()
        if config.mel is None or not 0 <= predicted_share <= 1:
            raise ConfigError(f"model.predicted_share: {predicted_share} is outside 0 to 1, or the model has no mel")
        self.sample_rate, self.predicted_share = config.sample_rate, predicted_share
        specs = [MelSpec.preset(name) for name in presets] or [config.mel]
        self._specs = list(dict.fromkeys([config.mel, *specs]))
        self._drawn = [self._specs.index(spec) for spec in specs]
        self.transforms = nn.ModuleList(MelTransform(spec) for spec in self._specs)
        self.losses = nn.ModuleList(distance(spec) for spec in self._specs)
        # In a tuple, where no state_dict finds weights that stand in the model already.
        self._denoisers = tuple(sharing(unresampled(config.of_dialect(spec)), denoiser) for spec in self._specs)

    def tell(self, batch: dict[str, Tensor], noise: ItemNoise) -> Told:
        """A batch of waveforms, in a drawn dialect; one that brings its mels, in the model's."""
        if "mel" in batch:
            bound = self._denoisers[0].bind(Condition(batch["mel"]))
            return Told(bound, batch["waveform"], batch["length"], self._loss(0))
        index = self._drawn[int(noise.uniform()[0] * len(self._drawn))]
        predicted = bool(noise.uniform()[0] < self.predicted_share)
        spec, denoiser, waveform = self._specs[index], self._denoisers[index], batch["waveform"]
        denoiser.to(waveform.device)
        if spec.sample_rate < self.sample_rate:
            waveform = resample(waveform, self.sample_rate, spec.sample_rate)
        lengths = (batch["length"] * (waveform.shape[1] / batch["waveform"].shape[1])).long()
        frames = waveform.shape[1] // spec.hop_length
        waveform = waveform[:, : frames * spec.hop_length]
        with torch.no_grad():
            mel = self.transforms[index](waveform)[..., :frames]
            if predicted:
                mel = as_predicted(mel, spec, noise)
        lengths = lengths.clamp(max=waveform.shape[1])
        return Told(denoiser.bind(Condition(mel)), waveform, lengths, self._loss(index))

    def _loss(self, index: int) -> Distance:
        return cast(Distance, self.losses[index])


def unresampled(config: ModelConfig) -> ModelConfig:
    """The model itself if its signals have the rate of its speech; else without adapters, so that they have."""
    return config if config.inner.sample_rate == config.sample_rate else dataclasses.replace(config, adapters=())


def sharing(config: ModelConfig, denoiser: Denoiser) -> Denoiser:
    """A denoiser of that configuration, of another dialect and perhaps without adapters, on the weights of another one.

    Raises:
        ConfigError: a weight's shape depends on the dialect.
    """
    twin, spec = build_denoiser(config), config.mel or MelSpec()
    weights = {
        name: weight
        for name, weight in denoiser.named_parameters()
        if config.adapters or not name.startswith("adapters.")
    }
    if {name: weight.shape for name, weight in twin.named_parameters()} != {n: w.shape for n, w in weights.items()}:
        raise ConfigError(f"model.dialects: {spec.name} needs other weights than the model's dialect")
    _share(twin, denoiser)
    return twin


def _share(twin: nn.Module, module: nn.Module) -> None:
    """Modules that hold weights are the same ones; so what is compiled stays compiled."""
    for name, own in module.named_children():
        other = getattr(twin, name, None)
        if other is None:  # an adapter that the twin lacks
            continue
        if any(True for _ in own.parameters()) and not any(True for _ in own.buffers()):
            setattr(twin, name, own)
        else:
            _share(other, own)
    for name, parameter in module.named_parameters(recurse=False):
        setattr(twin, name, parameter)


def as_predicted(mel: Tensor, spec: MelSpec, noise: ItemNoise) -> Tensor:
    """A mel (B, n_mels, frames) as an acoustic model would predict it: smoother in time, noisy, off by a level.

    The strengths are drawn for each item: of the blur up to all, of the noise .15 nepers, of the offset .25 nepers.
    """
    neper = PER_NEPER[spec.log] * spec.scale
    unit = neper if spec.std is None else neper / mel.new_tensor(spec.std)[:, None]
    share = noise.uniform().to(mel, non_blocking=True)[:, None, None]
    kernel = mel.new_tensor(_BLUR).expand(mel.shape[1], 1, -1)
    blurred = F.conv1d(F.pad(mel, (1, 1), mode="replicate"), kernel, groups=mel.shape[1])
    grain = noise.normal(mel.shape[1] * mel.shape[2]).to(mel).view_as(mel)
    strength = _NOISE * noise.uniform().to(mel, non_blocking=True)[:, None, None]
    level = _OFFSET * (2 * noise.uniform().to(mel, non_blocking=True)[:, None, None] - 1)
    return mel + share * (blurred - mel) + unit * (strength * grain + level)
