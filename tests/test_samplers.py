"""Samplers against closed forms: data whose ideal denoiser is known, and papers' algorithms written out."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from wavediff.diffusion import (
    FAST_BETAS,
    SAMPLERS,
    CosineSchedule,
    DiscreteSchedule,
    FlowSchedule,
    ItemNoise,
    Schedule,
    make_sampler,
    predict_x0,
    spaced_grid,
)
from wavediff.diffusion.grids import align, full_grid
from wavediff.diffusion.samplers import Denoise
from wavediff.diffusion.schedules import expand

BASE = DiscreteSchedule()
LARGE = DiscreteSchedule(200, 1e-4, 0.02)
SCHEDULES: dict[str, Schedule] = {
    "discrete": DiscreteSchedule(1000, 1e-4, 0.02),
    "cosine": CosineSchedule(),
    "shifted cosine": CosineSchedule(0.008),
    "flow": FlowSchedule(),
}
NAMES = [*SAMPLERS, "ddim:eta=0.5", "heun:churn=0.2", "dpmpp-2m:eta=0.5"]
DETERMINISTIC = ("ddim", "dpmpp-2m", "heun", "euler")

MEAN, VARIANCE = 0.3, 0.04
GAUSSIAN = ((1.0, MEAN, VARIANCE),)
MIXTURE = ((0.3, -0.6, 0.01), (0.7, 0.4, 0.04))


def ideal_denoiser(schedule: Schedule, components: tuple = GAUSSIAN) -> Denoise:
    """E[x_0 | x_t] for independent samples of a mixture of Gaussians, each of (weight, mean, variance)."""
    weight, mean, variance = torch.tensor(components, dtype=torch.float64).T

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (expand(share, x_t)[..., None] for share in (schedule.alpha(t), schedule.sigma(t)))
        total = alpha**2 * variance + sigma**2
        from_mean = x_t[..., None] - alpha * mean
        share = torch.softmax(weight.log() - total.log() / 2 - from_mean**2 / (2 * total), -1)
        return (share * (mean + variance * alpha / total * from_mean)).sum(-1)

    return denoise


class UnitNoise:
    """Column k of the k-th draw is 1, all else 0: what a sampler that is affine makes of each draw."""

    def __init__(self) -> None:
        self.draws = 0

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        noise = torch.zeros(1, length, dtype=dtype)
        noise[0, self.draws] = 1
        self.draws += 1
        return noise


def mean_and_variance(x: Tensor) -> tuple[float, float]:
    """Exact ones of an x that is affine in the draws: what no draw changed, and the squares of what each did."""
    return x[0, -1].item(), (x[0, :-1] - x[0, -1]).square().sum().item()


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_with_the_ideal_denoiser_every_sampler_reaches_the_moments_of_gaussian_data(
    name: str, schedule: Schedule
) -> None:
    errors = []
    for num_steps in (20, 80, 320):
        noise, grid = UnitNoise(), spaced_grid(schedule, num_steps, "log-snr")
        alpha, sigma = schedule.alpha(grid[[0, -2]]), schedule.sigma(grid[[0, -2]])
        spread = alpha**2 * VARIANCE + sigma**2
        x_T = alpha[0] * MEAN + spread[0].sqrt() * noise.normal(num_steps + 2, torch.float64)
        x_0 = make_sampler(name)(ideal_denoiser(schedule), x_T, schedule, grid, noise)
        mean, variance = mean_and_variance(x_0)
        # What the last step leaves of the variance, since it ends on the mean of x_0 given x_t.
        errors.append(abs(variance / (VARIANCE**2 * alpha[1] ** 2 / spread[1]).item() - 1))
    second_order = name in ("dpmpp-2m", "dpmpp-2m-sde", "dpmpp-2m:eta=0.5", "heun")
    assert all(fewer > (10 if second_order else 2.8) * more for fewer, more in itertools.pairwise(errors)), errors
    assert variance == pytest.approx(VARIANCE, rel=0.005 if second_order or "heun" in name else 0.04)
    # All but Euler's method are exact where the estimate of x_0 does not change.
    assert mean == pytest.approx(MEAN, abs=1e-3 if name == "euler" else 1e-12)


def mixture_quantiles(count: int) -> Tensor:
    weight, mean, variance = torch.tensor(MIXTURE, dtype=torch.float64).T
    x = torch.linspace(-2, 2, 20_001, dtype=torch.float64)
    below = (weight * torch.special.ndtr((x[:, None] - mean) / variance.sqrt())).sum(-1)
    return torch.from_numpy(np.interp((np.arange(count) + 0.5) / count, below.numpy(), x.numpy()))


class EvenNoise:
    """Quantiles of the normal distribution in random order: as many samples say more about a distribution."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
        order = torch.randperm(length, generator=self.generator)
        return torch.special.ndtri((order.double() + 0.5) / length)[None].to(dtype)


def sample_mixture(name: str, schedule: Schedule, grid: Tensor, count: int = 4000) -> Tensor:
    noise, alpha, sigma = EvenNoise(0), schedule.alpha(grid[0]), schedule.sigma(grid[0])
    x_T = alpha * mixture_quantiles(count) + sigma * noise.normal(count, torch.float64)
    return make_sampler(name)(ideal_denoiser(schedule, MIXTURE), x_T, schedule, grid, noise)[0].sort().values


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_from_noise_at_t_1_every_sampler_reaches_the_distribution_of_a_mixture(name: str, schedule: Schedule) -> None:
    """Wasserstein distance to the exact quantiles, for data that deviates by 0.49."""
    grids = [spaced_grid(schedule, num_steps) for num_steps in (5, 20, 100)]
    assert all(grid[0] == 1 for grid in grids)
    samples = [sample_mixture(name, schedule, grid) for grid in grids]
    exact = mixture_quantiles(4000)
    distances = [(x - exact).abs().mean().item() for x in samples]
    assert distances[0] > 1.5 * distances[1], distances
    assert distances[1] > distances[2], distances
    # 4000 draws leave up to 0.008 to chance where there is fresh noise.
    assert distances[-1] < {"heun": 0.002, "dpmpp-2m": 0.002, "ddim": 0.008, "euler": 0.008}.get(name, 0.02)
    assert (samples[-1] < -0.2).double().mean().item() == pytest.approx(0.3, abs=0.02)  # the first component


@pytest.mark.parametrize("name", NAMES)
def test_the_published_fast_schedule_gives_about_the_distribution_of_all_steps(name: str) -> None:
    fast = sample_mixture(name, LARGE, align(LARGE, FAST_BETAS["large"]))
    full = sample_mixture(name, LARGE, full_grid(LARGE))
    assert (fast - full).abs().mean() < 0.12
    assert (full - mixture_quantiles(4000)).abs().mean() < 0.02


@pytest.mark.parametrize("spacing", ["linear", "log-snr"])
@pytest.mark.parametrize("kind", ["discrete", "cosine", "flow"])
@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp-2m", 2)])
def test_the_error_falls_with_the_number_of_steps_as_the_order_of_the_method_says(
    name: str, order: int, kind: str, spacing: str
) -> None:
    """Along the probability-flow ODE of Gaussian data (x_t - mean) / deviation is constant."""
    unit = torch.linspace(-2, 2, 9, dtype=torch.float64)[None]
    schedule, errors = SCHEDULES[kind], []
    for num_steps in (100, 400):
        grid = spaced_grid(schedule, num_steps + 1, spacing, start=0.9, end=0.05)[:-1]
        alpha = schedule.alpha(grid[[0, -1]])
        deviation = (alpha**2 * VARIANCE + schedule.sigma(grid[[0, -1]]) ** 2).sqrt()
        first, last = (MEAN * alpha[i] + deviation[i] * unit for i in range(2))
        x = make_sampler(name)(ideal_denoiser(schedule), first, schedule, grid, ItemNoise([0]))
        errors.append((x - last).abs().max().item())
    slope = math.log(errors[0] / errors[1], 4)
    # A discrete schedule is only smooth between its steps.
    assert order - 0.2 < slope < order + (0.9 if kind == "discrete" else 0.2), errors


@pytest.mark.parametrize("schedule", [BASE, *SCHEDULES.values()], ids=["base", *SCHEDULES])
@pytest.mark.parametrize("name", NAMES)
def test_for_data_that_is_one_signal_every_sampler_ends_on_it_in_any_number_of_steps(
    name: str, schedule: Schedule
) -> None:
    signal = 5 * torch.randn(1, 64, generator=torch.Generator().manual_seed(3))
    sampler, times = make_sampler(name), []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        times.append(t)
        return signal

    for num_steps in range(1, 7):
        times.clear()
        noise, grid = ItemNoise([0]), spaced_grid(schedule, num_steps)
        states = list(sampler.states(denoise, noise.normal(64), schedule, grid, noise))
        torch.testing.assert_close(states[-1], signal, rtol=1e-5, atol=1e-6)
        assert len(states) == num_steps
        assert max(x_t.abs().max() for x_t in states) > 5  # the state was not clamped
        # Heun's first step from pure noise, where alpha is 0, is Euler's.
        saved = "heun" in name and num_steps > 1 and bool(schedule.alpha(grid[0]) == 0)
        assert len(times) == sampler.evaluations(num_steps) - saved
        assert all(t.shape == (1,) and 0 < t <= grid[0] for t in times)
        if "heun" not in name:
            assert torch.cat(times).tolist() == grid[:-1].tolist()


@pytest.mark.parametrize("schedule", [BASE, *SCHEDULES.values()], ids=["base", *SCHEDULES])
@pytest.mark.parametrize("name", [name for name in [*NAMES, "dpmpp-2m-sde:eta=0.7"] if name != "euler"])
def test_for_data_that_is_one_signal_the_state_keeps_the_mean_and_noise_of_the_schedule(
    name: str, schedule: Schedule
) -> None:
    """alpha x_0 and sigma^2 after every step, however much of the noise is fresh."""
    noise, grid = UnitNoise(), spaced_grid(schedule, 8, start=0.8)
    x = schedule.alpha(grid[:1]) * MEAN + schedule.sigma(grid[:1]) * noise.normal(20, torch.float64)
    signal = torch.full_like(x, MEAN)
    states = list(make_sampler(name).states(lambda x_t, t: signal, x, schedule, grid, noise))
    mean, variance = torch.tensor([mean_and_variance(state) for state in states], dtype=torch.float64).T
    torch.testing.assert_close(mean, schedule.alpha(grid[1:]) * MEAN, rtol=1e-12, atol=0)
    torch.testing.assert_close(variance, schedule.sigma(grid[1:]) ** 2, rtol=1e-9, atol=1e-15)
    assert noise.draws == (1 if name in DETERMINISTIC else 8)  # none for the last step


def test_ancestral_sampling_is_algorithm_2_of_the_paper() -> None:
    """eps form, written out step by step in float64 against the x_0 form of the package."""
    betas = np.array(FAST_BETAS["base"])
    alphas = 1 - betas
    level = np.cumprod(alphas)
    eps_of = lambda x, n: np.sin(3 * x + n)  # noqa: E731  any network will do
    draws = ItemNoise([5])
    x = draws.normal(512, torch.float64).numpy()
    for n in reversed(range(6)):
        x = (x - betas[n] / np.sqrt(1 - level[n]) * eps_of(x, n)) / np.sqrt(alphas[n])
        if n > 0:
            sigma = np.sqrt((1 - level[n - 1]) / (1 - level[n]) * betas[n])
            x = x + sigma * draws.normal(512, torch.float64).numpy()

    grid = align(BASE, FAST_BETAS["base"])
    position = {time.item(): 5 - index for index, time in enumerate(grid[:-1])}

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        eps = torch.from_numpy(eps_of(x_t.numpy(), position[t[0].item()]))
        return predict_x0("eps", eps, x_t, BASE.alpha(t), BASE.sigma(t))

    for name in ("ddpm", "ddim:eta=1"):
        noise = ItemNoise([5])
        ours = make_sampler(name)(denoise, noise.normal(512, torch.float64), BASE, grid, noise)
        np.testing.assert_allclose(ours.numpy(), x, atol=1e-8)


@pytest.mark.parametrize("schedule", [BASE, SCHEDULES["cosine"], SCHEDULES["flow"]], ids=["base", "cosine", "flow"])
def test_heun_is_the_stochastic_sampler_of_edm(schedule: Schedule) -> None:
    """Algorithm 2 of Karras et al. 2022, written out in their x and sigma; noise is never above where it began."""
    grid = torch.tensor([0.9, 0.89, 0.4, 0.2, 0.05, 0.02, 0.0], dtype=torch.float64)
    levels = (schedule.sigma(grid) / schedule.alpha(grid)).tolist()
    draws = ItemNoise([2])
    first = draws.normal(64, torch.float64) * schedule.sigma(grid[0])
    x, expected = first / schedule.alpha(grid[0]), []
    estimate = lambda x, level: 0.4 * torch.sin(3 * x + level)  # noqa: E731  any denoiser will do
    for index, (level, after) in enumerate(itertools.pairwise(levels)):
        raised = min(1.3 * level, levels[0]) if index > 0 else level
        if index > 0:
            x = x + math.sqrt(raised**2 - level**2) * 1.01 * draws.normal(64, torch.float64)
        slope = (x - estimate(x, raised)) / raised
        euler = x + (after - raised) * slope
        expected.append(raised)
        if after > 0:
            other = (euler - estimate(euler, after)) / after
            euler = x + (after - raised) * (slope + other) / 2
            expected.append(after)
        x = euler

    seen: list[float] = []

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((schedule.sigma(t) / schedule.alpha(t)).item())
        return estimate(x_t / schedule.alpha(t), seen[-1])

    noise = ItemNoise([2])
    noise.normal(64, torch.float64)
    ours = make_sampler("heun:churn=0.3,noise_scale=1.01")(denoise, first, schedule, grid, noise)
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(seen, expected, rtol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_eta_of_dpmpp_is_the_share_of_the_noise_that_is_fresh(eta: float) -> None:
    """SA-Solver, eq. 14: e^(-eta h) of sigma_s is kept, h the step in log(alpha / sigma); DDIM's step for eta = 0."""
    grid, states = torch.tensor([0.8, 0.5, 0.0], dtype=torch.float64), []
    for name in (f"dpmpp-2m:eta={eta}", "ddim"):
        noise, schedule = UnitNoise(), SCHEDULES["cosine"]
        x_T = noise.normal(4, torch.float64)
        states += make_sampler(name).states(lambda x_t, t: 0 * x_t, x_T, schedule, grid, noise)
    fall = (torch.tan(math.pi / 2 * grid[1]) / torch.tan(math.pi / 2 * grid[0])) ** eta
    torch.testing.assert_close(states[0][0, 0], fall * states[2][0, 0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_items_of_a_batch_do_not_depend_on_their_neighbours_and_seeds_decide(name: str) -> None:  # fault 66
    torch.manual_seed(0)
    before = torch.get_rng_state()

    def sample(seeds: list[int]) -> Tensor:
        noise, schedule = ItemNoise(seeds), SCHEDULES["cosine"]
        denoise = lambda x_t, t: torch.tanh(x_t) * expand(0.5 + t, x_t)  # noqa: E731
        return make_sampler(name)(denoise, noise.normal(32), schedule, spaced_grid(schedule, 6), noise)

    batch = sample([7, 8, 9])
    torch.testing.assert_close(sample([8]), batch[1:2], rtol=1e-5, atol=1e-6)
    assert torch.equal(sample([7, 8, 9]), batch)
    assert not torch.equal(batch[0], batch[1])
    assert torch.equal(before, torch.get_rng_state())
