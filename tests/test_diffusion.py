"""The maths of diffusion against closed forms."""

import itertools

import numpy as np
import pytest
import torch

from wavediff.diffusion import (
    FAST_BETAS,
    SAMPLERS,
    DiscreteSchedule,
    ItemNoise,
    NoiseRegression,
    expand,
    make_sampler,
    predict_noise,
    predict_x0,
    training_target,
)
from wavediff.diffusion.samplers import DDIM, DDPM
from wavediff.errors import ConfigError, SamplingError

BASE = DiscreteSchedule()
LARGE = DiscreteSchedule(200, 1e-4, 0.02)


def alpha_bar(schedule: DiscreteSchedule) -> np.ndarray:
    betas = np.linspace(schedule.beta_min, schedule.beta_max, schedule.num_steps)
    return np.cumprod(1 - betas)


@pytest.mark.parametrize("schedule", [BASE, LARGE])
def test_alpha_and_sigma_at_the_training_steps_are_those_of_the_paper(schedule: DiscreteSchedule) -> None:
    t = torch.arange(1, schedule.num_steps + 1).double() / schedule.num_steps
    expected = torch.from_numpy(alpha_bar(schedule))
    torch.testing.assert_close(schedule.alpha(t) ** 2, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - expected, rtol=1e-9, atol=0)
    assert schedule.alpha(torch.zeros(1)).item() == 1


def test_log_snr_falls_with_time() -> None:
    t = torch.linspace(BASE.t_min, 1, 500, dtype=torch.float64)
    assert (BASE.log_snr(t).diff() < 0).all()
    assert BASE.log_snr(torch.ones(1)).item() == pytest.approx(np.log(alpha_bar(BASE)[-1] / (1 - alpha_bar(BASE)[-1])))


def test_time_is_broadcast_per_item_even_when_batch_equals_length() -> None:
    values, signal = torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, 3)
    assert (expand(values, signal) * signal)[:, 0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="3 items"):
        expand(torch.ones(2), signal)


@pytest.mark.parametrize(("schedule", "name"), [(BASE, "base"), (LARGE, "large")])
def test_the_published_fast_schedules_keep_every_step_at_their_own_noise_level(
    schedule: DiscreteSchedule, name: str
) -> None:
    betas = FAST_BETAS[name]
    grid = schedule.align(betas)
    assert len(grid) == len(betas) + 1
    assert grid[-1] == 0
    assert (grid.diff() < 0).all()
    expected = torch.from_numpy(np.cumprod(1 - np.array(betas))).flip(0)
    torch.testing.assert_close(schedule.alpha(grid[:-1]) ** 2, expected, rtol=1e-9, atol=0)


def test_alignment_interpolates_between_training_steps_as_published() -> None:
    """The search of the paper's appendix B, written out: t + (l_t - l) / (l_t - l_{t+1}) with l = sqrt(alpha_bar)."""
    level = np.sqrt(alpha_bar(BASE))
    expected = []
    for target in np.sqrt(np.cumprod(1 - np.array(FAST_BETAS["base"]))):
        low = max(i for i in range(49) if level[i] >= target - 1e-15)
        expected.append(low + (level[low] - target) / (level[low] - level[low + 1]))
    steps = BASE.align(FAST_BETAS["base"])[:-1].flip(0) * 50 - 1
    np.testing.assert_allclose(steps.numpy(), expected, atol=1e-9)


def test_aligning_the_training_betas_gives_the_training_steps() -> None:
    torch.testing.assert_close(BASE.align(BASE.betas.tolist()), BASE.full_grid(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 2, 6, 49, 50])
def test_a_spaced_grid_has_as_many_steps_as_asked_all_of_them_trained(num_steps: int) -> None:
    grid = BASE.spaced_grid(num_steps)
    assert len(grid) == num_steps + 1
    assert grid[0] == 1
    assert grid[-1] == 0
    assert (grid.diff() < 0).all()
    assert grid[-2] >= BASE.t_min - 1e-12


@pytest.mark.parametrize("num_steps", [0, -3, 51, 2.0, True])
def test_a_number_of_steps_that_was_not_trained_is_refused(num_steps: int) -> None:  # fault 63
    with pytest.raises(SamplingError, match="1 to 50"):
        BASE.spaced_grid(num_steps)


@pytest.mark.parametrize(
    ("betas", "cause"),
    [
        ([], "empty"),
        ([0.1, 0.01], "ascending"),
        ([0.0, 0.1], "inside"),
        ([0.1, 1.0], "inside"),
        ([0.1, float("nan")], "inside"),
        ([0.00001, 0.1], "trained on"),  # less noise than the first training step
        ([0.0001, 0.9], "trained on"),  # more than the last
        ([0.0001] * 51, "1 to 50"),
    ],
)
def test_an_impossible_schedule_is_refused_and_no_step_is_dropped(betas: list[float], cause: str) -> None:  # fault 64
    with pytest.raises(SamplingError, match=cause):
        BASE.align(betas)


@pytest.mark.parametrize("arguments", [(1, 1e-4, 0.05), (50, 0.0, 0.05), (50, 0.1, 0.05), (50, 1e-4, 1.0), (10**9,)])
def test_a_schedule_out_of_bounds_is_refused_before_it_is_built(arguments: tuple) -> None:
    with pytest.raises(ConfigError, match="schedule"):
        DiscreteSchedule(*arguments)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_every_prediction_gives_back_the_signal_and_the_noise(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn(2, 5, 64, generator=generator, dtype=torch.float64)
    t = torch.tensor([0.02, 0.3, 0.5, 0.77, 1.0])
    alpha, sigma = BASE.alpha(t), BASE.sigma(t)
    x_t = expand(alpha, x_0) * x_0 + expand(sigma, x_0) * noise
    target = training_target(kind, x_0, noise, alpha, sigma)  # type: ignore[arg-type]
    estimate = predict_x0(kind, target, x_t, alpha, sigma)  # type: ignore[arg-type]
    torch.testing.assert_close(estimate, x_0, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(predict_noise(estimate, x_t, alpha, sigma), noise, rtol=1e-9, atol=1e-9)


MEAN, VARIANCE = 0.3, 0.04


def ideal_denoiser(schedule: DiscreteSchedule):  # type: ignore[no-untyped-def]
    """E[x_0 | x_t] for independent Gaussian samples of MEAN and VARIANCE."""

    def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = expand(schedule.alpha(t), x_t), expand(schedule.sigma(t), x_t)
        gain = VARIANCE * alpha / (alpha**2 * VARIANCE + sigma**2)
        return MEAN + gain * (x_t - alpha * MEAN)

    return denoise


def sample_gaussian(name: str, schedule: DiscreteSchedule, num_steps: int) -> torch.Tensor:
    noise = ItemNoise([1, 2], "cpu")
    one = torch.ones(1)
    alpha, sigma = schedule.alpha(one), schedule.sigma(one)
    x_T = alpha * MEAN + (alpha**2 * VARIANCE + sigma**2).sqrt() * noise.normal(30_000, torch.float64)
    sampler = DDIM(eta=0.5) if name == "ddim eta 0.5" else make_sampler(name)
    return sampler(ideal_denoiser(schedule), x_T, schedule, schedule.spaced_grid(num_steps), noise)


@pytest.mark.parametrize("name", [*SAMPLERS, "ddim eta 0.5"])
def test_with_the_ideal_denoiser_every_sampler_reaches_the_mean_and_variance_of_gaussian_data(name: str) -> None:
    schedule = DiscreteSchedule(1000, 1e-4, 0.02)
    x_0 = sample_gaussian(name, schedule, 1000)
    assert x_0.mean().item() == pytest.approx(MEAN, abs=0.004)
    # First-order methods: 2 to 4 % low at 1000 steps; the next test watches it shrink.
    assert x_0.var().item() == pytest.approx(VARIANCE, rel=0.05)


@pytest.mark.parametrize("name", [*SAMPLERS, "ddim eta 0.5"])
def test_more_steps_come_closer_to_the_variance(name: str) -> None:
    schedule = DiscreteSchedule(1000, 1e-4, 0.02)
    errors = [abs(sample_gaussian(name, schedule, steps).var().item() - VARIANCE) for steps in (5, 20, 80)]
    assert all(fewer > 1.5 * more for fewer, more in itertools.pairwise(errors)), errors


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_for_data_that_is_one_signal_every_sampler_ends_on_it_in_any_number_of_steps(name: str) -> None:
    signal = torch.randn(1, 256, generator=torch.Generator().manual_seed(3))
    for betas in (FAST_BETAS["base"], (0.3,)):
        noise = ItemNoise([0])
        x_0 = make_sampler(name)(lambda x_t, t: signal, noise.normal(256), BASE, BASE.align(betas), noise)
        torch.testing.assert_close(x_0, signal, rtol=0, atol=1e-6)


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

    grid = BASE.align(FAST_BETAS["base"])
    position = {time.item(): 5 - index for index, time in enumerate(grid[:-1])}

    def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        eps = torch.from_numpy(eps_of(x_t.numpy(), position[t[0].item()]))
        return predict_x0("eps", eps, x_t, BASE.alpha(t), BASE.sigma(t))

    noise = ItemNoise([5])
    ours = DDPM()(denoise, noise.normal(512, torch.float64), BASE, grid, noise)
    np.testing.assert_allclose(ours.numpy(), x, atol=1e-8)


def test_no_sampler_clamps_the_noisy_state() -> None:
    for name in SAMPLERS:
        peaks: list[float] = []
        noise = ItemNoise([0])
        signal = torch.full((1, 4096), 5.0)
        x_0 = make_sampler(name)(
            lambda x_t, t, signal=signal: signal,
            noise.normal(4096),
            BASE,
            BASE.full_grid(),
            noise,
            lambda index, x_t, peaks=peaks: peaks.append(x_t.max().item()),
        )
        assert len(peaks) == 50
        assert max(peaks) > 5
        assert x_0.max() == pytest.approx(5, abs=1e-5)


def test_ddim_draws_no_noise() -> None:
    noise = ItemNoise([0])
    x_T = noise.normal(64)
    state = noise.generators[0].get_state()
    DDIM()(lambda x_t, t: 0.5 * x_t, x_T, BASE, BASE.full_grid(), noise)
    assert torch.equal(state, noise.generators[0].get_state())


def test_noise_belongs_to_the_item_and_leaves_the_global_state_alone() -> None:  # fault 66
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batch = ItemNoise([7, 8, 9])
    first, second = batch.normal(100), batch.normal(100)
    assert torch.equal(before, torch.get_rng_state())
    alone = ItemNoise([8])
    assert torch.equal(alone.normal(100)[0], first[1])
    assert torch.equal(alone.normal(100)[0], second[1])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True])
def test_a_seed_that_is_no_whole_number_is_refused(seed: int) -> None:
    with pytest.raises(SamplingError, match="seed"):
        ItemNoise([seed])


def test_an_unknown_sampler_is_refused_with_those_there_are() -> None:
    with pytest.raises(SamplingError, match="ddpm, ddim"):
        make_sampler("euler")
    with pytest.raises(ConfigError, match="eta"):
        DDIM(eta=2)


def test_the_loss_is_the_mean_squared_error_of_the_noise_over_the_valid_samples() -> None:
    x_0, lengths = torch.randn(3, 400, generator=torch.Generator().manual_seed(1)), torch.tensor([400, 250, 1])
    seeds = [3, 4, 5]
    seen = {}

    def predict(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen["x_t"], seen["t"] = x_t, t
        return 0.1 * x_t

    loss = NoiseRegression()(predict, x_0, lengths, ItemNoise(seeds), BASE, "eps")
    draws = ItemNoise(seeds)
    step = draws.integers(1, 51)
    noise = draws.normal(400)
    level = torch.from_numpy(alpha_bar(BASE))[step - 1].float()[:, None]
    x_t = level.sqrt() * x_0 + (1 - level).sqrt() * noise
    torch.testing.assert_close(seen["x_t"], x_t, rtol=1e-5, atol=1e-6)
    expected = [((0.1 * x_t - noise) ** 2)[i, :n].mean() for i, n in enumerate(lengths)]
    torch.testing.assert_close(loss.per_item, torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert loss.mean.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_the_training_steps_are_drawn_uniformly() -> None:
    draws = torch.cat([ItemNoise([seed]).integers(1, 51) for seed in range(5000)])
    counts = torch.bincount(draws, minlength=51)
    assert counts[0] == 0
    assert counts[1:].min() > 50
    assert counts[1:].max() < 150


def test_a_perfect_network_has_no_loss_and_a_zero_network_has_loss_one() -> None:
    x_0, lengths = torch.zeros(4, 20_000), torch.full((4,), 20_000)
    perfect = lambda x_t, t: x_t / expand(BASE.sigma(t), x_t)  # noqa: E731
    assert NoiseRegression()(perfect, x_0, lengths, ItemNoise(range(4)), BASE, "eps").mean < 1e-10
    zero = NoiseRegression()(lambda x_t, t: 0 * x_t, x_0, lengths, ItemNoise(range(4)), BASE, "eps").mean
    assert zero.item() == pytest.approx(1, abs=0.02)
    l1 = NoiseRegression("l1")(lambda x_t, t: 0 * x_t, x_0, lengths, ItemNoise(range(4)), BASE, "eps").mean
    assert l1.item() == pytest.approx((2 / np.pi) ** 0.5, abs=0.01)
