"""How well a mel fits speech seen through a dialect: a likelihood, by three statistics of each band.

They are the mean over the louder half of the frames, the mean over the quieter half, and how far a band moves from
a frame to the next. What a dialect makes of them follows from its filterbank and a smooth table of speech: the mean
of a band is the logarithm of its triangle's share of the table's spectrum, and so it also shows where a triangle is
so narrow that it happens to hold two bins or three, which no voice resembles. How recordings differ from the table is
a Gaussian process over mel frequency (a gain, smooth and rough deviations, and what is a band's own).

The tables and the processes were fitted to 210 clips of LJSpeech's training part, LibriTTS and LibriSpeech.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wavediff.mel.spec import MelSpec
from wavediff.mel.transform import PER_NEPER, filterbank, lowest, nepers, stft_scale

_STEP = 150.0  # of the tables [mel]
_MOST_FRAMES = 8192
_LEAST_BANDS = 10
_REFERENCE_WINDOW, _REFERENCE_HOP = 1024, 0.01161  # [samples], [s]
_ABOVE_FLOOR = 1.0  # nepers; a band whose mean is lower has lost its shape
_LEAST_MOVE = 0.05  # nepers
# Of the temporal standard deviation, mean over bands [nepers], and of its logarithm.
_SPREAD, _SPREAD_LOG_SD = 1.358, 0.076
# Natural logarithms of how much less likely a dialect is ...
_BELOW_FLOOR = 3.0  # below whose floor there are values: predicted mels do that
_OTHER_FLOOR = 5.0  # that would not have cut the values where they were cut
_PILE, _SAME = 5, 2e-4  # values that lie at the lowest one, within so many nepers: they were cut there
_AT_FLOOR = 0.02  # nepers


@dataclass(frozen=True)
class _Process:
    """A Gaussian process over mel frequency: standard deviations [nepers] and reaches [mel] of what it sums."""

    gain: float
    smooth: float
    smooth_reach: float
    rough: float
    rough_reach: float
    own: float
    low: float  # the band's own share is (1 + (low exp(-f / low_reach))^2)^(1/2) times as large in low bands
    low_reach: float

    def covariance(self, centre: Tensor) -> Tensor:
        """(n, n) for bands at `centre` (n,) [mel]."""
        distance = (centre[:, None] - centre[None]).abs()
        own = self.own**2 * (1 + (self.low * (-centre / self.low_reach).exp()).square())
        smooth = self.smooth**2 * (-0.5 * (distance / self.smooth_reach).square()).exp()
        rough = self.rough**2 * (-distance / self.rough_reach).exp()
        return self.gain**2 + smooth + rough + own.diag()


# Speech every 150 mel from 0 Hz on: STFT magnitude (window of 1024 at 22 to 24 kHz) [nepers] of louder and quieter
# frames, and the mean absolute change from a frame to the next [log nepers].
# fmt: off
_LOUD_TABLE = (
    -2.90, -1.48, -0.15, 0.31, 0.08, -0.40, -0.99, -1.46, -1.69, -1.68, -1.66, -1.73,
    -1.59, -1.60, -1.78, -2.09, -2.87, -3.51, -3.29, -3.10, -3.77, -5.80, -8.59,
)
_QUIET_TABLE = (
    -4.44, -3.51, -2.13, -1.79, -2.24, -3.38, -3.76, -3.75, -4.21, -4.86, -4.56, -4.48,
    -4.57, -4.75, -4.90, -4.88, -5.44, -5.51, -5.31, -5.61, -7.42, -7.54, -11.30,
)
_MOVES_TABLE = (
    -0.95, -1.08, -0.87, -0.63, -0.60, -0.64, -0.64, -0.71, -0.71, -0.68, -0.76, -0.82,
    -0.75, -0.90, -0.83, -0.82, -0.74, -0.65, -0.73, -0.76, -0.65, -0.57, -0.74,
)
# fmt: on
_LOUD = _Process(0.274, 0.708, 63, 0.202, 228, 0.0295, 4.987, 135)
_QUIET = _Process(0.523, 0.773, 98, 0.301, 252, 0.0293, 7.702, 171)
_MOVES = _Process(0.061, 0.067, 292, 0.065, 180, 0.0404, 1.611, 630)
_LOUD_TEXTURE, _QUIET_TEXTURE = 0.057, 0.853
_WINDOW_GAIN = 0.897  # power of the window's length that levels grow with: 1 for tones, 0.5 for noise
_MOVES_BINS, _MOVES_HOP = -0.044, 0.348  # powers of the bins averaged and of the hop


class Fit(NamedTuple):
    """How a mel fits a dialect.

    Attributes:
        score: Log-likelihood of its statistics.
        deviation: Mean square deviation, 1 for speech like that of the tables.
        penalty: How much less likely its lowest values make the dialect, natural logarithm.
    """

    score: float
    deviation: float
    penalty: float


def speech_fit(mel: Tensor, spec: MelSpec) -> Fit | None:
    """How well a mel (n_mels, frames) of at least two frames fits; None where nearly all of it is at the floor."""
    level = nepers(mel[:, :_MOST_FRAMES].double().cpu(), spec)
    order = level.mean(0).argsort()
    half = len(order) // 2
    loud = order[half:].sort().values
    louder = level[:, loud].mean(1)
    reach = _expected(spec)
    kept = reach.heard & (louder > math.log(lowest(spec)) + _ABOVE_FLOOR)
    if int(kept.sum()) < _LEAST_BANDS:
        return None
    followed = loud[loud < level.shape[1] - 1]
    moves = (level[:, followed + 1] - level[:, followed]).abs().mean(1).clamp(min=_LEAST_MOVE).log()
    seen = (louder, level[:, order[:half]].mean(1), moves)
    score, deviation = 0.0, 0.0
    for value, mean, process in zip(seen, reach.means, (_LOUD, _QUIET, _MOVES), strict=True):
        root = _root(process, spec, tuple(kept.tolist()))
        white = torch.linalg.solve_triangular(root, (value - mean)[kept, None], upper=False)
        share = len(kept) / int(kept.sum())
        score -= share * float(white.square().sum() / 2 + root.diagonal().log().sum())
        deviation += float(white.square().mean()) / len(seen)
    # Of two dialects that explain a mel alike, the one whose values are spread over fewer nepers is the likelier.
    score -= 2 * len(kept) * math.log(PER_NEPER[spec.log] * spec.scale)
    spread = float(level[:, loud].std(1, correction=0)[kept].mean())
    score -= (math.log(max(spread, 1e-3) / _SPREAD) / _SPREAD_LOG_SD) ** 2 / 2
    return Fit(score, deviation, _floor_penalty(level, spec))


@functools.lru_cache(maxsize=64)
def _root(process: _Process, spec: MelSpec, kept: tuple[bool, ...]) -> Tensor:
    return torch.linalg.cholesky(process.covariance(_expected(spec).centre[list(kept)]))


def _floor_penalty(level: Tensor, spec: MelSpec) -> float:
    least = float(level.min())
    above = least - math.log(lowest(spec))
    penalty = _BELOW_FLOOR if above < -_AT_FLOOR else 0.0
    if abs(above) > _AT_FLOOR and int((level < least + _SAME).sum()) >= _PILE:
        penalty += _OTHER_FLOOR
    return penalty


class _Expected(NamedTuple):
    heard: Tensor  # (n_mels,), whether any bin falls into the band
    centre: Tensor  # (n_mels,) [mel]
    means: tuple[Tensor, Tensor, Tensor]  # (n_mels,) each: louder, quieter, moves


@functools.lru_cache(maxsize=32)
def _expected(spec: MelSpec) -> _Expected:
    """What the dialect makes of the tables."""
    triangles = filterbank(spec).double()
    frequency = torch.arange(triangles.shape[1], dtype=torch.float64, device="cpu") * (spec.sample_rate / spec.n_fft)
    position = 2595 * (1 + frequency / 700).log10()
    area = triangles.sum(1).clamp(min=1e-12)
    moves, independent = triangles @ _at(position, _MOVES_TABLE) / area, _independent(triangles, position, spec)
    hop = spec.hop_length / spec.sample_rate / _REFERENCE_HOP
    means = (
        _mean_level(triangles, position, _LOUD_TABLE, _LOUD_TEXTURE, spec),
        _mean_level(triangles, position, _QUIET_TABLE, _QUIET_TEXTURE, spec),
        moves + _MOVES_BINS * independent.clamp(min=0.5).log() + _MOVES_HOP * math.log(hop),
    )
    return _Expected(triangles.sum(1) > 0, triangles @ position / area, means)


def _mean_level(triangles: Tensor, position: Tensor, table: Sequence[float], texture: float, spec: MelSpec) -> Tensor:
    bands = (triangles @ _at(position, table).exp()).clamp(min=1e-12) * stft_scale(spec)
    # The mean of the logarithm is closer to the logarithm of the mean, the more bins a band averages.
    averaged = texture * (1 - 1 / _independent(triangles, position, spec, table).clamp(min=1))
    return bands.log() + averaged + _WINDOW_GAIN * math.log(spec.win_length / _REFERENCE_WINDOW)


def _independent(triangles: Tensor, position: Tensor, spec: MelSpec, table: Sequence[float] | None = None) -> Tensor:
    """(n_mels,): how many independent bins a band averages; neighbours are not where the FFT is padded."""
    weights = triangles * _at(position, table if table is not None else _LOUD_TABLE).exp()
    bins = weights.sum(1).clamp(min=1e-12).square() / weights.square().sum(1).clamp(min=1e-24)
    return bins * spec.win_length / spec.n_fft


def _at(position: Tensor, table: Sequence[float]) -> Tensor:
    """The table at `position` [mel], linear between its entries."""
    values = torch.tensor(table, dtype=torch.float64, device="cpu")
    place = (position / _STEP).clamp(max=len(table) - 1.001)
    below = place.long()
    return torch.lerp(values[below], values[below + 1], place - below)
