"""Plans: a sampler with its grid, and what is made of those that a search has stored."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavediff.diffusion import (
    SAMPLERS,
    CosineSchedule,
    DiscreteSchedule,
    FlowSchedule,
    Plan,
    SamplingOptions,
    make_grid,
    make_sampler,
    spaced_grid,
)
from wavediff.diffusion.plan import plan_for
from wavediff.errors import SamplingError

PLANS = {n: Plan.along("dpmpp-2m", spaced_grid(FlowSchedule(), n, "karras")) for n in (3, 6, 12)}


@pytest.mark.parametrize(
    ("cause", "grids"),
    [
        ("are no grid", [(), (0.0,), tuple(np.linspace(1, 0, 10_002).tolist())]),
        ("not a number", [(1.0, math.nan, 0.0), (math.inf, 0.0), (True, 0.0), ("1", 0.0), (None, 0.0)]),
        ("from 0 to 1", [(1.5, 0.0), (10**400, 0.0), (0.5, -0.1, 0.0)]),
        ("do not descend", [(1.0, 0.5), (1.0, 0.5, 0.5, 0.0), (0.5, 0.6, 0.0)]),
    ],
)
def test_a_plan_that_is_no_grid_or_sampler_is_refused(cause: str, grids: list[tuple]) -> None:  # fault 64
    for times in grids:
        with pytest.raises(SamplingError, match=cause):
            Plan("ddim", times)
    for sampler in ("dpm", "ddim:eta=2", ""):
        with pytest.raises(SamplingError, match="sampler"):
            Plan(sampler, (1.0, 0.0))


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp-2m-sde"])
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(steps=st.integers(1, 40), evaluations=st.integers(1, 90), start=st.floats(0.05, 1))
def test_a_resampled_plan_keeps_its_ends_and_evaluates_no_more_than_asked(
    sampler: str, steps: int, evaluations: int, start: float
) -> None:
    plan = Plan.along(sampler, spaced_grid(CosineSchedule(), steps, "log-snr", start=start))
    other = plan.resampled(evaluations)  # whose times descend, or Plan would refuse them
    assert (other.sampler, other.times[-1]) == (sampler, 0)
    assert other.times[0] == pytest.approx(plan.times[0], rel=1e-15)
    assert other.evaluations <= evaluations
    np.testing.assert_allclose(plan.resampled(plan.evaluations).times, plan.times, rtol=1e-9)
    if steps == 1:
        assert other == plan  # one time has no course
        return
    assert evaluations < make_sampler(sampler).evaluations(len(other.times))
    # The course of the old one; no time is nearer to the data, where a discrete schedule was not trained.
    positions = np.linspace(0, steps - 1, len(other.times) - 1)
    expected = np.interp(positions, np.arange(steps), np.sqrt(plan.times[:-1])) ** 2
    np.testing.assert_allclose(other.times[:-1], expected, rtol=1e-9, atol=1e-15)


def test_the_plan_for_a_number_of_evaluations_is_the_stored_one_or_follows_the_next_larger() -> None:
    for stored in (list(PLANS.items()), list(PLANS.items())[::-1]):
        assert plan_for(stored, 6) is PLANS[6]
        assert plan_for(stored, 5) == PLANS[6].resampled(5)
        assert plan_for(stored, 7) == PLANS[12].resampled(7)
        assert plan_for(stored, 1) == PLANS[3].resampled(1)
        assert [plan_for(stored, evaluations) for evaluations in (13, 0, -1, 2.0, True, None)] == [None] * 6
    heun = Plan.along("heun", spaced_grid(FlowSchedule(), 3))
    assert plan_for([(6, heun)], 6) is heun  # 5 evaluations, since 6 have no grid
    assert plan_for([(6, heun)], 4) == heun.resampled(3)
    assert plan_for([(6, heun)], 5) is heun
    assert plan_for([], 6) is None


@pytest.mark.parametrize("evaluations", [0, -1, 2.0, True, None])
def test_a_plan_of_no_whole_number_of_evaluations_is_refused(evaluations: int) -> None:  # fault 63
    with pytest.raises(SamplingError, match="whole number above 0"):
        PLANS[3].resampled(evaluations)


def test_no_number_of_evaluations_makes_an_endless_plan() -> None:
    assert PLANS[3].resampled(10**12).evaluations == 10_000


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 7, 20])
def test_a_plan_takes_as_many_evaluations_as_it_may(name: str, evaluations: int) -> None:
    """Whatever the sampler: the number that is asked for means the same work."""
    for schedule in (CosineSchedule(), DiscreteSchedule(50, 1e-4, 0.05)):
        plan = SamplingOptions(evaluations, sampler=name).plan(schedule)
        one_more = Plan.along(name, make_grid(schedule, len(plan.times), None))
        assert plan.evaluations <= evaluations < one_more.evaluations


def test_by_default_no_sampler_takes_more_than_the_default() -> None:
    schedule = DiscreteSchedule(50, 1e-4, 0.05)
    assert SamplingOptions().plan(schedule) == SamplingOptions(schedule="fast6").plan(schedule)
    assert SamplingOptions(sampler="heun").plan(schedule).evaluations == 5


def test_a_published_schedule_may_be_given_with_its_number() -> None:
    schedule = DiscreteSchedule(50, 1e-4, 0.05)
    assert SamplingOptions(6, "fast6").plan(schedule).evaluations == 6
    assert SamplingOptions(11, "fast6", "heun").plan(schedule).evaluations == 11
    with pytest.raises(SamplingError, match=r"schedule: has 6 steps, which num_steps \d+ contradicts"):
        SamplingOptions(6, "fast6", "heun").plan(schedule)
