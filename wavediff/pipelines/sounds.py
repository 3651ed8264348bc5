"""What every way to make a sound shares: lengths, seeds, classes, guidance, latents."""

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from wavediff.arguments import Values, as_list, as_waveform, check_sample_rate, is_whole, real, shown, whole
from wavediff.audio import resample
from wavediff.audio.finish import edges
from wavediff.backbones import Condition
from wavediff.diffusion import ItemNoise, Plan, SamplingOptions
from wavediff.diffusion.noise import MAX_SEED, MixedNoise, Noise, check_seeds
from wavediff.diffusion.walk import OnStep, diffuse, levels, states
from wavediff.engine import accelerate
from wavediff.errors import AudioError, ConfigError, EndingError, SamplingError, choice
from wavediff.models.config import ModelConfig
from wavediff.models.denoiser import Bound, Denoiser, Guided
from wavediff.pipelines.autoencoder import Autoencoder
from wavediff.pipelines.circular import close_loop, wrap
from wavediff.pipelines.peaks import scale_of, within
from wavediff.pipelines.pipeline import Pipeline, exact

DEFAULT_STEPS = 15  # of models of continuous time; those of discrete steps take all of theirs
FILLING_STEPS = 60  # of fillings: more of them fit what is around them better
DEFAULT_SAMPLER = "ddpm"  # fresh noise mends what earlier steps got wrong
DEFAULT_GUIDANCE = 2.0
MAX_SECONDS = 600.0
MAX_COUNT = 10_000  # sounds drawn together
RISE_SECONDS = 0.001  # at the start of a sound: an attack stays one, and does not begin with a jump
FADE_SECONDS = 0.005  # at the end of a sound
LOOP_OVERLAP_SECONDS = 0.05
LOOP_CONTEXT_SECONDS = 0.7  # that the network sees beyond either end of a loop
LASTING = "choose a class that goes on, such as engine"

_OTHER_SEEDS = 0x2545F4914F6CDD1D  # any number below 2^63 that no two seeds of a person differ by

Estimate = Callable[[Tensor, Tensor], Tensor]
Labels = str | Sequence[str] | None


@dataclass(frozen=True)
class Options(SamplingOptions):
    """How a sound is drawn; see `Generator.generate`."""

    label: Labels = None
    guidance: float | None = None
    on_step: OnStep | None = None


class SoundPipeline(Pipeline):
    """A model without mel on its device; see `Generator` for what it is good for."""

    bundled = "generator.safetensors"

    def __init__(self, config: ModelConfig, denoiser: Denoiser, facts: dict[str, Any] | None = None) -> None:
        if config.mel is not None:
            raise ConfigError(
                "config.mel: this model turns mels into speech; use wavediff.Vocoder, or a generator's file"
            )
        super().__init__(config, denoiser, facts)
        self._place()

    def to(self, device: str | torch.device) -> Self:
        """Move the model; "auto" takes a GPU where there is one.

        Raises:
            ConfigError: the device is not there.
        """
        super().to(device)
        self._place()
        return self

    def _place(self) -> None:
        pretransform = self.denoiser.pretransform
        self._network = accelerate(self.denoiser.backbone)
        self.autoencoder = None if pretransform is None else Autoencoder(pretransform)

    @property
    def labels(self) -> tuple[str, ...]:
        """What sounds can be asked for: classes, and their kinds ("laser/retro"); empty for a model without."""
        return tuple(dict.fromkeys((*self.classes, *self.config.labels)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.config.classes)

    def kind(self, label: str, seed: int) -> str:
        """The label of the model that makes what was asked for: of a class with kinds, seeds that follow each other
        take one kind after the other.

        Raises:
            ConfigError: the model knows no such label.
        """
        kinds = self._kinds(label)
        return kinds[seed % len(kinds)]

    def _kinds(self, label: str) -> tuple[str, ...]:
        """Of a class; a label of the model alone."""
        kinds = self.config.classes.get(label, (label,)) if isinstance(label, str) else (label,)
        if kinds[0] not in self.config.labels:
            what = f"is none of this model's classes{choice(str(label), self.labels, '`labels`')}"
            raise ConfigError(f"label: {shown(label)} {what}")
        return kinds

    @property
    def seconds(self) -> float:
        """Length of a sound if none is asked for: that of the training segments, or 1 s."""
        return (self.config.default_length or self.sample_rate) / self.sample_rate

    @property
    def _frame(self) -> int:
        """Values of the diffused signal that belong together in time."""
        return 1 if self.autoencoder is None else self.autoencoder.channels

    @property
    def _hop(self) -> int:
        """Samples that they stand for."""
        return 1 if self.autoencoder is None else self.autoencoder.hop_length

    def _length(self, seconds: float) -> int:
        allowed = f"above 0 and at most {MAX_SECONDS:g}"
        seconds = real(seconds, "seconds", allowed, lambda value: 0 < value <= MAX_SECONDS, SamplingError)
        return max(round(seconds * self.sample_rate), 1)

    def _frames_length(self, length: int) -> int:
        """Values of the frames that become `length` samples."""
        return math.ceil(length / self._hop) * self._frame

    def signal_length(self, length: int) -> int:
        """Values of the diffused signal of `length` samples, filled up to a multiple that the network likes."""
        multiple = int(self.denoiser.backbone.multiple)  # type: ignore[arg-type]
        return math.ceil(self._frames_length(length) / multiple) * multiple

    @staticmethod
    def _count(count: int, least: int = 1) -> int:
        return whole(count, "count", least, MAX_COUNT, SamplingError)

    @staticmethod
    def _seeds(seed: int | Sequence[int], count: int) -> list[int]:
        if is_whole(seed):
            first = whole(seed, "seed", 0, MAX_SEED - count + 1, SamplingError)
            seed = range(first, first + count)
        return check_seeds(seed, count, "sounds")

    def _noise(self, seed: int | Sequence[int], count: int) -> ItemNoise:
        return ItemNoise(self._seeds(seed, count), self.device)

    def _fresh_noise(self, seed: int | Sequence[int], count: int) -> ItemNoise:
        """For changes of a sound: not the noise of `generate`, or what that made from this seed would become itself."""
        seeds = [own ^ _OTHER_SEEDS for own in self._seeds(seed, count)]
        return ItemNoise(seeds, self.device)

    def _estimate(self, options: Options, count: int) -> Guided:
        guidance = DEFAULT_GUIDANCE if options.guidance is None else options.guidance
        guidance = real(guidance, "guidance", "from 0 to 100", lambda value: 0 <= value <= 100, SamplingError)
        chosen = self._label_indices(options.label, options.seed, count)
        if chosen is None and options.guidance is not None:
            raise SamplingError(
                f"guidance: {guidance!r} leads to a class, and none was given; give a label or leave it out"
            )
        free = self._bind(
            None if not self.labels else torch.full((count,), len(self.config.labels), device=self.device)
        )
        return Guided(free, free, 1) if chosen is None else Guided(self._bind(chosen), free, float(guidance))

    @exact
    def _bind(self, label: Tensor | None) -> Bound:
        return self.denoiser.bind(Condition(label=label), self._network)

    def _label_indices(self, label: Labels, seed: int | Sequence[int], count: int) -> Tensor | None:
        """(count,)"""
        if label is None:
            return None
        if not self.labels:
            raise ConfigError(f"label: {shown(label)} was given, but this model knows no classes; leave it out")
        names = [label] * count if isinstance(label, str) else as_list(label)
        if names is None:
            raise ConfigError(f"label: {shown(label)} is neither a name nor a list of names")
        if len(names) != count:
            raise ConfigError(f"label: {len(names)} names for {count} sounds; give one name, or one a sound")
        labels = [self.kind(name, one) for name, one in zip(names, self._seeds(seed, count), strict=True)]
        return torch.tensor([self.config.labels.index(name) for name in labels], device=self.device)

    def plan(
        self, num_steps: int | None = None, schedule: str | Sequence[float] | None = None, sampler: str | None = None
    ) -> Plan:
        """What `Generator.generate` samples by.

        Raises:
            SamplingError: steps, schedule or sampler are not possible.
        """
        return self._plan(Options(num_steps, schedule, sampler))

    def _plan(self, options: Options, start: float = 1.0, steps: int = DEFAULT_STEPS) -> Plan:
        trained = self.denoiser.schedule
        default = max(math.ceil(start * (trained.trained_steps or steps)), 1)
        return options.along(trained, default, DEFAULT_SAMPLER, start)

    @exact
    def _walk(self, estimate: Estimate, x_t: Tensor, plan: Plan, noise: Noise, options: Options) -> Tensor:
        return deque(states(estimate, x_t, self.denoiser.schedule, plan, noise, None, options.on_step), 1)[0]

    def _from_guess(self, x_0: Tensor, strength: float, length: int, noise: ItemNoise, options: Options) -> Tensor:
        """Sounds from signals x_0 (B, N) that are noised to a time and denoised; `noise` is fresh."""
        least = self.denoiser.schedule.t_min
        allowed = f"above {least:g} and at most 1"
        strength = real(strength, "strength", allowed, lambda value: least < value <= 1, SamplingError)
        plan = self._plan(options, strength)
        x_t = diffuse(x_0, noise.normal(x_0.shape[1]), levels(self.denoiser.schedule, plan.times[0]))
        signal = self._walk(self._estimate(options, len(x_0)), x_t, plan, noise, options)
        return self._finish(signal, length, noise)

    def _near_seed(self, seed: int, strength: float, length: int, count: int, options: Options) -> Tensor:
        """Sounds (B, length) whose noise is that of a seed, mixed with some that is fresh."""
        share = real(strength, "strength", "from 0 to 1", lambda value: 0 <= value <= 1, SamplingError)
        own, fresh = ItemNoise([seed] * count, self.device), self._fresh_noise(options.seed, count)
        noise = MixedNoise(own, fresh, share)
        estimate = self._estimate(dataclasses.replace(options, seed=[seed] * count), count)  # the kind of that sound
        signal = self._walk(estimate, noise.normal(self.signal_length(length)), self._plan(options), noise, options)
        return self._finish(signal, length, own)

    def _checked(self, waveform: Values | int, sample_rate: int | None, name: str = "waveform") -> Tensor:
        samples, rate = as_waveform(waveform, name, dimensions=(1,)), check_sample_rate(sample_rate)  # type: ignore[arg-type]
        if len(samples) > MAX_SECONDS * rate:
            raise AudioError(f"{name}: {len(samples) / rate:.0f} s, at most {MAX_SECONDS:g} s are taken; cut it")
        return resample(samples.detach().to(self.device, torch.float32), rate, self.sample_rate)

    @exact
    def _encode(self, waveform: Tensor) -> Tensor:
        """(N,) -> (1, values of the signal), at the level of most recordings; what fills it up is silence."""
        waveform = waveform / scale_of(waveform)
        values = self.signal_length(len(waveform))
        filled = pad(waveform, (0, values // self._frame * self._hop - len(waveform)))[None]
        return filled if self.autoencoder is None else self.autoencoder.encode(filled)

    @exact
    def _check_sustained(self, estimate: Estimate, options: Options, count: int) -> None:
        """Raise EndingError where a sound of these seeds ends within the usual length: 30 dB below its loudest."""
        noise, quiet = self._noise(options.seed, count), dataclasses.replace(options, on_step=None)
        x_T = noise.normal(self.signal_length(self._length(self.seconds)))
        signal = self._walk(estimate, x_T, self._plan(quiet), noise, quiet)
        if self.autoencoder is None:
            frames = max(round(0.02 * self.sample_rate), 1)
            power = signal[:, : signal.shape[1] // frames * frames].unflatten(1, (-1, frames)).square().mean(2)
        else:
            power = self.autoencoder.mel(signal).exp().square().mean(1)  # (B, frames)
        last = power[:, -max(power.shape[1] // 4, 1) :].mean(1)
        places = (last < 10 ** (-30 / 10) * power.amax(1)).nonzero()[:, 0].tolist()
        if places:
            seed = self._seeds(options.seed, count)[places[0]]
            message = f"loop: what seed {seed} makes ends by itself, there is nothing to loop; {LASTING}"
            raise EndingError(message, places)

    @exact
    def _finish(
        self, signal: Tensor, length: int, noise: ItemNoise, *, loop: bool = False, fade: bool = True
    ) -> Tensor:
        """Diffused signals (B, values) -> sounds (B, length)."""
        seeds = [generator.initial_seed() for generator in noise.generators]
        if self.autoencoder is None:
            sounds = signal[:, :length]
        elif loop:
            mel = self.autoencoder.mel(signal[:, : self._frames_length(length)])
            overlap = round(LOOP_OVERLAP_SECONDS * self.sample_rate)
            margin = math.ceil(overlap / self.autoencoder.spec.hop_length) + 4
            wrapped = self.autoencoder.vocode(wrap(mel, margin), seeds)
            sounds = close_loop(wrapped, margin * self.autoencoder.spec.hop_length, length, overlap)
        else:
            sounds = self.autoencoder.decode(signal, seeds)[:, :length]
        sounds = within(sounds)
        if fade and not loop:
            sounds = sounds * self.edges(sounds)
        return sounds

    def edges(self, sounds: Tensor) -> Tensor:
        """What sounds (..., N) are multiplied by, (N,): a short rise and fall at their ends."""
        return edges(sounds, *(round(seconds * self.sample_rate) for seconds in (RISE_SECONDS, FADE_SECONDS)))
