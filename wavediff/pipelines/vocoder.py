"""Mel spectrograms to speech, and recordings to mels and back."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavediff.audio import resample
from wavediff.backbones import Condition
from wavediff.checkpoint import load_checkpoint, save_checkpoint
from wavediff.denoiser import Denoiser
from wavediff.diffusion import DiscreteSchedule, ItemNoise, expand, make_sampler
from wavediff.engine import accelerate
from wavediff.errors import AudioError, CheckpointError, ConfigError, SamplingError
from wavediff.mel import MelSpec, MelTransform, check_mel, convert
from wavediff.model import ModelConfig

BUNDLED = Path(__file__).resolve().parent.parent / "weights" / "vocoder.safetensors"
MODEL_FILE = "model.safetensors"
CONTINUOUS_STEPS = 2  # by default, of a model that knows no steps of its own

OnStep = Callable[[int, int], None]


class Vocoder:
    """A diffusion vocoder.

        vocoder = wavediff.Vocoder.from_pretrained("model.safetensors")
        mel = vocoder.mel(waveform, sample_rate)     # (B, n_mels, frames)
        speech = vocoder.decode(mel, seed=0)         # (B, frames * hop_length), in [-1, 1]

    Args:
        config: of the model; it must have a mel.
        denoiser: the model.
        facts: how it came about.
    """

    def __init__(self, config: ModelConfig, denoiser: Denoiser, facts: dict[str, Any] | None = None) -> None:
        if config.mel is None:
            raise ConfigError("config.mel: this model takes no mel, so it cannot vocode; use a vocoder's checkpoint")
        self.config, self.denoiser, self.facts = config, denoiser, facts or {}
        self.mel_spec: MelSpec = config.mel
        self._network = accelerate(denoiser.backbone)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str] | None = None, device: str = "auto") -> "Vocoder":
        """Load a model file.

        Args:
            source: a `.safetensors` file, or a folder that holds `model.safetensors`; None for the bundled model.
            device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

        Raises:
            CheckpointError: the file is missing or not a sound wavediff vocoder.
            ConfigError: the device is not there.
        """
        path = BUNDLED if source is None else Path(source)
        if source is None and not path.is_file():
            raise CheckpointError("no model is bundled with this version; train one and pass its file (--checkpoint)")
        checkpoint = load_checkpoint(path / MODEL_FILE if path.is_dir() else path)
        return cls(checkpoint.config, checkpoint.build(), checkpoint.facts).to(device)

    def to(self, device: str | torch.device) -> "Vocoder":
        """Move the model; "auto" takes a GPU where there is one.

        Raises:
            ConfigError: the device is not there.
        """
        target = pick_device(device)
        self.denoiser.to(target)
        self._network = accelerate(self.denoiser.backbone)
        return self

    def save(self, path: str | os.PathLike[str], *, half: bool = False, overwrite: bool = False) -> None:
        """Write a model file that `from_pretrained` reads; `half` stores float16."""
        save_checkpoint(path, self.config, self.denoiser.state_dict(), self.facts, half=half, overwrite=overwrite)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters()).device

    @property
    def sample_rate(self) -> int:
        """Of the speech, in Hz."""
        return self.config.sample_rate

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
            num_steps: network evaluations; by default those of `schedule`, or 2 for a model of continuous time.
            schedule: for models of discrete steps: "fast6", the published six (the default); "full", all T steps; or
                ascending betas.
            sampler: "ddpm" (ancestral, the default for discrete steps) or "ddim" (deterministic, the default for
                continuous time).
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
        seeds = [seed] * len(batch) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(batch):
            raise SamplingError(f"seed: {len(seeds)} seeds for {len(batch)} mels; give one number, or one an item")
        grid = self.grid(num_steps, schedule)
        name = sampler or ("ddpm" if isinstance(self.denoiser.schedule, DiscreteSchedule) else "ddim")
        noise = ItemNoise(seeds, self.device)
        bound = self.denoiser.bind(Condition(batch), self._network)

        def check_step(index: int, x_t: Tensor) -> None:
            if not x_t.isfinite().all():
                raise SamplingError(
                    f"step {index + 1} of {len(grid) - 1} gave NaN or infinite samples; use another checkpoint, "
                    "schedule or precision"
                )
            if on_step is not None:
                on_step(index + 1, len(grid) - 1)

        length = batch.shape[-1] * self.hop_length
        x_T = bound.noise(noise.normal(length))
        if self.denoiser.start_time < 1:
            t = grid[:1].expand(len(batch))
            guess = bound.guess(noise.normal(length))
            process = self.denoiser.schedule
            x_T = expand(process.alpha(t), x_T) * guess + expand(process.sigma(t), x_T) * x_T
        speech = make_sampler(name)(bound, x_T, self.denoiser.schedule, grid, bound.noise_of(noise), check_step)
        speech = speech.clamp(-1, 1)  # the waveform, never the noisy state
        return speech if mel.ndim == 3 else speech[0]

    def __call__(self, waveform: Tensor, sample_rate: int, **options: Any) -> Tensor:
        """Copy synthesis: the mel of a recording turned back into speech; options are those of `decode`."""
        speech = self.decode(self.mel(waveform, sample_rate), **options)
        return speech if waveform.ndim == 2 else speech[0]

    def grid(self, num_steps: int | None, schedule: str | Sequence[float] | None) -> Tensor:
        """The descending times (S + 1,) that `decode` visits with these arguments."""
        trained = self.denoiser.schedule
        start = self.denoiser.start_time
        if not isinstance(trained, DiscreteSchedule):
            if schedule is not None:
                raise SamplingError(f"schedule: {schedule!r} is for models of discrete steps; give num_steps")
            return trained.spaced_grid(CONTINUOUS_STEPS if num_steps is None else num_steps, start)
        if schedule is None:
            return self.grid(None, "fast6") if num_steps is None else trained.spaced_grid(num_steps, start)
        if schedule == "full":
            grid = trained.full_grid()
        elif schedule == "fast6":
            grid = trained.align(trained.fast_betas)
        elif isinstance(schedule, str):
            raise SamplingError(f"schedule: {schedule!r} is unknown; choose fast6, full, or give ascending betas")
        else:
            grid = trained.align(schedule)
        if num_steps not in (None, len(grid) - 1):
            raise SamplingError(
                f"num_steps: {num_steps} contradicts the schedule, which has {len(grid) - 1} steps; give one of both"
            )
        return grid


def pick_device(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Raises:
        ConfigError: no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: {device!r} is not a device; choose auto, cpu or cuda") from error
    if target.type == "cuda" and (not torch.cuda.is_available() or (target.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            f"device: {device} is not there, torch sees {torch.cuda.device_count()} GPUs; use auto or cpu"
        )
    return target
