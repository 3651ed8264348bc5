"""What a vocoder does with mels: it makes them of recordings, takes those of its own dialect and of others, and says
where one asks for speech that is louder than full scale.
"""

import functools
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from wavediff.arguments import Values, as_list, as_waveform, check_sample_rate, shown, whole
from wavediff.audio import resample
from wavediff.errors import AudioError, ClippingWarning, ConfigError, MelError, SamplingError
from wavediff.libraries import OwnDraws
from wavediff.mel import MelSpec, MelTransform, can_convert, checked_mel
from wavediff.mel.check import dialect_of
from wavediff.mel.transform import as_spec
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.denoiser import Denoiser
from wavediff.pipelines.pipeline import Pipeline, exact


class MelPipeline(Pipeline):
    """A model that is conditioned on mels.

    Args:
        config: of the model; it must have a mel.
        denoiser: the model.
        facts: how it came about.
    """

    def __init__(self, config: ModelConfig, denoiser: Denoiser, facts: dict[str, Any] | None = None) -> None:
        if config.mel is None:
            raise ConfigError(
                "config.mel: this model takes no mel, it makes sounds from nothing; use `wavediff generate`, or "
                "wavediff.Generator in Python"
            )
        super().__init__(config, denoiser, facts)
        self.mel_spec: MelSpec = config.mel

    def _like(self, config: ModelConfig, denoiser: Denoiser) -> Self:
        """Another model that runs as this one does."""
        return type(self)(config, denoiser, self.facts).to(self.device)

    def for_mels(self, mel_spec: MelSpec | str | None) -> Self:
        """A vocoder of mels of another dialect: this one where they can be converted, else one of the same weights.

        A network at frame rate sees the spectrum that a mel stands for, not the mel, so its weights serve every
        dialect. Bands of frames of another FFT length are brought to frames of the network's. Rate and hop of the
        speech are those of the dialect.

        Args:
            mel_spec: dialect of the mels, or its preset's name; None for the model's own.

        Raises:
            MelError: this network cannot take them.
            ConfigError: no preset is called so.
        """
        spec = self._spec(mel_spec)
        if spec == self.mel_spec or can_convert(spec, self.mel_spec).kind != "no":
            return self
        return self._like(*_retuned(self.config, self.denoiser, spec))

    @property
    def hop_length(self) -> int:
        """Samples a mel frame becomes."""
        return self.mel_spec.hop_length

    @exact
    def mel(self, waveform: Values, sample_rate: int, mel_spec: MelSpec | str | None = None) -> Tensor:
        """The mel of a recording.

        Args:
            waveform: (N,) or (B, N), a tensor, array or list of floats, nominally in [-1, 1].
            sample_rate: its rate in Hz; another one than the dialect's is resampled.
            mel_spec: dialect of the mel, or its preset's name; by default the model's own.

        Returns:
            (B, n_mels, frames), on the model's device.

        Raises:
            AudioError: the waveform is not one, empty, not finite, too short, or far beyond full scale; or the rate is
                none.
            ConfigError: `mel_spec` names no preset.
        """
        samples = check_scale(as_waveform(waveform))
        if samples.ndim == 2 and samples.shape[1] <= _MOST_CHANNELS < samples.shape[0]:
            shape = tuple(samples.shape)
            raise AudioError(f"waveform: {shape} looks like (samples, channels); give (N,), such as the channels' mean")
        batch = samples.reshape(-1, samples.shape[-1]).to(self.device, torch.float32)
        spec = self._spec(mel_spec)
        if (sample_rate := check_sample_rate(sample_rate)) != spec.sample_rate:
            batch = resample(batch, sample_rate, spec.sample_rate)
        transform = self._transform if spec == self.mel_spec else MelTransform(spec)
        return transform.to(self.device)(batch)

    @functools.cached_property
    def _transform(self) -> MelTransform:
        return MelTransform(self.mel_spec)

    def _converted(self, mel: Values, mel_spec: MelSpec | str | None) -> Tensor:
        """A mel (B, n_mels, frames), checked, in the model's dialect."""
        if mel_spec == "auto":
            mel_spec = dialect_of(mel, self.mel_spec)
        return checked_mel(mel, None if mel_spec is None else self._dialect(mel_spec), self.mel_spec)

    def _dialect(self, mel_spec: MelSpec | str | None) -> MelSpec:
        """The dialect of that name, if its mels can be converted.

        Raises:
            MelError: they cannot; the message tells the vocoder that takes them, if there is one.
        """
        spec = self._spec(mel_spec)
        if spec != self.mel_spec and can_convert(spec, self.mel_spec).kind == "no":
            _retuned(self.config, self.denoiser, spec)  # raises where that is no way out
            raise MelError(
                f"mel: {spec.name} cannot be turned into {self.mel_spec.name}, but this network takes it too; decode "
                f"with vocoder.for_mels({spec.name!r}), whose speech has {spec.sample_rate} Hz"
            )
        return spec

    def _spec(self, mel_spec: MelSpec | str | None) -> MelSpec:
        return self.mel_spec if mel_spec is None else as_spec(mel_spec)


LOUDEST = 30.0  # sample of a recording that is taken: whatever is louder was never in [-1, 1]


def check_scale(waveform: Tensor, source: str = "waveform") -> Tensor:
    """The waveform (any shape); its mel would be taken for one of another dialect if it had another scale than [-1, 1].

    Raises:
        AudioError: it has; the message begins with `source`.
    """
    if waveform.numel() and (peak := float(waveform.abs().max())) > LOUDEST:
        raise AudioError(f"{source}: its samples reach {peak:.3g}, and full scale is 1; divide them by {peak:.3g}")
    return waveform


def _retuned(config: ModelConfig, denoiser: Denoiser, spec: MelSpec) -> tuple[ModelConfig, Denoiser]:
    """Configuration and denoiser with the same weights for mels of dialect `spec`.

    That is possible where the network sees the spectrum that a mel stands for, and not its bands: where the mel shapes
    the noise, and no weight's shape depends on the dialect.

    Raises:
        MelError: the network takes bands, or cannot take such frames.
    """
    own = config.mel
    if own is None or config.prior.power == 0:
        raise _refused(spec, own, "takes the bands of its own dialect")
    try:
        other = config.of_dialect(spec)
        with torch.device("cpu"), OwnDraws():  # whatever the caller's default device
            twin = build_denoiser(other).float()
    except ConfigError as error:
        raise _refused(spec, own, f"cannot take it: {error}") from error
    weights, places = denoiser.state_dict(), twin.state_dict()
    if {name: weight.shape for name, weight in weights.items()} != {n: place.shape for n, place in places.items()}:
        raise _refused(spec, own, "takes the bands of its own dialect")
    twin.load_state_dict(weights)
    return other, twin.eval().requires_grad_(False)


def _refused(spec: MelSpec, own: MelSpec | None, why: str) -> MelError:
    wanted, reason = ("its own", "") if own is None else (own.name, f" ({can_convert(spec, own).reason})")
    return MelError(
        f"mel: {spec.name} cannot be turned into {wanted}{reason}, and this network {why}; compute the mel in the "
        f"dialect wanted, or use a model trained on {spec.name}"
    )


_MOST_CHANNELS = 8  # of a recording whose samples come first
_AT_ONCE = 2**18  # columns: little beside the speech, which may be an hour


# Share of the samples. Speech turned up by 10 dB clips 1 % of them; mels of other dialects clip 7 to 46 %.
_MOST = 0.03
_INSIDE = ("wavediff", "torch")


class Clipping:
    """How many samples (..., N), clamped to [-1, 1], lie at a bound: that one did so before is next to impossible.

    Samples of exactly 0 are padding and not counted among the others.
    """

    def __init__(self, speech: Tensor | None = None) -> None:
        self.samples = self.of = 0
        if speech is not None:
            self.count(speech)

    def count(self, speech: Tensor) -> None:
        """Take in more."""
        pieces = speech.split(_AT_ONCE, dim=-1)
        counts = [torch.stack([torch.count_nonzero(p.abs() >= 1), torch.count_nonzero(p)]) for p in pieces]
        clipped, of = torch.stack(counts).sum(0).tolist() if counts else (0, 0)  # on a GPU one wait
        self.samples, self.of = self.samples + clipped, self.of + of

    @property
    def fault(self) -> str:
        """Cause and cure; empty where nothing was clipped."""
        if not self.samples:
            return ""
        what = f"clipped {self.samples} samples, the mel asks for speech beyond full scale"
        advice = "turn down what it is made from"
        if self.samples > _MOST * self.of:
            advice += (
                f"; {self.samples / self.of:.0%} of all samples is so much that the mel may be of another dialect (ask "
                "`wavediff doctor MEL`, pass mel_spec=) or padded with loud frames (pass lengths=)"
            )
        return f"{what}; {advice}"

    def warn(self, source: str = "mel") -> None:
        """Warn of what was clipped, if anything was, where this package was called from."""
        if self.samples:
            frame, level = sys._getframe(), 1
            # Decorators lie on the way, and torch's own functions where a compiler is about.
            while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _INSIDE:
                frame, level = frame.f_back, level + 1
            warnings.warn(f"{source}: {self.fault}", ClippingWarning, stacklevel=level)


def check_lengths(lengths: Sequence[int] | Tensor, mel: Tensor) -> Tensor:
    """Frames (B,) of each item of a batch of mels (B, n_mels, frames), on its device.

    Raises:
        SamplingError: it is no batch, or they are no whole numbers that fit it.
    """
    if mel.ndim != 3:
        raise SamplingError(f"lengths: are those of a batch (B, n_mels, frames), not of shape {tuple(mel.shape)}")
    items, frames = as_list(lengths), mel.shape[-1]
    if items is None:
        raise SamplingError(f"lengths: {shown(lengths)} is no list of whole numbers; give one number an item")
    counts = [whole(item, "lengths", 1, frames, SamplingError, unit="frames") for item in items]
    if len(counts) != len(mel):
        raise SamplingError(
            f"lengths: {counts[:8]} do not fit a batch of {len(mel)} mels of up to {frames} frames; give one "
            "number of frames, at least 1, an item"
        )
    return torch.tensor(counts, device=mel.device)
