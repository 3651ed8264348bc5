"""A network that knows its schedule, what it predicts and its noise: x_t, t and a condition in, x_0 out."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavediff.audio.resampling import RateChange
from wavediff.backbones import Condition, MelAdapter, MelInversion
from wavediff.backbones.adapter import on_plain_scale
from wavediff.diffusion.noise import ItemNoise, Noise
from wavediff.diffusion.priors import ShapedNormal
from wavediff.diffusion.schedules import Prediction, Schedule, predict_x0
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec


class Denoiser(nn.Module):
    """Backbone, schedule, prediction kind and prior in one.

    Args:
        backbone: (x_t (B, N), t (B,), prepared condition) -> prediction (B, N), with `prepare(cond)`.
        schedule: alpha(t) and sigma(t).
        prediction: what the backbone was trained to return.
        prior: what the noise of the process looks like; None for white noise, from which sampling starts.
        codec: compresses the mels of a vocoder, which is an autoencoder then; not used here.
        pretransform: the vocoder with a codec in whose latents this denoiser works; not used here.
        inversion: improves the pseudo-inverse of a mel, where the prior is shaped by one.
        adapters: each makes, of mels of one dialect, mels of other frames; all else works in those.
        adapts: which of them this model uses, and the dialect of its mels; None for none.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        prediction: Prediction,
        prior: ShapedNormal | None = None,
        codec: nn.Module | None = None,
        pretransform: "Denoiser | None" = None,
        inversion: MelInversion | None = None,
        adapters: Sequence[MelAdapter] = (),
        adapts: tuple[int, MelSpec] | None = None,
    ) -> None:
        super().__init__()
        self.codec, self.pretransform, self.inversion = codec, pretransform, inversion
        self.adapters, self._adapts = nn.ModuleList(adapters), adapts
        rates = None if adapts is None else (adapters[adapts[0]].config.inner.sample_rate, adapts[1].sample_rate)
        self.rates = None if rates is None or rates[0] == rates[1] else RateChange(*rates)
        self.backbone, self.schedule, self.prediction, self.prior = backbone, schedule, prediction, prior

    def x0_from(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean estimate (B, N) that the network's `output` at (x_t, t) stands for."""
        return predict_x0(self.prediction, output, x_t, self.schedule.alpha(t), self.schedule.sigma(t))

    def forward(self, x_t: Tensor, t: Tensor, prepared: object) -> Tensor:
        """x_t (B, N) at times t (B,) -> estimate of x_0 (B, N)."""
        return self.x0_from(self.backbone(x_t, t, prepared), x_t, t)

    @property
    def adapter(self) -> MelAdapter | None:
        """The network that the mels of this model pass first."""
        return None if self._adapts is None else cast(MelAdapter, self.adapters[self._adapts[0]])

    def on_plain_scale(self, mel: Tensor) -> Tensor:
        """A mel of this model, as its adapter takes it."""
        return mel if self._adapts is None else on_plain_scale(mel, self._adapts[1])

    def signal_length(self, samples: int) -> int:
        """Samples of the signal that is diffused, for so many samples of speech."""
        return samples if self.rates is None else samples * self.rates.unit // self.rates.made

    def at_rate(self, signal: Tensor) -> Tensor:
        """A signal (B, N) that is diffused, at the sample rate of the speech."""
        return signal if self.rates is None else self.rates(signal)

    def bind(self, cond: Condition, network: Any = None) -> "Bound":
        """The denoiser of one condition, with all that no step changes computed.

        Args:
            cond: of the batch.
            network: evaluates the backbone faster; the backbone itself by default.
        """
        network = self.backbone if network is None else network
        adapter = self.adapter
        if adapter is not None and cond.mel is not None:
            with torch.autocast(cond.mel.device.type, enabled=False):
                cond = dataclasses.replace(cond, mel=adapter(self.on_plain_scale(cond.mel)))
        if self.prior is not None and cond.mel is not None:
            envelope, magnitude = self.prior.spectra(cond.mel)
            if self.inversion is not None:
                with torch.autocast(magnitude.device.type, enabled=False):
                    magnitude = self.prior.with_bands(self.inversion(magnitude), magnitude)
            cond = dataclasses.replace(cond, envelope=envelope, magnitude=magnitude)
        return Bound(self, network, cond, network.prepare(cond))

    @property
    def start_time(self) -> float:
        """The time at which sampling starts."""
        return 1.0 if self.prior is None else self.prior.config.start_time


@dataclass(frozen=True)
class Bound:
    """A denoiser and one batch's condition. Signals are (B, N), times (B,)."""

    denoiser: Denoiser
    network: Callable[[Tensor, Tensor, object], Tensor]
    cond: Condition
    prepared: object

    @property
    def schedule(self) -> Schedule:
        """Of the process."""
        return self.denoiser.schedule

    @property
    def prediction(self) -> Prediction:
        """What the network returns."""
        return self.denoiser.prediction

    def predict(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What the network returns."""
        return self.network(x_t, t, self.prepared)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Estimate of x_0."""
        return self.denoiser.x0_from(self.predict(x_t, t), x_t, t)

    def noise(self, white: Tensor) -> Tensor:
        """White noise -> the noise of the process."""
        prior, envelope = self.denoiser.prior, self.cond.envelope
        return white if prior is None or envelope is None else prior.shape(white, envelope)

    def noise_of(self, items: ItemNoise) -> Noise:
        """Draws the noise of the process instead of white noise: what a sampler with fresh noise needs."""
        return _ProcessNoise(self, items)

    def guess(self, white: Tensor, iterations: int | None = None, low_latency: bool = False) -> Tensor:
        """What sampling starts from beside noise, its phase drawn from white noise; for the first items of the
        batch, as many as `white` has.

        Raises:
            ConfigError: the prior is white and guesses nothing.
        """
        prior = self.denoiser.prior
        if prior is None or self.cond.envelope is None or self.cond.magnitude is None:
            raise ConfigError("prior: white noise makes no guesses; set prior.power above 0, or guess_share to 0")
        count = len(white)
        return prior.guess(white, self.cond.envelope[:count], self.cond.magnitude[:count], iterations, low_latency)

    def finished(self, speech: Tensor) -> Tensor:
        """The result of sampling (B, N) -> speech: brought to the mel as far as the prior says."""
        prior = self.denoiser.prior
        if prior is None or not prior.config.consistency or self.cond.magnitude is None:
            return speech
        return prior.stft.synthesis(prior.brought(prior.stft.analysis(speech), self.cond.magnitude))

    def whitened(self, signal: Tensor) -> Tensor:
        """Spectrum (B, frames, bins) of a signal over the envelope of the noise, a (B, N) one for a white prior."""
        prior, envelope = self.denoiser.prior, self.cond.envelope
        return signal if prior is None or envelope is None else prior.stft.analysis(signal) / envelope


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): an estimate with a condition, led further away
    from the one without.

    Attributes:
        bound: told the condition.
        free: told that there is none.
        scale: 1 is the condition alone, 0 none, above 1 more of what the condition makes of it.
    """

    bound: Bound
    free: Bound
    scale: float

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Estimate of x_0."""
        if self.scale == 1:
            return self.bound(x_t, t)
        without = self.free(x_t, t)
        # Eq. 6, for x_0: estimates of x_0, noise and v are affine in each other at equal x_t and t.
        return without if self.scale == 0 else without + self.scale * (self.bound(x_t, t) - without)


@dataclass(frozen=True)
class _ProcessNoise:
    bound: Bound
    items: ItemNoise

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.bound.noise(self.items.draw().take(length, dtype))
