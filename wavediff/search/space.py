"""What is searched: plans as points of a box.

First a handful of numbers that shape the whole plan, then each time for itself:

    start   the first time
    end     the last time before the data
    warp    how much denser the times lie towards the data: evenly spaced in t^(1 / warp)
    noise   share of fresh noise: the sampler's eta, or its churn
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wavediff.diffusion import Plan
from wavediff.diffusion.samplers import MAX_CHURN
from wavediff.models.config import ModelConfig

LOWEST_START = 0.02
START_RANGE = 4.0  # how far around the model's own the start of a guess is searched
LEAST_END = 0.02  # the last time over the first
WARPS = (0.5, 5.0)
LEAST_GAP = 1e-3  # between neighbouring times, as the logarithm of their ratio
ROOM = 0.02  # for each step between the highest last time and the highest first one, likewise
DIGITS = 6  # of times: finer ones sound the same and would be measured twice

# What is searched of each sampler: the option that scales its noise, and its largest value.
NOISE_OPTIONS = {
    "ddim": ("eta", 1.0),
    "dpmpp-2m": ("eta", 1.0),
    "heun": ("churn", MAX_CHURN),
}


@dataclass(frozen=True)
class Space:
    """The plans of one sampler with one number of steps, for one model.

    Attributes:
        sampler: a key of `NOISE_OPTIONS`.
        num_steps: of the grid.
        starts: lowest and highest first time.
        least_end: lowest last time before the data.
    """

    sampler: str
    num_steps: int
    starts: tuple[float, float]
    least_end: float

    @property
    def dimensions(self) -> int:
        """Numbers that shape a plan: start; with a second step noise and end; with a third the warp."""
        return (1, 3, 4)[min(self.num_steps, 3) - 1]

    def shaped(self, point: Sequence[float]) -> Plan:
        """The plan at a point of the unit cube, (start, noise, end, warp) as far as there are dimensions."""
        unit = [min(max(float(value), 0.0), 1.0) for value in point]
        low, high = self.starts
        start = low * (high / low) ** unit[0]
        if self.num_steps == 1:
            return self._plan([start], 0.0)
        least = max(self.least_end / start, LEAST_END)
        end = start * least ** (1 - 0.95 * unit[2])
        times = [start, end]
        if self.num_steps > 2:
            root = 1 / (WARPS[0] * (WARPS[1] / WARPS[0]) ** unit[3])
            times = list(np.linspace(start**root, end**root, self.num_steps) ** (1 / root))
        return self._plan(times, unit[1])

    def coordinates(self, plan: Plan) -> list[float]:
        """A plan of this sampler as free coordinates: its noise, the logarithm of its last time, and of the gaps."""
        logs = [math.log(t) for t in plan.times[:-1]]
        gaps = [max(a - b, LEAST_GAP) for a, b in itertools.pairwise(logs)]
        return [noise_of(plan), logs[-1], *(math.log(gap) for gap in reversed(gaps))]

    def free(self, coordinates: Sequence[float]) -> Plan:
        """The inverse of `coordinates`, bounded to what the model knows."""
        low, high = math.log(self.least_end), math.log(self.starts[1])
        logs = [min(max(coordinates[1], low), high - ROOM * self.num_steps)]
        for gap in coordinates[2:]:
            logs.append(logs[-1] + max(math.exp(min(gap, 2.0)), LEAST_GAP))
        if logs[-1] > high:  # too long a ladder: shrunk as a whole
            share = (high - logs[0]) / (logs[-1] - logs[0])
            logs = [logs[0] + share * (value - logs[0]) for value in logs]
        return self._plan([math.exp(value) for value in reversed(logs)], min(max(coordinates[0], 0.0), 1.0))

    def _plan(self, times: Sequence[float], noise: float) -> Plan:
        option, most = NOISE_OPTIONS[self.sampler]
        noise = round(noise * most, 4)
        name = f"{self.sampler}:{option}={noise:g}" if noise > 0 else self.sampler
        rounded = [0.0]
        for t in reversed(times):
            rounded.append(max(round(float(t), DIGITS), round(rounded[-1] + 10.0**-DIGITS, DIGITS)))
        rounded[-1] = min(rounded[-1], self.starts[1])
        return Plan(name, tuple(reversed(rounded)))


def noise_of(plan: Plan) -> float:
    """A plan's noise as a share of the most that its sampler can have."""
    kind, _, setting = plan.sampler.partition(":")
    return float(setting.partition("=")[2]) / NOISE_OPTIONS[kind][1] if setting else 0.0


def spaces(config: ModelConfig, evaluations: int) -> list[Space]:
    """All that is searched for a number of evaluations."""
    schedule, start = config.schedule, config.prior.start_time
    if schedule.trained_steps is not None:
        starts, least_end, most_steps = (0.4, 1.0), schedule.t_min, schedule.trained_steps
    else:
        starts = (max(start / START_RANGE, LOWEST_START), min(start * START_RANGE, 1.0))
        starts, least_end, most_steps = starts if start < 1 else (0.7, 1.0), LOWEST_START / 10, evaluations
    found = [Space("ddim", min(evaluations, most_steps), starts, least_end)]
    if evaluations > 1:
        found.append(Space("dpmpp-2m", min(evaluations, most_steps), starts, least_end))
    if evaluations > 2:  # of an even number one evaluation is left over
        found.append(Space("heun", (evaluations + 1) // 2, starts, least_end))
    return found
