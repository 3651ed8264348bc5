"""A plan of sampling as plain sums, and the one walk along them from noise to signal, with whatever estimates x_0.

Every sampler's states are sums of the state before, of the noise it drew and of the denoiser's estimates, each times a
number that depends on schedule and grid alone. Written as these numbers a plan can be walked by an engine that has only
a part of the signal at hand (`wavediff.engine.streaming`), captured as one graph, or exported.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.plan import Plan
from wavediff.diffusion.schedules import Schedule
from wavediff.errors import SamplingError
from wavediff.mel.stft import float64_device

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


OnStep = Callable[[int, int], None]
Levels = tuple[float, float]
"""alpha and sigma of one time, as numbers: what is traced or captured with them holds no schedule."""


def levels(schedule: Schedule, t: float) -> Levels:
    """alpha and sigma at a time."""
    time = torch.tensor([t], dtype=torch.float64, device="cpu")
    return float(schedule.alpha(time)), float(schedule.sigma(time))


def diffuse(x_0: Tensor, noise: Tensor, at: Levels) -> Tensor:
    """x_t = alpha x_0 + sigma noise of signals (B, N), all at one time."""
    alpha, sigma = at
    return alpha * x_0 + sigma * noise


def combined(terms: Terms, signals: Mapping[int, Tensor]) -> Tensor:
    """The sum (B, N) of signals, each times its number."""
    return functools.reduce(torch.add, (value * signals[i] if value != 1 else signals[i] for i, value in terms))


class Steps:
    """Notices the step that gave NaN or infinite samples: on a CPU at once, on a GPU where it is asked, since every
    look at a value waits for the device.

    Args:
        total: steps in all.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = False
        """Whether nothing is looked at until `take` and `judge`: a CUDA graph can hold no look."""
        self._seen: list[tuple[int, Tensor]] = []

    def see(self, number: int, x: Tensor) -> None:
        """What step `number` of 1 ... total gave.

        Raises:
            SamplingError: on a CPU, as `check`.
        """
        self._seen.append((number, x.sum()))  # finite if all of it is
        if x.device.type == "cpu":
            self.check()

    def take(self) -> Tensor:
        """The sum (n,) of what each step gave, in their order."""
        seen, self._seen = self._seen, []
        return torch.stack([total for _, total in seen])

    def check(self) -> None:
        """Look at all that was seen.

        Raises:
            SamplingError: a step gave NaN or infinite samples.
        """
        if self._seen and not self.held:
            numbers = [number for number, _ in self._seen]
            self.judge(self.take(), numbers)

    def judge(self, sums: Tensor, numbers: Sequence[int] | None = None) -> None:
        """Look at the sums (n,) of steps of those numbers, 1 ... total by default; the one wait of a walk on a GPU.

        Raises:
            SamplingError: one of them is NaN or infinite.
        """
        numbers = range(1, 1 + self.total) if numbers is None else numbers
        for number, good in zip(numbers, sums.isfinite().tolist(), strict=True):
            if not good:
                raise SamplingError(
                    f"step {number} of {self.total} gave NaN or infinite samples; use another checkpoint, schedule or "
                    "precision"
                )


def walk(
    estimate: Callable[[Tensor, float], Tensor], unrolled: Unrolled, start: Tensor, draws: Iterator[Tensor]
) -> Iterator[Tensor]:
    """The signal (B, N) after each step of a plan.

    Args:
        estimate: (x_t (B, N), t) -> estimate of x_0 (B, N).
        unrolled: the plan.
        start: x_t (B, N) at its first time.
        draws: the process's noise (B, N), as often as the plan draws any; each is drawn when it is needed.
    """
    signals, drawn = {0: start}, 0
    for index, node in enumerate(unrolled.nodes, 1 + unrolled.draws):
        for newest in [i for i, _ in node.terms if i <= unrolled.draws]:
            while drawn < newest:  # one whose share is negligible is drawn and left aside
                drawn += 1
                signals[drawn] = next(draws)
        x = combined(node.terms, signals)
        signals[index] = x if node.time is None else estimate(x, node.time)
        for past in node.last:
            del signals[past]
        if node.time is None:
            yield x


def states(
    estimate: Callable[[Tensor, Tensor], Tensor],
    x_t: Tensor,
    schedule: Schedule,
    plan: Plan,
    noise: Noise,
    steps: Steps | None = None,
    on_step: OnStep | None = None,
) -> Iterator[Tensor]:
    """The signal x (B, N) after each step, checked.

    Args:
        estimate: (x_t (B, N), t (B,)) -> estimate of x_0 (B, N).
        x_t: (B, N) at the first time of the plan.
        schedule: of the process.
        plan: sampler and times.
        noise: from which fresh noise is drawn, item by item.
        steps: what looks at them.
        on_step: called with (steps done, steps in all) after each.

    Raises:
        SamplingError: a step gave NaN, which a GPU says after the last; or the sampler is not linear in the estimates.
    """

    def at(x: Tensor, t: float) -> Tensor:
        return estimate(x, torch.full((len(x),), t, dtype=torch.float64, device=float64_device(x.device)))

    unrolled, steps = unroll(plan, schedule), steps or Steps(len(plan.times) - 1)
    draws = (noise.normal(x_t.shape[1], x_t.dtype) for _ in range(unrolled.draws))
    for number, x in enumerate(walk(at, unrolled, x_t, draws), 1):
        steps.see(number, x)
        if on_step is not None:
            on_step(number, steps.total)
        yield x
    steps.check()
