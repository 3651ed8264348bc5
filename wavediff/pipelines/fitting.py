"""Which kind of a class fits what is known of a sound."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wavediff.arguments import Values, as_list
from wavediff.diffusion import ItemNoise, Schedule
from wavediff.diffusion.walk import diffuse, levels
from wavediff.mel.stft import float64_device
from wavediff.pipelines.filling import span_of
from wavediff.pipelines.pipeline import exact
from wavediff.pipelines.sounds import Labels, SoundPipeline

TIMES = (0.35, 0.5, 0.65, 0.8)  # at which estimates are compared: neither all noise nor all there


def misfit(
    estimate: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, known: Tensor, unknown: Tensor, count: int
) -> Tensor:
    """How far the estimates under each of `count` conditions lie from what is known: a diffusion classifier.

    Li et al. 2023, arXiv 2303.16203, of x_0: the signal is noised to a few times, with the same noise for all
    conditions. The condition whose estimates err least is the likeliest one.

    Args:
        estimate: (x_t (count, N), t (count,)) -> x_0 (count, N), each item under its own condition.
        schedule: of the process.
        known: the signal (1, N).
        unknown: where it is to be replaced (N,), boolean; the estimates are shown silence there.

    Returns:
        Mean square errors (count,) of the known part. The noise is fixed, so a signal has the same errors each time.
    """
    shown = torch.where(unknown, 0.0, known)
    noise = ItemNoise([0], known.device)
    errors = torch.zeros(count, device=known.device)
    for t in TIMES:
        x_t = diffuse(shown, noise.normal(known.shape[1]), levels(schedule, t)).expand(count, -1)
        times = torch.full((count,), t, dtype=torch.float64, device=float64_device(known.device))
        errors += (estimate(x_t, times) - known)[:, ~unknown].square().mean(1)
    return errors / len(TIMES)


class FittingPipeline(SoundPipeline):
    """Chooses the kind of a filling."""

    def fitting_kind(self, waveform: Values, sample_rate: int, start: float, end: float, label: str) -> str:
        """The kind of a class that `inpaint` fills a span with: the one that fits what lies outside the span best.

        Args:
            waveform, sample_rate, start, end: as `inpaint` takes them.
            label: a class; a kind is returned as it is.

        Raises:
            AudioError, ConfigError, SamplingError: as `inpaint`.
        """
        waveform = self._checked(waveform, sample_rate)
        return self._fitting_kind(label, *self._known(waveform, *span_of(start, end, len(waveform), self.sample_rate)))

    def _known(self, waveform: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """The signal (1, N) of a sound, and where it stands for samples `first` to `last` (N,)."""
        known = self._encode(waveform)
        unknown = torch.zeros(known.shape[1], dtype=torch.bool, device=self.device)
        unknown[first // self._hop * self._frame : math.ceil(last / self._hop) * self._frame] = True
        return known, unknown

    def _fitting(self, label: Labels, known: Tensor, unknown: Tensor) -> Labels:
        """A label, or several, each class with kinds replaced by the one that fits."""
        if label is None or not self.labels:
            return label
        if isinstance(label, str):
            return self._fitting_kind(label, known, unknown)
        names = as_list(label)
        if not names:
            return label
        for name in names:
            self._kinds(name)  # what is no label may not be a key either
        kinds = {name: self._fitting_kind(name, known, unknown) for name in dict.fromkeys(names)}
        return [kinds[name] for name in names]

    @exact
    def _fitting_kind(self, label: str, known: Tensor, unknown: Tensor) -> str:
        """The kind of a class that explains best what is known of a signal (1, N); see `misfit`.

        Raises:
            ConfigError: the model knows no such label.
        """
        kinds = self._kinds(label)
        if len(kinds) == 1 or bool(unknown.all()):
            return label
        indices = torch.tensor([self.config.labels.index(kind) for kind in kinds], device=self.device)
        errors = misfit(self._bind(indices), self.denoiser.schedule, known, unknown, len(kinds))
        return kinds[int(errors.argmin())]
