"""Time grids: the descending times that a sampler visits, for any schedule.

paper           here
gamma_s, eta_s  the betas of a short inference schedule (DiffWave, appendix B)
t_s^align       T * t for the times `align` returns (steps count from 1)
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from wavediff.arguments import as_list, chosen, is_real, shown, whole
from wavediff.diffusion.schedules import MAX_DISCRETE_STEPS, Schedule
from wavediff.errors import SamplingError, did_you_mean

MAX_NOISE_TO_SIGNAL = 80.0  # sigma / alpha that spacings by noise level begin with at most: sigma_max of EDM
KARRAS_RHO = 7.0  # EDM, section 3

# What BDDM's noise predictor (Lam et al. 2022, arXiv 2203.13508) found for T = 1000, beta 1e-6 to 0.01: the schedules
# of FastDiff (Huang et al. 2022, arXiv 2204.09934).
BDDM_BETAS = {
    "bddm3": (9e-5, 9e-3, 0.6),
    "bddm4": (3.2176e-4, 2.5743e-3, 2.5376e-2, 0.70414),
    "bddm6": (1.7838446e-6, 2.7984190e-5, 4.3231004e-4, 6.6343173e-3, 9.3570173e-2, 0.6),
    "bddm8": (6.6893250e-7, 1.0033881e-5, 1.5496854e-4, 2.3872221e-3, 3.5597630e-2, 0.36811584, 0.47354144, 0.5),
}
PUBLISHED = ("fast6", *BDDM_BETAS)


def _linear(schedule: Schedule, start: float, end: float, shares: Tensor) -> Tensor:
    return start + (end - start) * shares


def _quadratic(schedule: Schedule, start: float, end: float, shares: Tensor) -> Tensor:
    """Evenly spaced roots of t: DDIM (Song et al. 2021), appendix D.2."""
    return (math.sqrt(start) + (math.sqrt(end) - math.sqrt(start)) * shares) ** 2


def _cosine(schedule: Schedule, start: float, end: float, shares: Tensor) -> Tensor:
    """Evenly spaced angles arctan(sigma / alpha): the noise levels of a cosine schedule."""
    first, last = (torch.atan(_noise_to_signal(schedule, t, math.inf)) for t in (start, end))
    return schedule.time(-2 * torch.tan(first + (last - first) * shares).log())


def _karras(schedule: Schedule, start: float, end: float, shares: Tensor) -> Tensor:
    """Evenly spaced seventh roots of sigma / alpha: EDM (Karras et al. 2022, arXiv 2206.00364), eq. 5."""
    first, last = (_noise_to_signal(schedule, t) ** (1 / KARRAS_RHO) for t in (start, end))
    return schedule.time(-2 * KARRAS_RHO * (first + (last - first) * shares).log())


def _log_snr(schedule: Schedule, start: float, end: float, shares: Tensor) -> Tensor:
    """Evenly spaced log-SNR: DPM-Solver (Lu et al. 2022, arXiv 2206.00927), section 3.4."""
    first, last = (_noise_to_signal(schedule, t).log() for t in (start, end))
    return schedule.time(-2 * (first + (last - first) * shares))


SPACINGS: dict[str, Callable[[Schedule, float, float, Tensor], Tensor]] = {
    "linear": _linear,
    "quadratic": _quadratic,
    "cosine": _cosine,
    "karras": _karras,
    "log-snr": _log_snr,
}


def spaced_grid(
    schedule: Schedule, num_steps: int, spacing: str | None = None, *, start: float = 1.0, end: float | None = None
) -> Tensor:
    """Descending times (num_steps + 1,), float64, from `start` over `end` to 0.

    >>> from wavediff.diffusion import CosineSchedule
    >>> spaced_grid(CosineSchedule(), 4)
    tensor([1.0000, 0.7500, 0.5000, 0.2500, 0.0000], dtype=torch.float64)

    Args:
        schedule: whose noise levels some spacings go by.
        num_steps: 1 to T of a discrete schedule, to 10,000 of a continuous one.
        spacing: a key of `SPACINGS`. By default "quadratic" for a discrete schedule, with the T training steps
            themselves for T steps from 1, and "linear" for a continuous one.
        start: where sampling begins, in (0, 1].
        end: the last time before 0; by default the first training step, 1 / T, of a discrete schedule, 0.01 of a
            continuous one, and one step of a linear spacing there.

    Raises:
        SamplingError: `num_steps` out of bounds, an unknown spacing, or not 0 < end < start <= 1.
    """
    num_steps = _check_num_steps(num_steps, schedule.most_steps)
    if spacing is None and end is None and start == 1 and num_steps == schedule.trained_steps:
        return full_grid(schedule)
    spacing = chosen(spacing or schedule.default_spacing, "schedule", SPACINGS, SamplingError)
    end = schedule.last_time(start / num_steps, spacing) if end is None else end
    if not 0 < start <= 1 or (num_steps > 1 and not 0 < end < start):
        raise SamplingError(f"schedule: starts at t = {start:g} and ends at {end:g}; need 0 < end < start <= 1")
    shares = torch.linspace(0, 1, num_steps, dtype=torch.float64, device="cpu")
    times = SPACINGS[spacing](schedule, start, end, shares) if num_steps > 1 else shares
    times[0] = start  # a noise level that was bounded, or rounding
    return _grid(times)


def needs_num_steps(name: str | Sequence[float] | None) -> TypeGuard[str | None]:
    """Whether what `make_grid` takes as `name` leaves the number of steps open: a spacing, or none."""
    return name is None or (isinstance(name, str) and name in SPACINGS)


def make_grid(
    schedule: Schedule, num_steps: int | None, name: str | Sequence[float] | None = None, *, start: float = 1.0
) -> Tensor:
    """Descending times (S + 1,), float64, ending in 0, from what people say.

    Args:
        schedule: of the training.
        num_steps: S; needed unless `name` implies it.
        name: a spacing (see `spaced_grid`), a published schedule (see `published_betas`), "full" for all training
            steps, or ascending betas.
        start: where sampling begins; published schedules and betas begin where their noise is, at most there.

    Raises:
        SamplingError: there is no such grid, or `num_steps` contradicts it.
    """
    if needs_num_steps(name):
        if num_steps is None:
            raise SamplingError("num_steps: is needed with a spacing; give it")
        return spaced_grid(schedule, num_steps, name, start=start)
    grid = _published_grid(schedule, name) if isinstance(name, str) else align(schedule, name)
    if num_steps is not None:
        num_steps = _check_num_steps(num_steps, MAX_DISCRETE_STEPS)
    if num_steps not in (None, len(grid) - 1):
        raise SamplingError(
            f"schedule: has {len(grid) - 1} steps, which num_steps {num_steps} contradicts; give one of both"
        )
    if grid[0] > start + 1e-9:
        raise SamplingError(
            f"schedule: begins at t = {grid[0].item():.3g}, but this starts at {start:g}; give num_steps instead"
        )
    return grid


def _published_grid(schedule: Schedule, name: str) -> Tensor:
    if name == "full":
        return full_grid(schedule)
    if name not in PUBLISHED:
        known = [*SPACINGS, *PUBLISHED, "full"]
        meant = did_you_mean(name, known)
        raise SamplingError(
            f"schedule: {shown(name)} is unknown{meant}; choose {', '.join(known)}, or give ascending betas"
        )
    return align(schedule, published_betas(name, schedule))


def full_grid(schedule: Schedule) -> Tensor:
    """(T + 1,) descending times of all training steps, ending in 0.

    Raises:
        SamplingError: the schedule has no steps.
    """
    steps = schedule.trained_steps
    if steps is None:
        raise SamplingError("schedule: 'full' is for models of discrete steps; give num_steps")
    return torch.arange(steps, -1, -1, dtype=torch.float64, device="cpu") / steps


def published_betas(name: str, schedule: Schedule) -> tuple[float, ...]:
    """The betas of a published schedule: "fast6" of DiffWave, or "bddm3", "bddm4", "bddm6", "bddm8".

    Raises:
        SamplingError: there is none of that name for a model with this training schedule.
    """
    if name in BDDM_BETAS:
        first, *others = BDDM_BETAS[name]
        # As BDDM does with a level below the first training step: that step takes its place.
        if first < schedule.beta_min <= others[0]:
            first = schedule.beta_min
        return (first, *others)
    chosen(name, "schedule", PUBLISHED, SamplingError)
    if schedule.trained_steps is None:
        raise SamplingError("schedule: 'fast6' is for models of discrete steps; give num_steps")
    if schedule.fast_betas is None:
        raise SamplingError(
            f"schedule: no fast schedule was published for T = {schedule.trained_steps} with these betas; give "
            "num_steps, 'full' or betas"
        )
    return schedule.fast_betas


def align(schedule: Schedule, betas: Sequence[float] | None) -> Tensor:
    """Descending times (S + 1,), ending in 0, at which training had the noise of a short schedule.

    >>> from wavediff.diffusion import FAST_BETAS, DiscreteSchedule
    >>> align(DiscreteSchedule(num_steps=50, beta_min=1e-4, beta_max=0.05), FAST_BETAS["base"])[:4]
    tensor([0.8784, 0.4798, 0.2290, 0.1017], dtype=torch.float64)

    Every step of `betas` (S,) is kept. The paper's fractional alignment, appendix B: t_s lies where sqrt(alpha_bar)
    of training, taken as linear between discrete steps, equals that of the short schedule.

    Args:
        schedule: of the training.
        betas: ascending variances, each in (0, 1), first the last step before the data.

    Raises:
        SamplingError: empty, not finite, outside (0, 1), descending, longer than T, or with a noise level
            that was not trained.
    """
    betas = _check_betas(betas)
    alpha_bars = torch.cumprod(1 - torch.tensor(list(betas), dtype=torch.float64, device="cpu"), dim=0)
    _check_num_steps(len(betas), schedule.most_steps)
    _check_trained(schedule, betas, alpha_bars)
    return _grid(schedule.time_of_alpha_bar(alpha_bars).flip(0))


def _grid(times: Tensor) -> Tensor:
    """Those times (S,) and 0."""
    grid = torch.cat([times, torch.zeros(1, dtype=torch.float64, device="cpu")])
    if (grid.diff() >= 0).any():
        raise SamplingError("schedule: two steps lie at the same time; take fewer steps, other ends or betas")
    return grid


def _check_trained(schedule: Schedule, betas: Sequence[float], alpha_bars: Tensor) -> None:
    ends = schedule.alpha(torch.tensor([schedule.t_min, 1.0], dtype=torch.float64, device="cpu"))
    least, most = (1 - ends).tolist()
    # Noise levels are compared by their distance to 1: alpha itself hides a missing 1e-4 in its last digits.
    tolerance = 1e-6
    for index, alpha_bar in enumerate(alpha_bars.tolist()):
        noise = 1 - math.sqrt(alpha_bar)
        if noise < least * (1 - tolerance) or noise > most * (1 + tolerance):
            raise SamplingError(
                f"schedule: step {index + 1} of {len(betas)} (beta {betas[index]:g}) has noise level alpha_bar "
                f"{alpha_bar:.6g}, the model was trained on {ends[0].item() ** 2:.6g} down to "
                f"{ends[1].item() ** 2:.6g}; choose betas inside that range"
            )


def _noise_to_signal(schedule: Schedule, t: float, most: float = MAX_NOISE_TO_SIGNAL) -> Tensor:
    """sigma / alpha, a scalar."""
    time = torch.tensor([t], dtype=torch.float64, device="cpu")
    return (schedule.sigma(time) / schedule.alpha(time)).clamp(max=most)[0]


def _check_num_steps(num_steps: int, most: int) -> int:
    return whole(num_steps, "num_steps", 1, most, SamplingError)


def _check_betas(given: Sequence[float] | None) -> list[float]:
    betas = as_list(given)
    if betas is None:
        raise SamplingError(f"schedule: {shown(given)} is neither a name nor a list of betas")
    if len(betas) == 0:
        raise SamplingError("schedule: is empty; give ascending betas such as 0.0001,0.001,0.01,0.05,0.2,0.5")
    if not all(is_real(beta) and 0 < beta < 1 for beta in betas):
        raise SamplingError(f"schedule: {shown(betas)} holds a beta that is not a number inside (0, 1)")
    if any(later < earlier for earlier, later in itertools.pairwise(betas)):
        raise SamplingError(f"schedule: {shown(betas)} is not ascending; sort the betas")
    return [float(beta) for beta in betas]
