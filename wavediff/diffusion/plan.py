"""A complete prescription of sampling, which sampler along which times; and how it is made of what a user says."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.arguments import chosen, shown, whole
from wavediff.diffusion.grids import make_grid, needs_num_steps
from wavediff.diffusion.samplers import DDIM, DDPM, DPMpp2M, Euler, Heun, Sampler
from wavediff.diffusion.schedules import MAX_DISCRETE_STEPS, Schedule
from wavediff.errors import SamplingError

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "dpmpp-2m": DPMpp2M,
    "dpmpp-2m-sde": lambda eta=1.0: DPMpp2M(eta),
    "heun": Heun,
    "euler": Euler,
}
# What can be set in the string that names one, "ddim:eta=0.5".
_OPTIONS = {name: [f.name for f in dataclasses.fields(make()) if f.init] for name, make in SAMPLERS.items()}  # type: ignore[arg-type]


def make_sampler(name: str) -> Sampler:
    """The sampler of that name, with options if any are given: "ddim", "ddim:eta=0.5", "heun:churn=0.1".

    >>> make_sampler("ddim:eta=0.5")
    DDIM(eta=0.5)

    Raises:
        SamplingError: no sampler is called so, or it has no such option, or the option's value is out of bounds.
    """
    kind, _, settings = name.partition(":") if isinstance(name, str) else (name, "", "")
    kind = chosen(kind, "sampler", SAMPLERS, SamplingError)
    options = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key.strip() not in _OPTIONS[kind]:
            known = ", ".join(_OPTIONS[kind]) or "none"
            raise SamplingError(f"sampler: {kind} has no option {shown(key.strip())}, only: {known}")
        try:
            options[key.strip()] = float(value)
        except ValueError:
            raise SamplingError(f"sampler: {key.strip()} of {kind} is {shown(value)}, not a number") from None
    return SAMPLERS[kind](**options)


@dataclass(frozen=True)
class Plan:
    """A sampler and its grid.

    >>> Plan("heun", (0.2, 0.05, 0.0)).evaluations  # two a step, one in the last
    3

    Attributes:
        sampler: its name and options, as `make_sampler` takes them.
        times: the grid: descending from at most 1, ending in 0.

    Raises:
        SamplingError: no such sampler, or the times are no grid.
    """

    sampler: str
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        make_sampler(self.sampler)
        times = self.times
        if not 2 <= len(times) <= MAX_DISCRETE_STEPS + 1:
            raise SamplingError(f"schedule: {len(times)} times are no grid, it has 2 to {MAX_DISCRETE_STEPS + 1}")
        if not all(type(t) in (int, float) and 0 <= t <= 1 for t in times):
            raise SamplingError("schedule: holds a time that is not a number from 0 to 1")
        if times[-1] != 0 or any(t <= s for t, s in itertools.pairwise(times)):
            raise SamplingError(f"schedule: times {list(times)[:6]} ... do not descend to 0")

    @classmethod
    def along(cls, sampler: str, grid: Tensor) -> "Plan":
        """With the times of a grid (S + 1,)."""
        return cls(sampler, tuple(grid.tolist()))

    @property
    def grid(self) -> Tensor:
        """(S + 1,) float64"""
        return torch.tensor(self.times, dtype=torch.float64, device="cpu")

    @property
    def evaluations(self) -> int:
        """How often the network is evaluated, at most."""
        return self.make().evaluations(len(self.times) - 1)

    def make(self) -> Sampler:
        """The sampler."""
        return make_sampler(self.sampler)

    def resampled(self, evaluations: int) -> "Plan":
        """The same course with another number of evaluations, at most that many.

        Its first and last time before the data stay, those between are interpolated. A plan of one step stays as it is.

        Raises:
            SamplingError: not a positive number.
        """
        if type(evaluations) is not int or evaluations < 1:
            raise SamplingError(f"num_steps: {shown(evaluations)} is not a whole number above 0")
        steps = min(self.make().steps(evaluations), MAX_DISCRETE_STEPS)
        before_data = self.grid[:-1]
        if len(before_data) == 1:
            return self  # one time has no course
        position = torch.linspace(0, len(before_data) - 1, steps, dtype=torch.float64, device="cpu")
        low = position.floor().clamp(max=len(before_data) - 2).long()
        # In sqrt(t), in which good grids are about even (DDIM's quadratic one is).
        root = before_data.sqrt()
        times = torch.lerp(root[low], root[low + 1], position - low) ** 2
        return Plan(self.sampler, (*times.clamp(max=before_data[0]).tolist(), 0.0))


def plan_for(plans: Iterable[tuple[int, Plan]], evaluations: int) -> Plan | None:
    """The best known plan of at most that many evaluations.

    Args:
        plans: numbers of evaluations with the best plan that a search has found for each; it may take fewer.
        evaluations: of the network. Between two searched numbers it is the larger one's plan if that takes no more,
            or follows its course.

    Returns:
        None for a number above all searched ones, or if it is not a positive whole number.
    """
    if type(evaluations) is not int or evaluations < 1:
        return None
    larger = {number: plan for number, plan in plans if number >= evaluations}
    if not larger:
        return None
    plan = larger[min(larger)]
    return plan if plan.evaluations <= evaluations else plan.resampled(evaluations)


@dataclass(frozen=True)
class SamplingOptions:
    """What a user says of sampling, on a command line or to a pipeline.

    Attributes:
        num_steps: how often the denoiser is evaluated, at most; None for the default.
        schedule: where the steps lie, see `make_grid`; None for the default.
        sampler: as `make_sampler` takes it; None for the default.
        seed: decides the noise; one number, or one an item.
    """

    num_steps: int | None = None
    schedule: str | Sequence[float] | None = None
    sampler: str | None = None
    seed: int | Sequence[int] = 0

    def plan(
        self,
        trained: Schedule,
        plans: Iterable[tuple[int, Plan]] = (),
        start: float = 1.0,
        low_latency: bool = False,
    ) -> Plan:
        """A vocoder's plan: the best that is known for the number of evaluations, unless an expert chooses.

        Args:
            trained: schedule of the process.
            plans: what a search has found, by number of evaluations.
            start: where sampling starts.
            low_latency: for a stream near its mel. Each evaluation looks ahead, so where sampling starts from a guess
                one is the default.

        Raises:
            SamplingError: steps, schedule or sampler are not possible.
        """
        if low_latency and start < 1 and self.num_steps is None and self.schedule is None:
            return dataclasses.replace(self, num_steps=1).plan(trained, plans, start)
        default, schedule, plans = trained.default_steps, self.schedule, list(plans)
        sampler, fast = self._sampler(trained.default_sampler), trained.fast_betas
        evaluations = self._evaluations(trained, sampler, max((number for number, _ in plans), default=0))
        if schedule is None and self.sampler is None:
            known = plan_for(plans, default if evaluations is None else evaluations)
            if known is not None:
                return known
        unsaid = evaluations is None and schedule is None
        if unsaid and start == 1 and fast is not None and make_sampler(sampler).evaluations(len(fast)) <= default:
            return Plan.along(sampler, make_grid(trained, None, fast))
        return self.along(trained, default, sampler, start)

    def along(self, trained: Schedule, default_steps: int, default_sampler: str, start: float = 1.0) -> Plan:
        """A plan of these options alone.

        Args:
            trained: schedule of the process.
            default_steps: evaluations, where neither options nor schedule tell.
            default_sampler: where none is named.
            start: where sampling starts.

        Raises:
            SamplingError: steps, schedule or sampler are not possible.
        """
        sampler = self._sampler(default_sampler)
        evaluations = self._evaluations(trained, sampler)
        if evaluations is None and needs_num_steps(self.schedule):
            evaluations = default_steps
        steps = None if evaluations is None else make_sampler(sampler).steps(evaluations)
        return Plan.along(sampler, make_grid(trained, steps, self.schedule, start=start))

    def _sampler(self, default: str) -> str:
        return default if self.sampler is None else self.sampler

    def _evaluations(self, trained: Schedule, sampler: str, searched: int = 0) -> int | None:
        """`num_steps`, checked: at most what the longest grid or the longest searched plan takes."""
        most = max(make_sampler(sampler).evaluations(trained.most_steps), searched)
        return None if self.num_steps is None else whole(self.num_steps, "num_steps", 1, most, SamplingError)
