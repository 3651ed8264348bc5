"""A plan of sampling as plain sums: what is left of a sampler once its schedule and grid are known.

Every sampler's states are sums of the state before, of the noise it drew and of the denoiser's estimates, each times a
number that depends on schedule and grid alone. Written as these numbers a plan can be walked by an engine that has only
a part of the signal at hand, captured as one graph, or exported.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.plan import Plan
from wavediff.diffusion.schedules import Schedule
from wavediff.errors import SamplingError

NEGLIGIBLE = 1e-9  # beside the largest coefficient of a sum; what float64 leaves of a cancelled term is 1e-16
LINEAR_TOLERANCE = 1e-5  # beside the largest signal: thousands of negligible terms may be missing

Terms = tuple[tuple[int, float], ...]
"""A sum of signals: (index of the signal, its coefficient), negligible ones left out."""


@dataclass(frozen=True)
class Node:
    """A sum of signals, and what is made of it.

    Attributes:
        terms: the sum.
        time: at which the denoiser estimates x_0 from the sum; None where the sum itself is the state after a step.
        last: indices of the signals that no later node reads.
    """

    terms: Terms
    time: float | None
    last: tuple[int, ...] = ()


@dataclass(frozen=True)
class Unrolled:
    """The same as a `Plan` on a `Schedule`, as sums.

    Attributes:
        draws: how often fresh noise is drawn.
        nodes: in the order in which they are computed; the last is the state after the last step, x_0.

    Signals are counted as the start (0), the draws (1 ... draws), then one for each node: its estimate or its state.
    """

    draws: int
    nodes: tuple[Node, ...]

    @property
    def times(self) -> tuple[float, ...]:
        """Of the evaluations, in turn."""
        return tuple(node.time for node in self.nodes if node.time is not None)


@functools.lru_cache(maxsize=64)  # a plan is walked for every utterance, and on every question for the delay
def unroll(plan: Plan, schedule: Schedule) -> Unrolled:
    """Walk a plan once on unit vectors, one for each signal that occurs, and read off the coefficients.

    Raises:
        SamplingError: the sampler is not linear in the start, its draws and the estimates, so no sums stand for it.
    """
    grid = plan.grid
    tracer = _Tracer(width=2 * len(grid) + plan.evaluations)  # the start, a draw and a state a step, the estimates
    for x in plan.make().states(tracer.denoise, tracer.unit("start"), schedule, grid, tracer):
        tracer.sum(x, None)
        x.copy_(tracer.unit("node"))  # the sampler goes on from it as from a new signal
    # The order in which the signals were made -> the start, all draws, all nodes.
    order = [index for kind in ("start", "draw", "node") for index, made in enumerate(tracer.kinds) if made == kind]
    place = {index: number for number, index in enumerate(order)}
    sums = [tuple(sorted((place[index], value) for index, value in terms)) for terms, _ in tracer.sums]
    last_reader = {index: number for number, terms in enumerate(sums) for index, _ in terms}
    nodes = []
    for number, (terms, (_, time)) in enumerate(zip(sums, tracer.sums, strict=True)):
        nodes.append(Node(terms, time, tuple(index for index, _ in terms if last_reader[index] == number)))
    unrolled = Unrolled(tracer.kinds.count("draw"), tuple(nodes))
    _check_linear(unrolled, plan, schedule)
    return unrolled


def _check_linear(unrolled: Unrolled, plan: Plan, schedule: Schedule) -> None:
    """Walk the sampler on random signals, and compare with the sums."""
    seen = _RandomWalk()
    start = seen.signal()
    for x in plan.make().states(seen.denoise, start, schedule, plan.grid, seen):
        seen.sums.append(x)
    same = (len(seen.draws), len(seen.sums)) == (unrolled.draws, len(unrolled.nodes))
    if same:
        estimates = iter(seen.estimates)
        signals = [start, *seen.draws]
        for x, node in zip(seen.sums, unrolled.nodes, strict=True):
            terms = [value * signals[index] for index, value in node.terms]
            largest = max(float(term.abs().max()) for term in (x, *terms))
            same = same and bool((sum(terms) - x).abs().max() <= LINEAR_TOLERANCE * largest)
            signals.append(x if node.time is None else next(estimates))
    if not same:
        raise SamplingError(
            f"sampler: {plan.sampler} is not linear in the estimates of the network, so no sums stand for it; choose "
            "another one"
        )


class _RandomWalk:
    """Denoiser and noise that give random signals (1, 16), some of them beyond full scale, and remember them."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self.draws: list[Tensor] = []
        self.estimates: list[Tensor] = []
        self.sums: list[Tensor] = []

    def signal(self) -> Tensor:
        return 3 * torch.randn(1, 16, dtype=torch.float64, device="cpu", generator=self._generator)

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.sums.append(x_t)
        self.estimates.append(self.signal())
        return self.estimates[-1]

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        self.draws.append(self.signal())
        return self.draws[-1]


class _Tracer:
    """Denoiser and noise of signals that are rows of coefficients, one for each signal that was made so far."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.kinds: list[str] = []
        self.sums: list[tuple[Terms, float | None]] = []

    def unit(self, kind: str) -> Tensor:
        row = torch.zeros(1, self.width, dtype=torch.float64, device="cpu")
        row[0, len(self.kinds)] = 1
        self.kinds.append(kind)
        return row

    def sum(self, x: Tensor, time: float | None) -> None:
        share = x[0].abs()
        kept = (share > NEGLIGIBLE * share.max()).nonzero()[:, 0]
        self.sums.append((tuple(zip(kept.tolist(), x[0, kept].tolist(), strict=True)), time))

    def denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.sum(x_t, float(t[0]))
        return self.unit("node")

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.unit("draw")
