"""What is searched: every point is a plan that the model knows."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_search import CONFIGS

from wavediff.search.space import ROOM, Space, noise_of, spaces


@given(
    st.sampled_from(["ddim", "dpmpp-2m", "heun"]),
    st.integers(1, 12),
    st.lists(st.floats(-0.5, 1.5), min_size=4, max_size=4),
    st.tuples(st.floats(0.02, 0.5), st.floats(0.6, 1.0)),
)
def test_every_point_is_a_plan_and_free_coordinates_give_it_back(
    sampler: str, steps: int, point: list[float], starts: tuple[float, float]
) -> None:
    space = Space(sampler, steps, starts, 0.01)
    plan = space.shaped(point[: space.dimensions])  # its own validation: descending, in (0, 1]
    assert len(plan.times) == steps + 1
    assert starts[0] - 1e-6 <= plan.times[0] <= starts[1]
    assert plan.times[-2] >= 0.9 * min(0.01, plan.times[0])
    if steps > 1:
        again = space.free(space.coordinates(plan))
        assert again.sampler == plan.sampler
        tight = any(a / b < 1.002 for a, b in itertools.pairwise(plan.times[:-1]))
        crowded = plan.times[-2] > starts[1] * math.exp(-ROOM * steps)  # free coordinates keep away from the top
        assert tight or crowded or again.times == pytest.approx(plan.times, rel=1e-3, abs=2e-6)


@given(st.lists(st.floats(-30, 30), min_size=7, max_size=7))
def test_free_coordinates_never_leave_what_the_model_knows(coordinates: list[float]) -> None:
    plan = Space("ddim", 6, (0.4, 0.9), 0.02).free(coordinates)
    assert plan.times[0] <= 0.9
    assert plan.times[-2] >= 0.0199
    assert 0 <= noise_of(plan) <= 1


@pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 6, 12])
def test_no_searched_plan_takes_more_evaluations_than_asked(evaluations: int) -> None:
    for config in CONFIGS.values():
        for space in spaces(config, evaluations):
            taken = space.shaped([0.5] * space.dimensions).evaluations
            assert taken == evaluations - (space.sampler == "heun" and evaluations % 2 == 0)
