"""Sounds from nothing: free or by class, varied, inpainted, interpolated, looped."""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from wavediff.arguments import Values, is_whole, whole
from wavediff.diffusion.noise import MAX_SEED, MixedNoise, check_seeds
from wavediff.diffusion.walk import OnStep, states
from wavediff.errors import SamplingError
from wavediff.pipelines.circular import Circular
from wavediff.pipelines.filling import fill, span_of
from wavediff.pipelines.fitting import FittingPipeline
from wavediff.pipelines.peaks import scale_of, within
from wavediff.pipelines.pipeline import exact
from wavediff.pipelines.sounds import FILLING_STEPS, LOOP_CONTEXT_SECONDS, Labels, Options

DEFAULT_STRENGTH = 0.5


class Generator(FittingPipeline):
    """A model that makes sounds.

    >>> generator = Generator.from_pretrained(device="cpu")  # the bundled model; or a file, a folder, "user/model"
    >>> sounds = generator.generate(count=2, seconds=0.5, label="glass", seed=7, num_steps=4)
    >>> sounds.shape  # (count, N) in [-1, 1]
    torch.Size([2, 11025])
    >>> alone = generator.generate(seconds=0.5, label="glass", seed=8, num_steps=4)  # the second has seed 8
    >>> torch.allclose(alone[0], sounds[1], atol=1e-4)
    True

    Args:
        config: of the model; it must have no mel.
        denoiser: the model.
        facts: how it came about.

    Raises:
        ConfigError: the model needs a mel.
    """

    @exact
    def generate(
        self,
        count: int = 1,
        seconds: float | None = None,
        label: Labels = None,
        *,
        guidance: float | None = None,
        num_steps: int | None = None,
        sampler: str | None = None,
        schedule: str | Sequence[float] | None = None,
        seed: int | Sequence[int] = 0,
        loop: bool = False,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Sounds from noise.

        Args:
            count: how many, at most 10,000.
            seconds: length of each, at most 600; by default that of the training segments. Longer ones go on, or fall
                silent.
            label: class of all of them, or one a sound; None draws from all classes. Of a class with kinds
                ("laser/retro"), seeds that follow each other take one kind after the other.
            guidance: how strongly the class leads: 1 as trained, above 1 clearer and less varied. Default 2; only
                with a label.
            num_steps: estimates of the sound, at most: each is two network evaluations with guidance. Default 15 for a
                model of continuous time.
            sampler: for experts: a key of `SAMPLERS`, with options as in "ddim:eta=0.5"; "ddpm" by default.
            schedule: for experts: where the steps lie; see `wavediff.diffusion.make_grid`.
            seed: of the first sound; the others follow with seed + 1, seed + 2, ... Or one seed a sound. A sound
                depends on its own seed alone, not on the rest of the batch.
            loop: the end continues into the beginning; for sustained sounds, such as engines. Takes twice the time.
            on_step: called with (steps done, steps in all) after each.

        Returns:
            (count, N) in [-1, 1], N = round(seconds * sample_rate). A sound that would exceed 0.98 is scaled
            down to it. Except in loops, the first ms fades in and the last 5 ms fade out.

        Raises:
            ConfigError: a label is unknown, or the model knows no classes.
            SamplingError: count, seconds, steps, sampler, guidance or seed are not possible, a step gave NaN, or what
                is to be a loop ends by itself.
        """
        options = Options(num_steps, schedule, sampler, seed, label, guidance, on_step)
        count = self._count(count)
        length = self._length(self.seconds if seconds is None else seconds)
        noise = self._noise(options.seed, count)
        guided = self._estimate(options, count)
        if loop:
            self._check_sustained(guided, options, count)
        # A loop is not filled up: its last frame is followed by its first.
        x_T = noise.normal(self._frames_length(length) if loop else self.signal_length(length))
        margin = self.signal_length(round(LOOP_CONTEXT_SECONDS * self.sample_rate))
        estimate = Circular(guided, margin) if loop else guided
        signal = self._walk(estimate, x_T, self._plan(options), noise, options)
        return self._finish(signal, length, noise, loop=loop)

    @exact
    def states(
        self, seconds: float | None = None, *, at: Collection[int] | None = None, **options: Any
    ) -> Iterator[Tensor]:
        """The way from noise to a sound of `generate`, to look at: the noise, then what each step leaves, as sound.

        Args:
            seconds: as `generate` takes it.
            at: which of them, 0 being the noise; all by default.
            options: label, guidance, num_steps, sampler, schedule, seed, on_step of `generate`.

        Yields:
            (1, N), in all one more than the steps; the last is the sound of `generate`.

        Raises:
            ConfigError, SamplingError: as `generate`.
        """
        chosen = Options(**options)
        length = self._length(self.seconds if seconds is None else seconds)
        noise = self._noise(chosen.seed, 1)
        estimate, plan = self._estimate(chosen, 1), self._plan(chosen)
        x_T = noise.normal(self.signal_length(length))
        way = states(estimate, x_T, self.denoiser.schedule, plan, noise, None, chosen.on_step)
        for number, signal in enumerate(itertools.chain([x_T], way)):
            if at is None or number in at:
                yield self._finish(signal, length, noise)

    @exact
    def vary(
        self,
        waveform: Values | int,
        sample_rate: int | None = None,
        strength: float = DEFAULT_STRENGTH,
        count: int = 1,
        *,
        seconds: float | None = None,
        **options: Any,
    ) -> Tensor:
        """Variations of a sound: it is noised to time `strength` and denoised again (SDEdit, arXiv 2108.01073).

        Of a seed, variations of the sound that `generate` makes of it: all noise of that sound is mixed with other.

        Args:
            waveform: (N,), a tensor, array or list of floats, nominally in [-1, 1]; or a seed.
            sample_rate: of the waveform [Hz]; another one than the model's is resampled.
            strength: in (0, 1]; near 0 the sound itself, 1 something else. Of a seed, 0 too.
            count: how many.
            seconds: length with a seed; a waveform decides it itself.
            options: label, guidance, num_steps, sampler, schedule, seed (of the first variation), on_step as `generate`
                takes them.

        Returns:
            (count, N') as long as the sound and at its level, in [-1, 1].

        Raises:
            AudioError: the waveform is not one, or longer than 600 s.
            ConfigError, SamplingError: as `generate`; also what does not apply: seconds with a waveform, sample_rate
                with a seed.
        """
        chosen, count = Options(**options), self._count(count)
        if is_whole(waveform):
            if sample_rate is not None:
                raise SamplingError("waveform: a seed is given, so sample_rate has no meaning; leave that out")
            seed = whole(waveform, "waveform", 0, MAX_SEED, SamplingError)
            length = self._length(self.seconds if seconds is None else seconds)
            return self._near_seed(seed, strength, length, count, chosen)
        _refuse_unused({"seconds": seconds}, "a waveform is")
        waveform = self._checked(waveform, sample_rate)
        x_0 = self._encode(waveform)
        noise = self._fresh_noise(chosen.seed, count)
        varied = self._from_guess(x_0.expand(count, -1), strength, len(waveform), noise, chosen)
        return within(varied * scale_of(waveform))

    @exact
    def interpolate(
        self,
        first: Values | int,
        second: Values | int,
        sample_rate: int | None = None,
        count: int = 5,
        *,
        seconds: float | None = None,
        strength: float | None = None,
        **options: Any,
    ) -> Tensor:
        """Sounds on the way from one to another.

        Args:
            first, second: two waveforms (N,), which are mixed at time `strength` and denoised (Ho et al. 2020,
                arXiv 2006.11239, section 4.3), or two seeds, whose noises are (Song et al. 2021,
                arXiv 2010.02502, section 5.3).
            sample_rate: of the waveforms [Hz].
            count: sounds, the two ends included; at least 2.
            seconds: length with two seeds; of waveforms the longer one decides, so it is refused there.
            strength: see `vary`; for waveforms, 0.5 by default.
            options: label, guidance, num_steps, sampler, schedule, seed (for waveforms), on_step as `generate` takes
                them.

        Returns:
            (count, N) in [-1, 1].

        Raises:
            AudioError, ConfigError, SamplingError: as `vary`; also a seed and a waveform together, count below 2, or
                what does not apply: seconds with waveforms; sample_rate, strength or seed with seeds.
        """
        chosen, count = Options(**options), self._count(count, 2)
        by_seed = is_whole(first)
        if by_seed != is_whole(second):
            raise SamplingError("first, second: one is a seed, the other a waveform; give two of a kind")
        given = {"sample_rate": sample_rate, "strength": strength, "seed": options.get("seed")}
        _refuse_unused(given if by_seed else {"seconds": seconds}, f"two {'seeds' if by_seed else 'waveforms'} are")
        weight = torch.linspace(0, 1, count, dtype=torch.float32, device=self.device)[:, None]
        if not by_seed:
            if sample_rate is None:
                raise SamplingError("sample_rate: is needed with waveforms; give that of both")
            ends = [self._checked(sound, sample_rate, name) for sound, name in ((first, "first"), (second, "second"))]
            strength = DEFAULT_STRENGTH if strength is None else strength
            length = max(map(len, ends))
            a, b = (self._encode(pad(end, (0, length - len(end)))) for end in ends)
            seeds = check_seeds(chosen.seed, count, "sounds")  # one for all: the noise is shared, and the kind
            chosen = dataclasses.replace(chosen, seed=seeds)
            noise = self._fresh_noise(seeds, count)
            scales = torch.stack([scale_of(end) for end in ends])
            sounds = self._from_guess(torch.lerp(a, b, weight), strength, length, noise, chosen)
            return within(sounds * scales[0] ** (1 - weight) * scales[1] ** weight)
        length = self._length(self.seconds if seconds is None else seconds)
        chosen = dataclasses.replace(chosen, seed=[whole(first, "first", 0, MAX_SEED, SamplingError)] * count)
        noise = self._noise(chosen.seed, count)
        other = self._noise([whole(second, "second", 0, MAX_SEED, SamplingError)], 1)
        if chosen.sampler is None:
            chosen = dataclasses.replace(chosen, sampler="ddim")  # noise on the way would lead elsewhere
        x_T = MixedNoise(noise, other, weight).normal(self.signal_length(length))
        signal = self._walk(self._estimate(chosen, count), x_T, self._plan(chosen), noise, chosen)
        return self._finish(signal, length, noise)

    @exact
    def inpaint(
        self, waveform: Values, sample_rate: int, start: float, end: float, count: int = 1, **options: Any
    ) -> Tensor:
        """Fill a span of a sound anew; what lies outside stays, to the sample.

        At each step the estimate takes the known part from the sound, as in RePaint (arXiv 2201.09865) for x_0.

        Args:
            waveform: (N,), a tensor, array or list of floats, nominally in [-1, 1].
            sample_rate: its rate in Hz; another one than the model's is resampled.
            start, end: of the span [s].
            count: how many.
            options: label, guidance, num_steps, sampler, schedule, seed, on_step as `generate` takes them; num_steps
                is 60 by default. Of a class with kinds, all fillings are of the kind that fits the sound best.

        Returns:
            (count, N') as long as the sound; inside the span, 5 ms at either edge are a cross-fade. The
            filling has the level that fits the 20 ms beside its edges, and no peak above 0.98.

        Raises:
            AudioError: the waveform is not one, or longer than 600 s.
            ConfigError, SamplingError: as `generate`; also a span outside the sound.
        """
        chosen, count = Options(**options), self._count(count)
        waveform = self._checked(waveform, sample_rate)
        length = len(waveform)
        first, last = span_of(start, end, length, self.sample_rate)
        known, unknown = self._known(waveform, first, last)
        chosen = dataclasses.replace(chosen, label=self._fitting(chosen.label, known, unknown))
        noise = self._fresh_noise(chosen.seed, count)
        inner = self._estimate(chosen, count)

        def estimate(x_t: Tensor, t: Tensor) -> Tensor:
            return torch.where(unknown, inner(x_t, t), known)

        x_T, plan = noise.normal(known.shape[1]), self._plan(chosen, steps=FILLING_STEPS)
        signal = self._walk(estimate, x_T, plan, noise, chosen)
        filled = self._finish(signal, length, noise, fade=False)
        return fill(waveform, scale_of(waveform) * filled, first, last, self.sample_rate)


def _refuse_unused(given: dict[str, Any], kind: str) -> None:
    """Raise SamplingError for an argument that means nothing with seeds, or with waveforms."""
    for name, value in given.items():
        if value is not None:
            raise SamplingError(f"{name}: has no meaning where {kind} given; leave it out")
