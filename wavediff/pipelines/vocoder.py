"""Mel spectrograms to speech, and recordings to mels and back."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from wavediff.audio import resample
from wavediff.backbones import Condition
from wavediff.denoiser import Bound, Denoiser
from wavediff.diffusion import DiscreteSchedule, ItemNoise, Plan, make_grid, needs_num_steps, plan_for
from wavediff.engine import accelerate
from wavediff.errors import AudioError, ConfigError
from wavediff.mel import MelSpec, MelTransform, check_mel, convert
from wavediff.model import ModelConfig
from wavediff.pipelines.pipeline import Pipeline
from wavediff.sampling import OnStep, check_seeds, draw

DISCRETE_STEPS, CONTINUOUS_STEPS = 6, 2  # by default


class Vocoder(Pipeline):
    """A diffusion vocoder.

        vocoder = wavediff.Vocoder.from_pretrained("model.safetensors")
        mel = vocoder.mel(waveform, sample_rate)     # (B, n_mels, frames)
        speech = vocoder.decode(mel, seed=0)         # (B, frames * hop_length), in [-1, 1]

    Args:
        config: of the model; it must have a mel.
        denoiser: the model.
        facts: how it came about.
    """

    bundled = "vocoder.safetensors"

    def __init__(self, config: ModelConfig, denoiser: Denoiser, facts: dict[str, Any] | None = None) -> None:
        if config.mel is None:
            raise ConfigError(
                "config.mel: this model takes no mel, so it cannot vocode; use a vocoder's checkpoint "
                "(or this one with wavediff.Generator)"
            )
        super().__init__(config, denoiser, facts)
        self.mel_spec: MelSpec = config.mel
        self._network = accelerate(denoiser.backbone)

    def to(self, device: str | torch.device) -> Self:
        """Move the model; "auto" takes a GPU where there is one.

        Raises:
            ConfigError: the device is not there.
        """
        super().to(device)
        self._network = accelerate(self.denoiser.backbone)
        return self

    def with_plans(self, plans: Sequence[tuple[int, Plan]]) -> Self:
        """The same model with other plans of sampling, by number of evaluations: what a search has found, or none."""
        config = dataclasses.replace(self.config, plans=tuple(plans))
        return type(self)(config, self.denoiser, self.facts)

    @property
    def hop_length(self) -> int:
        """Samples a mel frame becomes."""
        return self.mel_spec.hop_length

    @torch.inference_mode()
    def mel(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """The mel of a recording in the model's dialect.

        Args:
            waveform: (N,) or (B, N), nominally in [-1, 1].
            sample_rate: its rate in Hz; another one than the model's is resampled.

        Returns:
            (B, n_mels, frames), on the model's device.

        Raises:
            AudioError: not (N,) or (B, N), not finite, or too short.
        """
        if waveform.ndim not in (1, 2) or not waveform.is_floating_point():
            raise AudioError(
                f"waveform: expected floats of shape (N,) or (B, N), got {waveform.dtype} {waveform.shape}"
            )
        if not waveform.isfinite().all():
            raise AudioError("waveform: holds NaN or infinite samples; repair the recording")
        batch = waveform.reshape(-1, waveform.shape[-1]).to(self.device, torch.float32)
        if sample_rate != self.sample_rate:
            batch = resample(batch, sample_rate, self.sample_rate)
        return MelTransform(self.mel_spec).to(self.device)(batch)

    @torch.inference_mode()
    def decode(
        self,
        mel: Tensor,
        num_steps: int | None = None,
        *,
        schedule: str | Sequence[float] | None = None,
        sampler: str | None = None,
        seed: int | Sequence[int] = 0,
        mel_spec: MelSpec | str | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Speech from a mel.

        Args:
            mel: (n_mels, frames) or (B, n_mels, frames).
            num_steps: how much work: network evaluations. By default 6 for a model of discrete steps, 2 for one of
                continuous time. A model that was searched takes the best steps that are known for the number.
            schedule: for experts: where the steps lie; see `wavediff.diffusion.make_grid`.
            sampler: for experts: a key of `SAMPLERS`, with options as in "ddim:eta=0.5". "heun" evaluates the network
                twice a step. By default "ddpm" for discrete steps, "ddim" for continuous time.
            seed: decides the noise: one number for every item, or one number an item. An item's speech does
                not depend on what else is in the batch.
            mel_spec: dialect of `mel`, or its preset's name, if it may not be the model's; converted where exact.
            on_step: called with (steps done, steps in all) after each.

        Returns:
            (B, frames * hop_length) in [-1, 1]; (frames * hop_length,) for a mel without batch.

        Raises:
            MelError: the mel is not of the model's dialect, or not a mel at all.
            SamplingError: steps, schedule, sampler or seed are not possible, or a step gave NaN.
        """
        if mel_spec is not None:
            given = MelSpec.preset(mel_spec) if isinstance(mel_spec, str) else mel_spec
            mel = convert(check_mel(mel, given), given, self.mel_spec)
        batch = check_mel(mel, self.mel_spec).to(self.device)
        seeds = check_seeds(seed, len(batch), "mels")
        plan = self.plan(num_steps, schedule, sampler)
        bound = self.bind(batch)
        length = batch.shape[-1] * self.hop_length
        speech = draw(bound, ItemNoise(seeds, self.device), length, plan, on_step)
        speech = speech.clamp(-1, 1)  # the waveform, never the noisy state
        return speech if mel.ndim == 3 else speech[0]

    def bind(self, mel: Tensor) -> Bound:
        """The denoiser, told a batch of mels (B, n_mels, frames) of the model's dialect: what samplers drive."""
        return self.denoiser.bind(Condition(mel), self._network)

    def __call__(self, waveform: Tensor, sample_rate: int, **options: Any) -> Tensor:
        """Copy synthesis: the mel of a recording turned back into speech; options are those of `decode`."""
        speech = self.decode(self.mel(waveform, sample_rate), **options)
        return speech if waveform.ndim == 2 else speech[0]

    def plan(
        self,
        num_steps: int | None = None,
        schedule: str | Sequence[float] | None = None,
        sampler: str | None = None,
    ) -> Plan:
        """Sampler and times of `decode` with these arguments: those found by a search, unless experts choose.

        Raises:
            SamplingError: steps, schedule or sampler are not possible.
        """
        trained = self.denoiser.schedule
        discrete = isinstance(trained, DiscreteSchedule)
        default = DISCRETE_STEPS if discrete else CONTINUOUS_STEPS
        if schedule is None and sampler is None:
            known = plan_for(self.config.plans, default if num_steps is None else num_steps)
            if known is not None:
                return known
        if num_steps is None:
            if schedule is None and discrete:
                schedule = "fast6"
            elif needs_num_steps(schedule):
                num_steps = default
        grid = make_grid(trained, num_steps, schedule, start=self.denoiser.start_time)
        return Plan.along(sampler or ("ddpm" if discrete else "ddim"), grid)
