"""Grids and published schedules against their formulas, written a second time in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wavediff.diffusion import (
    FAST_BETAS,
    SPACINGS,
    CosineSchedule,
    DiscreteSchedule,
    FlowSchedule,
    Schedule,
    make_grid,
    spaced_grid,
)
from wavediff.diffusion.grids import align, full_grid
from wavediff.errors import SamplingError

BASE = DiscreteSchedule()
LARGE = DiscreteSchedule(200, 1e-4, 0.02)
THOUSAND = DiscreteSchedule(1000, 1e-6, 0.01)  # for which BDDM's schedules were found
CONTINUOUS: dict[str, Schedule] = {"cosine": CosineSchedule(), "shifted": CosineSchedule(0.008), "flow": FlowSchedule()}
SCHEDULES: dict[str, Schedule] = {"base": BASE, "large": LARGE, "thousand": THOUSAND, **CONTINUOUS}


def level(schedule: DiscreteSchedule) -> np.ndarray:
    """sqrt(alpha_bar) of steps 0 to T."""
    betas = np.linspace(schedule.beta_min, schedule.beta_max, schedule.num_steps)
    return np.sqrt(np.concatenate([[1], np.cumprod(1 - betas)]))


def noise_to_signal(schedule: Schedule, t: np.ndarray) -> np.ndarray:
    if isinstance(schedule, FlowSchedule):
        return t / (1 - t)
    if isinstance(schedule, CosineSchedule):
        s = schedule.offset
        alpha = np.cos((t + s) / (1 + s) * np.pi / 2) / np.cos(s / (1 + s) * np.pi / 2)
    else:
        alpha = np.interp(t * schedule.num_steps, np.arange(schedule.num_steps + 1), level(schedule))
    return np.sqrt(1 / alpha**2 - 1)


SCALES = {  # in which the steps of a spacing are even
    "linear": lambda schedule, t: t,
    "quadratic": lambda schedule, t: np.sqrt(t),
    "cosine": lambda schedule, t: np.arctan(noise_to_signal(schedule, t)),
    "karras": lambda schedule, t: noise_to_signal(schedule, t) ** (1 / 7),
    "log-snr": lambda schedule, t: np.log(noise_to_signal(schedule, t)),
}


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(num_steps=st.integers(2, 50), start=st.floats(0.3, 0.97), share=st.floats(0.1, 0.9))
def test_a_grid_goes_from_start_over_end_to_0_in_even_steps_of_its_scale(
    spacing: str, kind: str, num_steps: int, start: float, share: float
) -> None:
    end = 0.02 + share * (start - 0.02)
    grid = spaced_grid(SCHEDULES[kind], num_steps, spacing, start=start, end=end)
    assert grid.dtype == torch.float64
    assert (len(grid), grid[0], grid[-1]) == (num_steps + 1, start, 0)
    assert grid[-2].item() == pytest.approx(end, rel=1e-8)
    assert (grid.diff() < 0).all()
    steps = np.diff(SCALES[spacing](SCHEDULES[kind], grid[:-1].numpy()))
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("kind", CONTINUOUS)
@pytest.mark.parametrize(
    ("spacing", "first"), [("cosine", np.pi / 2), ("karras", 80 ** (1 / 7)), ("log-snr", np.log(80))]
)
def test_from_pure_noise_the_levels_are_even_from_a_finite_one_to_the_end(
    spacing: str, first: float, kind: str
) -> None:
    """EDM's sigma_max of 80 in place of an infinite noise level; the grid starts at t = 1 all the same."""
    grid = spaced_grid(CONTINUOUS[kind], 12, spacing)
    assert grid[0] == 1
    scale = SCALES[spacing](CONTINUOUS[kind], grid[1:-1].numpy())
    np.testing.assert_allclose(scale, np.linspace(first, scale[-1], 12)[1:], rtol=1e-8)


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_a_grid_between_levels_above_80_descends_or_is_refused(kind: str) -> None:  # fault 64
    for spacing in SPACINGS:
        try:
            grid = spaced_grid(CONTINUOUS[kind], 4, spacing, end=0.995)
        except SamplingError:
            continue
        assert (grid.diff() < 0).all(), spacing


@pytest.mark.parametrize("num_steps", [1, 2, 6, 49, 50])
def test_the_grid_of_a_discrete_schedule_ends_on_its_first_training_step(num_steps: int) -> None:
    grid = spaced_grid(BASE, num_steps)
    assert (len(grid), grid[0], grid[-1]) == (num_steps + 1, 1, 0)
    assert (grid.diff() < 0).all()
    if num_steps > 1:
        assert grid[-2].item() == pytest.approx(1 / 50, rel=1e-12)
    if num_steps == 50:
        assert grid.tolist() == [n / 50 for n in range(50, -1, -1)]
    elif num_steps > 1:  # DDIM's quadratic spacing, by default
        expected = np.linspace(1, math.sqrt(1 / 50), num_steps) ** 2
        np.testing.assert_allclose(grid[:-1].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("num_steps", [1, 4, 200])
def test_the_grid_of_a_continuous_schedule_is_linear_unless_told_otherwise(num_steps: int) -> None:
    for start in (1.0, 0.4):
        expected = np.linspace(start, 0, num_steps + 1)
        grid = spaced_grid(FlowSchedule(), num_steps, start=start)
        np.testing.assert_allclose(grid.numpy(), expected, rtol=1e-12, atol=1e-15)
        end = min(0.01, start / num_steps)
        for spacing in set(SPACINGS) - {"linear"} if num_steps > 1 else ():
            last = spaced_grid(FlowSchedule(), num_steps, spacing, start=start)[-2].item()
            assert last == pytest.approx(end, rel=1e-9), spacing


@pytest.mark.parametrize("spacing", [None, *SPACINGS])
@pytest.mark.parametrize("num_steps", [0, -3, 51, 2.5, True, "6", float("nan")])
def test_a_number_of_steps_that_was_not_trained_is_refused(spacing: str, num_steps: int) -> None:  # fault 63
    with pytest.raises(SamplingError, match="whole number from 1 to 50"):
        spaced_grid(BASE, num_steps, spacing)
    with pytest.raises(SamplingError, match="whole number from 1 to 50"):
        make_grid(BASE, num_steps, spacing)
    most = 10_001 if num_steps == 51 else num_steps
    with pytest.raises(SamplingError, match="whole number from 1 to 10000"):
        make_grid(CosineSchedule(), most, spacing)


@pytest.mark.parametrize(
    ("start", "end"),
    [(0.5, 0.5), (0.5, 0.6), (0.5, 0.0), (0.5, -0.1), (1.1, 0.1), (0, None), (-1, None), (0.5, math.nan)],
)
@pytest.mark.parametrize("schedule", [BASE, FlowSchedule()], ids=["base", "flow"])
def test_a_grid_that_would_not_descend_is_refused(schedule: Schedule, start: float, end: float) -> None:  # fault 64
    for spacing in SPACINGS:
        with pytest.raises(SamplingError, match="need 0 < end < start <= 1"):
            spaced_grid(schedule, 4, spacing, start=start, end=end)


@pytest.mark.parametrize(
    ("cause", "schedules"),
    [
        ("empty", [[]]),
        ("not ascending", [[0.1, 0.01], [0.01, 0.1, 0.09]]),
        ("inside", [[0.0, 0.1], [0.1, 1.0], [-0.1, 0.1], [0.1, math.nan], [0.1, math.inf], ["0.1"], [True]]),
        ("step 1 of 2 .* trained on", [[0.00001, 0.1], [0.9, 0.95]]),  # less noise than the first step, or more
        ("step 2 of 2 .* trained on", [[0.0001, 0.9]]),
        ("1 to 50", [[0.0001] * 51]),
    ],
)
def test_an_impossible_schedule_is_refused_and_no_step_is_dropped(cause: str, schedules: list) -> None:  # fault 64
    for betas in schedules:
        with pytest.raises(SamplingError, match=cause):
            align(BASE, betas)
        with pytest.raises(SamplingError, match=cause):
            make_grid(BASE, None, betas)


@pytest.mark.parametrize(
    ("schedule", "num_steps", "name", "cause"),
    [
        (BASE, None, None, "num_steps: is needed"),
        (BASE, None, "karras", "num_steps: is needed"),
        (BASE, 6, "fast", "'fast' is unknown .*; choose linear, .* full"),
        (BASE, 7, "fast6", "has 6 steps, which num_steps 7 contradicts"),
        (BASE, 3, (0.01, 0.1), "has 2 steps, which num_steps 3 contradicts"),
        (CosineSchedule(), None, "full", "'full' is for models of discrete steps"),
        (FlowSchedule(), None, "fast6", "'fast6' is for models of discrete steps"),
        (THOUSAND, None, "fast6", "no fast schedule was published for T = 1000"),
        (DiscreteSchedule(50, 1e-5, 0.05), None, "fast6", "no fast schedule was published for T = 50"),
        (LARGE, None, "bddm6", "step 1 of 6 .* trained on"),
        (BASE, 5.5, "fast6", "whole number|contradicts"),
        (BASE, True, (0.1,), "whole number|contradicts"),
        (BASE, None, 5, "schedule"),
    ],
)
def test_a_grid_that_there_is_not_is_refused(  # fault 64
    schedule: Schedule, num_steps: int, name: str, cause: str
) -> None:
    with pytest.raises(SamplingError, match=cause) as refusal:
        make_grid(schedule, num_steps, name)
    assert "\n" not in str(refusal.value)


def test_a_schedule_that_begins_above_the_start_is_refused() -> None:  # fault 64
    for name in ("full", "fast6", FAST_BETAS["base"]):
        with pytest.raises(SamplingError, match=r"but this starts at 0\.5; give num_steps instead"):
            make_grid(BASE, None, name, start=0.5)
    assert make_grid(BASE, None, "fast6", start=0.95)[0] < 0.95


def test_betas_too_small_for_a_time_of_their_own_are_refused() -> None:  # fault 64
    for betas in ([1e-17], [1e-17, 1e-17, 0.1]):
        with pytest.raises(SamplingError, match="schedule"):
            align(FlowSchedule(), betas)


BETAS = {  # DiffWave, section 5.1 and appendix B; the code of FastDiff
    "base": [0.0001, 0.001, 0.01, 0.05, 0.2, 0.5],
    "large": [0.0001, 0.001, 0.01, 0.05, 0.2, 0.7],
    "bddm3": [9e-5, 9e-3, 0.6],
    "bddm4": [3.2176e-4, 2.5743e-3, 2.5376e-2, 0.70414],
    "bddm6": [1.7838445956e-6, 2.7984189728e-5, 4.3231004383e-4, 6.6343173385e-3, 9.3570172787e-2, 0.6],
    "bddm8": [6.6893250e-7, 1.0033881e-5, 1.5496854e-4, 2.3872221e-3, 3.5597630e-2, 0.3681158424, 0.4735414386, 0.5],
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_published_schedule_keeps_every_step_at_its_own_noise_level(kind: str) -> None:
    fitting = {"base": ["fast6", "bddm3", "bddm4"], "large": ["fast6", "bddm3", "bddm4"]}
    for name in fitting.get(kind, ["bddm3", "bddm4", "bddm6", "bddm8"]):
        grid = make_grid(SCHEDULES[kind], int(name[-1]), name)
        assert (len(grid), grid[-1]) == (int(name[-1]) + 1, 0)
        assert (grid.diff() < 0).all()
        betas = np.array(BETAS[kind if name == "fast6" else name])
        if isinstance(SCHEDULES[kind], DiscreteSchedule):
            betas[0] = max(betas[0], SCHEDULES[kind].beta_min)  # BDDM takes the first trained step instead
        expected = np.cumprod(1 - betas)[::-1]
        ours = 1 / (1 + noise_to_signal(SCHEDULES[kind], grid[:-1].numpy()) ** 2)
        np.testing.assert_allclose(1 - ours, 1 - expected, rtol=1e-5 if kind == "shifted" else 1e-6)


def test_alignment_interpolates_between_training_steps_as_published() -> None:
    """The search of the paper's appendix B, written out: t + (l_t - l) / (l_t - l_{t+1}) with l = sqrt(alpha_bar)."""
    trained, expected = level(BASE)[1:], []
    for target in np.sqrt(np.cumprod(1 - np.array(FAST_BETAS["base"]))):
        low = max(i for i in range(49) if trained[i] >= target - 1e-15)
        expected.append(low + (trained[low] - target) / (trained[low] - trained[low + 1]))
    steps = align(BASE, FAST_BETAS["base"])[:-1].flip(0) * 50 - 1
    np.testing.assert_allclose(steps.numpy(), expected, atol=1e-9)


def test_aligning_the_training_betas_gives_the_training_steps() -> None:
    torch.testing.assert_close(align(BASE, BASE.betas.tolist()), full_grid(BASE), rtol=0, atol=1e-9)
    assert make_grid(BASE, None, "full").tolist() == full_grid(BASE).tolist()
