"""A plan as sums, against the sampler it stands for."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from wavediff.diffusion import (
    SAMPLERS,
    CosineSchedule,
    DiscreteSchedule,
    FlowSchedule,
    Plan,
    Schedule,
    make_grid,
    unroll,
)
from wavediff.diffusion.plan import _OPTIONS
from wavediff.diffusion.samplers import DDIM, Denoise
from wavediff.diffusion.walk import states, walk
from wavediff.errors import SamplingError

NAMES = [*SAMPLERS, "ddim:eta=0.5", "heun:churn=0.2,noise_scale=1.1"]
GRIDS = {"from noise": (1.0, 0.7, 0.4, 0.2, 0.0), "from a guess": (0.2, 0.1, 0.0), "one step": (0.5, 0.0)}


class Draws:
    """Noise that remembers what it gave."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(len(self.given))
        self.given.append(torch.randn(2, length, dtype=dtype, generator=generator))
        return self.given[-1]


def bent(x_t: Tensor, t: Tensor) -> Tensor:
    """A denoiser that is linear in nothing."""
    return torch.tanh(x_t * (1 + t[:, None])) + t[:, None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule()], ids=["cosine", "flow"])
def test_the_sums_are_the_sampler(name: str, times: tuple[float, ...], schedule: Schedule) -> None:
    plan = Plan(name, times)
    draws = Draws()
    x_T = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    expected = plan.make()(bent, x_T, schedule, plan.grid, draws)

    unrolled = unroll(plan, schedule)

    assert unrolled.draws == len(draws.given)
    *_, got = walk(lambda x, t: bent(x, torch.full((2,), t, dtype=torch.float64)), unrolled, x_T, iter(draws.given))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_each_state_of_the_walk_is_the_samplers(name: str) -> None:
    plan, schedule, noise = Plan(name, GRIDS["from noise"]), CosineSchedule(), Draws()
    x_T = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    expected = list(plan.make().states(bent, x_T, schedule, plan.grid, noise))
    got = list(states(bent, x_T, schedule, plan, Draws()))
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp-2m-sde", "heun"])
def test_a_sum_does_not_grow_with_the_steps_before_it(name: str) -> None:
    """So that neither time nor memory of a walk is quadratic in its steps."""
    unrolled = unroll(Plan(name, tuple(step / 40 for step in range(40, -1, -1))), CosineSchedule())
    assert max(len(node.terms) for node in unrolled.nodes) <= 5
    alive = most = 1
    for node in unrolled.nodes:
        alive += 1 - len(node.last)
        most = max(most, alive)
    assert most <= 6


def test_as_often_as_the_plan_says_the_network_is_evaluated() -> None:
    schedule = DiscreteSchedule(50, 1e-4, 0.05)
    plan = Plan.along("ddpm", make_grid(schedule, None, "fast6"))
    unrolled = unroll(plan, schedule)
    assert (len(unrolled.times), unrolled.draws) == (6, 5)


def test_terms_that_cancel_are_left_out() -> None:
    """DDIM's last step ends on the estimate: of all signals before it nothing is left."""
    unrolled = unroll(Plan("ddim", (1.0, 0.5, 0.0)), CosineSchedule())
    assert unrolled.nodes[-1].terms == ((3, pytest.approx(1.0)),)  # start, estimate, state, estimate


def test_a_sampler_that_is_not_linear_in_the_estimates_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Thresholding(DDIM):
        def states(self, denoise: Denoise, *rest: Any) -> Iterator[Tensor]:
            yield from super().states(lambda x_t, t: denoise(x_t, t).clamp(-1, 1), *rest)

    monkeypatch.setitem(SAMPLERS, "thresholding", Thresholding)
    monkeypatch.setitem(_OPTIONS, "thresholding", [])
    for times in GRIDS.values():
        with pytest.raises(SamplingError, match="thresholding is not linear"):
            unroll(Plan("thresholding", times), CosineSchedule())
