"""The search for one number of evaluations."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from wavediff.diffusion import PUBLISHED, Plan
from wavediff.diffusion.plan import plan_for
from wavediff.errors import SamplingError
from wavediff.pipelines.vocoder import Vocoder
from wavediff.search.judge import Figures, Judge, relative_cost
from wavediff.search.space import Space, spaces

SCATTERED_SHARE, SHAPED_SHARE = 0.45, 0.25  # of the trials; the rest move each time for itself
FINALISTS = 4  # that are heard a second time, on clips that were not searched on
SIMPLEX = {"shaped": 0.12, "free": 0.25}  # first edge


@dataclass(frozen=True)
class Budget:
    """How much a search may take.

    Attributes:
        evaluations: of the network, by the plans searched for.
        trials: plans measured, at most.
        deadline: `time.monotonic` at which no further plan is begun.
    """

    evaluations: int
    trials: int
    deadline: float


@dataclass(frozen=True)
class Found:
    """The best plan and what it was compared with.

    Attributes:
        plan: with the least cost over both parts of the clips.
        figures: its metrics on the part that was not searched on.
        references: plans that need no search, and theirs, by name: "default", "ddim", published ones.
        cost: ratio to "default", mean of both parts; below 1 is better.
        trials: plans that were measured.
        in_time: whether the search ended before its deadline; otherwise more time may find a better plan.
    """

    plan: Plan
    figures: Figures
    references: dict[str, tuple[Plan, Figures]]
    cost: float
    trials: int
    in_time: bool


@dataclass
class _Trials:
    """Measures, remembers, and stops in time."""

    judge: Judge
    reference: Figures
    budget: Budget
    on_trial: Callable[[int], None]
    costs: dict[Plan, float] = field(default_factory=dict)
    in_time: bool = True

    def cost(self, plan: Plan) -> float:
        if plan not in self.costs:
            known = self.judge.journal.figures(self.judge.part, plan) is not None
            self.in_time = known or time.monotonic() <= self.budget.deadline
            if not self.in_time or (not known and len(self.costs) >= self.budget.trials):
                raise _Spent
            self.costs[plan] = relative_cost(self.judge(plan), self.reference)
            self.on_trial(len(self.costs))
        return self.costs[plan]

    def ranked(self) -> list[Plan]:
        """Best first."""
        return sorted(self.costs, key=self.costs.__getitem__)


class _Spent(Exception):  # noqa: N818  a signal, not an error
    """Time or trials are."""


def search_budget(
    vocoder: Vocoder,
    budget: Budget,
    judge: Judge,
    confirm: Judge,
    known: Sequence[Plan] = (),
    on_trial: Callable[[int], None] = lambda done: None,
) -> Found:
    """Scattered plans, then downhill from the best (Nelder and Mead, by scipy), then a second hearing of the finalists.

    Args:
        vocoder: the model.
        budget: evaluations, and the work allowed.
        judge: measures on the clips that are searched on.
        confirm: measures on others, with other noise.
        known: the best plans of smaller numbers of evaluations, the course of the last of them is tried with this one.
        on_trial: called with the number of plans measured.
    """
    references = reference_plans(vocoder, budget.evaluations)
    trials = _Trials(judge, judge(references["default"]), budget, on_trial)
    for plan in references.values():
        trials.costs[plan] = relative_cost(judge(plan), trials.reference)
    try:
        for plan in known:
            trials.cost(plan)  # so that more evaluations are never worse than fewer
        for plan in known[-1:]:
            trials.cost(plan.resampled(budget.evaluations))
        _explore(trials, spaces(vocoder.config, budget.evaluations))
    except _Spent:
        pass
    heard = {name: (plan, confirm(plan)) for name, plan in references.items()}
    base = heard["default"][1]
    finalists = [*trials.ranked()[:FINALISTS], *references.values()]
    total = {plan: (trials.costs[plan] + relative_cost(confirm(plan), base)) / 2 for plan in finalists}
    best = min(total, key=total.__getitem__)
    return Found(best, confirm(best), heard, total[best], len(trials.costs), trials.in_time)


def reference_plans(vocoder: Vocoder, evaluations: int) -> dict[str, Plan]:
    """What there is before a search: the default, DDIM on its grid, published schedules, and what the file stores."""
    plain = vocoder.with_plans([])
    plans = {"default": plain.plan(evaluations)}
    plans["ddim"] = Plan("ddim", plans["default"].times)
    for name in PUBLISHED:
        try:
            plans[name] = plain.plan(evaluations, schedule=name)
        except SamplingError:  # of another length, or not for this model
            continue
    if (stored := plan_for(vocoder.config.plans, evaluations)) is not None:
        plans["stored"] = stored
    return plans


def _scattered(trials: _Trials, searched: Sequence[Space]) -> list[tuple[Space, list[float]]]:
    """Points of a low-discrepancy sequence, each sampler in turn."""
    from scipy.stats import qmc

    count = max(int(SCATTERED_SHARE * trials.budget.trials) // len(searched), 1)
    points = [qmc.Halton(space.dimensions, scramble=False).random(count + 1)[1:].tolist() for space in searched]
    return [(space, row[index]) for index in range(count) for space, row in zip(searched, points, strict=True)]


def _explore(trials: _Trials, searched: Sequence[Space]) -> None:
    """Scattered plans; downhill in what shapes the best of them; downhill in each time of the best of all."""
    scattered = _scattered(trials, searched)
    space, point = min(scattered, key=lambda pair: trials.cost(pair[0].shaped(pair[1])))
    shaped = max(int(SHAPED_SHARE * trials.budget.trials), 2)
    _nelder_mead(lambda p: trials.cost(space.shaped(p)), point, SIMPLEX["shaped"], shaped, inside_cube=True)
    by_sampler = {space.sampler: space for space in searched}
    best = next(plan for plan in map(_as_searched, trials.ranked()) if _kind(plan) in by_sampler)
    if len(best.times) > 2:
        space, rest = by_sampler[_kind(best)], trials.budget.trials - len(trials.costs)
        _nelder_mead(lambda p: trials.cost(space.free(p)), space.coordinates(best), SIMPLEX["free"], rest)


def _as_searched(plan: Plan) -> Plan:
    """Ancestral sampling as DDIM's with all of its noise, which can be turned down."""
    return Plan("ddim:eta=1", plan.times) if plan.sampler == "ddpm" else plan


def _kind(plan: Plan) -> str:
    return plan.sampler.partition(":")[0]


def _nelder_mead(
    function: Callable[[Sequence[float]], float],
    start: Sequence[float],
    edge: float,
    most: int,
    *,
    inside_cube: bool = False,
) -> None:
    from scipy.optimize import minimize

    first = np.asarray(start, dtype=float)
    simplex = np.tile(first, (len(first) + 1, 1))
    for row in range(len(first)):
        up = not inside_cube or first[row] + edge <= 1
        simplex[row + 1, row] += edge if up else -edge
    if most > 0:
        options = {"initial_simplex": simplex, "maxfev": most, "xatol": 1e-3, "fatol": 1e-4, "adaptive": True}
        bounds = [(0.0, 1.0)] * len(first) if inside_cube else None
        minimize(lambda p: min(function(p), 1e6), first, method="Nelder-Mead", bounds=bounds, options=options)
