"""The one walk from noise to signal: along the numbers of a plan, on whole signals, with whatever estimates x_0.

Pipelines and exported files walk here; streams walk the same numbers on pieces (`wavediff.engine.streaming`).
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from wavediff.diffusion.noise import Noise
from wavediff.diffusion.plan import Plan
from wavediff.diffusion.schedules import Schedule
from wavediff.diffusion.unrolled import Terms, Unrolled, unroll
from wavediff.errors import SamplingError
from wavediff.mel.stft import float64_device

OnStep = Callable[[int, int], None]
Levels = tuple[float, float]
"""alpha and sigma of one time, as numbers: what is traced or captured with them holds no schedule."""


def part_of(on_step: OnStep | None, part: int, parts: int) -> OnStep | None:
    """Is told the steps of one part of several, and tells them as steps of all."""
    return None if on_step is None else lambda done, total: on_step(part * total + done, parts * total)


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
) -> Iterator[Tensor]:
    """The signal x (B, N) after each step, checked.

    Args:
        estimate: (x_t (B, N), t (B,)) -> estimate of x_0 (B, N).
        x_t: (B, N) at the first time of the plan.
        schedule: of the process.
        plan: sampler and times.
        noise: from which fresh noise is drawn, item by item.
        steps: what looks at them.

    Raises:
        SamplingError: a step gave NaN, which a GPU says after the last; or the sampler is not linear in the estimates.
    """

    def at(x: Tensor, t: float) -> Tensor:
        return estimate(x, torch.full((len(x),), t, dtype=torch.float64, device=float64_device(x.device)))

    unrolled, steps = unroll(plan, schedule), steps or Steps(len(plan.times) - 1)
    draws = (noise.normal(x_t.shape[1], x_t.dtype) for _ in range(unrolled.draws))
    for number, x in enumerate(walk(at, unrolled, x_t, draws), 1):
        steps.see(number, x)
        yield x
    steps.check()


def denoise(
    estimate: Callable[[Tensor, Tensor], Tensor],
    x_t: Tensor,
    schedule: Schedule,
    plan: Plan,
    noise: Noise,
    on_step: OnStep | None = None,
) -> Tensor:
    """x_t (B, N) at the first time of the plan -> x_0 (B, N): the last of `states`.

    Args:
        estimate, x_t, schedule, plan, noise: as `states`.
        on_step: called with (steps done, steps in all) after each.

    Raises:
        SamplingError: as `states`.
    """
    total, x = len(plan.times) - 1, x_t
    for number, state in enumerate(states(estimate, x_t, schedule, plan, noise), 1):
        x = state
        if on_step is not None:
            on_step(number, total)
    return x
