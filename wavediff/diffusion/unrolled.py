"""A plan of sampling as plain sums: what is left of a sampler once its schedule and grid are known.

Every sampler's states are sums of where it started, of the noise it drew and of the denoiser's estimates, each times a
number that depends on schedule and grid alone. Written as these numbers a plan can be walked by an engine that has only
a part of the signal at hand, captured as one graph, or exported.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.plans import Plan
from wavediff.diffusion.schedules import Schedule
from wavediff.errors import SamplingError

NEGLIGIBLE = 1e-9  # beside the largest coefficient of a sum; what float64 leaves of a cancelled term is 1e-16
LINEAR_TOLERANCE = 1e-5  # beside the largest term of a sum: thousands of negligible ones may be missing


@dataclass(frozen=True)
class Combination:
    """A sum of signals: `coefficients[i]` times the i-th of (start, draw 0, draw 1, ..., estimate 0, ...).

    Attributes:
        terms: (index of the signal, coefficient), negligible ones left out.
    """

    terms: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Unrolled:
    """The same as a `Plan` on a `Schedule`, as sums.

    Attributes:
        draws: how often fresh noise is drawn.
        times: of the evaluations, in turn.
        inputs: x_t of each evaluation, a sum of the start, the draws and the estimates before it.
        output: x_0, a sum likewise.

    Signals are counted as the start (0), the draws (1 ... draws), then the estimates of x_0.
    """

    draws: int
    times: tuple[float, ...]
    inputs: tuple[Combination, ...]
    output: Combination


@functools.lru_cache(maxsize=64)  # a plan is walked for every utterance, and on every question for the delay
def unroll(plan: Plan, schedule: Schedule) -> Unrolled:
    """Walk a plan once on unit vectors, one for each signal that can occur, and read off the coefficients.

    Raises:
        SamplingError: the sampler is not linear in the start, its draws and the estimates, so no sums stand for it.
    """
    sampler, grid = plan.make(), plan.grid
    most = plan.evaluations
    width = 1 + len(grid) - 1 + most  # the start, at most one draw a step, the estimates
    tracer = _Tracer(width, first_estimate=width - most)
    x_0 = sampler(tracer.denoise, tracer.unit(0), schedule, grid, tracer)
    # Draws that did not happen leave no gap.
    shift = width - most - 1 - tracer.draws

    def combination(x: Tensor) -> Combination:
        row = x[0]
        least = NEGLIGIBLE * float(row.abs().max())
        kept = [(index, value) for index, value in enumerate(row.tolist()) if abs(value) > least]
        return Combination(tuple((index - shift if index >= width - most else index, value) for index, value in kept))

    unrolled = Unrolled(tracer.draws, tuple(tracer.times), tuple(map(combination, tracer.inputs)), combination(x_0))
    _check_linear(unrolled, plan, schedule)
    return unrolled


def _check_linear(unrolled: Unrolled, plan: Plan, schedule: Schedule) -> None:
    """Walk the sampler on random signals, and compare with the sums."""
    walk = _RandomWalk()
    start = walk.signal()
    x_0 = plan.make()(walk.denoise, start, schedule, plan.grid, walk)
    signals = torch.cat([start, *walk.draws, *walk.estimates])
    expected = [*walk.inputs, x_0]
    sums = [*unrolled.inputs, unrolled.output]
    same = (len(walk.draws), len(walk.estimates)) == (unrolled.draws, len(unrolled.times))
    if same:
        for x, combination in zip(expected, sums, strict=True):
            coefficients = torch.zeros(len(signals), dtype=torch.float64, device="cpu")
            for index, value in combination.terms:
                coefficients[index] = value
            terms = coefficients[:, None] * signals
            same = same and bool((terms.sum(dim=0) - x[0]).abs().max() <= LINEAR_TOLERANCE * terms.abs().max())
    if not same:
        raise SamplingError(
            f"sampler: {plan.sampler} is not linear in the estimates of the network, so it can be neither streamed nor "
            f"exported; choose another one"
        )


class _RandomWalk:
    """Denoiser and noise that give random signals (1, 16), some of them beyond full scale, and remember them."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self.draws: list[Tensor] = []
        self.estimates: list[Tensor] = []
        self.inputs: list[Tensor] = []

    def signal(self) -> Tensor:
        return 3 * torch.randn(1, 16, dtype=torch.float64, device="cpu", generator=self._generator)

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.inputs.append(x_t)
        self.estimates.append(self.signal())
        return self.estimates[-1]

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        self.draws.append(self.signal())
        return self.draws[-1]


class _Tracer:
    """Denoiser and noise of signals that are rows of coefficients."""

    def __init__(self, width: int, first_estimate: int) -> None:
        self.width, self.first_estimate = width, first_estimate
        self.draws = 0
        self.times: list[float] = []
        self.inputs: list[Tensor] = []

    def unit(self, index: int) -> Tensor:
        return torch.eye(self.width, dtype=torch.float64, device="cpu")[index : index + 1]

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.inputs.append(x_t)
        self.times.append(float(t[0]))
        return self.unit(self.first_estimate + len(self.times) - 1)

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        self.draws += 1
        return self.unit(self.draws)
