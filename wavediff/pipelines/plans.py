"""Which plan of sampling a vocoder follows."""

from collections.abc import Sequence

from wavediff.arguments import whole
from wavediff.denoiser import Denoiser
from wavediff.diffusion import Plan, make_grid, needs_num_steps, plan_for
from wavediff.diffusion.schedules import MAX_DISCRETE_STEPS, DiscreteSchedule
from wavediff.errors import SamplingError


def choose_plan(
    plans: Sequence[tuple[int, Plan]],
    denoiser: Denoiser,
    num_steps: int | None = None,
    schedule: str | Sequence[float] | None = None,
    sampler: str | None = None,
) -> Plan:
    """The plan for what `Vocoder.decode` was given.

    Args:
        plans: what a search has found, by number of evaluations.
        denoiser: gives the trained schedule and where sampling starts.
        num_steps, schedule, sampler: of `Vocoder.decode`.

    Raises:
        SamplingError: steps, schedule or sampler are not possible.
    """
    trained = denoiser.schedule
    default = trained.default_steps
    if num_steps is not None:
        most = trained.num_steps if isinstance(trained, DiscreteSchedule) else MAX_DISCRETE_STEPS
        most = max([most, *(number for number, _ in plans)])  # a step may take two evaluations
        num_steps = whole(num_steps, "num_steps", 1, most, SamplingError)
    if schedule is None and sampler is None:
        known = plan_for(plans, default if num_steps is None else num_steps)
        if known is not None:
            return known
    if num_steps is None:
        if schedule is None and trained.fast_betas is not None and denoiser.start_time == 1:
            schedule = trained.fast_betas
        elif needs_num_steps(schedule):
            num_steps = default
    grid = make_grid(trained, num_steps, schedule, start=denoiser.start_time)
    return Plan.along(sampler or trained.default_sampler, grid)
