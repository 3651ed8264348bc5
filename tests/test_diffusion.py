"""The maths of diffusion against closed forms."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from wavediff.backbones import Condition
from wavediff.diffusion import (
    CosineSchedule,
    DiscreteSchedule,
    FlowSchedule,
    ItemNoise,
    NoiseRegression,
    Schedule,
    make_sampler,
    predict_x0,
    spaced_grid,
)
from wavediff.diffusion.noise import CountedDraw
from wavediff.diffusion.samplers import DDIM, DPMpp2M, Heun
from wavediff.diffusion.schedules import PREDICTIONS, Prediction, expand, predict_noise, training_target
from wavediff.errors import ConfigError, SamplingError
from wavediff.models.denoiser import Bound, Denoiser

BASE = DiscreteSchedule()
LARGE = DiscreteSchedule(200, 1e-4, 0.02)
SCHEDULES: dict[str, Schedule] = {
    "discrete": BASE,
    "cosine": CosineSchedule(),
    "shifted cosine": CosineSchedule(0.008),
    "flow": FlowSchedule(),
}


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


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_time_is_the_inverse_of_the_log_snr_and_stays_on_the_axis(schedule: Schedule) -> None:
    t = torch.linspace(0.001, 0.999, 400, dtype=torch.float64)
    t = t[t >= 1 / 50] if schedule is BASE else t
    assert (schedule.log_snr(t).diff() < 0).all()
    torch.testing.assert_close(
        schedule.log_snr(t), 2 * torch.log(schedule.alpha(t) / schedule.sigma(t)), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=1e-7, atol=1e-9)
    ends = schedule.time(torch.tensor([math.inf, 80.0, -80.0, -math.inf], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0, 0, 1, 1], dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_slopes_are_the_derivatives_of_alpha_and_sigma(schedule: Schedule) -> None:
    t = torch.linspace(0.0213, 0.9987, 300, dtype=torch.float64)
    step = 1e-6
    for slope, share in zip(schedule.slopes(t), (schedule.alpha, schedule.sigma), strict=True):
        torch.testing.assert_close(slope, (share(t + step) - share(t - step)) / (2 * step), rtol=1e-6, atol=1e-7)
    # Back from pure noise.
    alpha_slope, sigma_slope = schedule.slopes(torch.ones(1))
    back = torch.tensor([1 - 1e-7, 1], dtype=torch.float64)
    assert alpha_slope.item() == pytest.approx(schedule.alpha(back).diff().item() / 1e-7, rel=1e-6)
    assert sigma_slope.item() == pytest.approx(schedule.sigma(back).diff().item() / 1e-7, rel=1e-5, abs=1e-6)


def test_slopes_at_a_training_step_are_those_towards_the_data() -> None:
    for schedule in (BASE, LARGE, DiscreteSchedule(1000, 1e-4, 0.02)):
        level = np.concatenate([[1], np.sqrt(alpha_bar(schedule))])
        steps = torch.arange(1, schedule.num_steps + 1, dtype=torch.float64)
        expected = torch.from_numpy(np.diff(level)) * schedule.num_steps
        torch.testing.assert_close(schedule.slopes(steps / schedule.num_steps)[0], expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("offset", [0.0, 0.008, 0.2])
def test_the_cosine_schedule_is_that_of_nichol_and_dhariwal(offset: float) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    level = np.cos((t.numpy() + offset) / (1 + offset) * np.pi / 2) ** 2  # eq. 17
    schedule = CosineSchedule(offset)
    np.testing.assert_allclose(schedule.alpha(t).numpy() ** 2, level / level[0], atol=1e-14)
    np.testing.assert_allclose(schedule.sigma(t).numpy() ** 2, 1 - level / level[0], atol=1e-14)
    assert schedule.alpha(torch.ones(1)).item() == 0


def test_the_flow_schedule_is_a_straight_line() -> None:
    t = torch.tensor([0.0, 0.25, 1.0])
    assert FlowSchedule().alpha(t).tolist() == [1, 0.75, 0]
    assert FlowSchedule().sigma(t).tolist() == [0, 0.25, 1]
    assert [slope.tolist() for slope in FlowSchedule().slopes(t)] == [[-1, -1, -1], [1, 1, 1]]
    assert FlowSchedule().alpha(t).dtype == FlowSchedule().slopes(t)[0].dtype == torch.float64


@pytest.mark.parametrize("offset", [-0.1, 1.0, float("nan")])
def test_an_offset_out_of_bounds_is_refused(offset: float) -> None:
    with pytest.raises(ConfigError, match="offset"):
        CosineSchedule(offset)


def test_time_is_broadcast_per_item_even_when_batch_equals_length() -> None:
    values, signal = torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, 3)
    assert (expand(values, signal) * signal)[:, 0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="3 items"):
        expand(torch.ones(2), signal)


@pytest.mark.parametrize("arguments", [(1, 1e-4, 0.05), (50, 0.0, 0.05), (50, 0.1, 0.05), (50, 1e-4, 1.0), (10**9,)])
def test_a_schedule_out_of_bounds_is_refused_before_it_is_built(arguments: tuple) -> None:
    with pytest.raises(ConfigError, match="schedule"):
        DiscreteSchedule(*arguments)


TIMES = torch.tensor([0.004, 0.02, 0.3, 0.51, 0.77, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_every_prediction_gives_back_the_signal_and_the_noise(kind: Prediction, schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn(2, 6, 64, generator=generator, dtype=torch.float64)
    alpha, sigma = schedule.alpha(TIMES), schedule.sigma(TIMES)
    x_t = expand(alpha, x_0) * x_0 + expand(sigma, x_0) * noise
    target = training_target(kind, x_0, noise, alpha, sigma)
    estimate = predict_x0(kind, target, x_t, alpha, sigma)
    if kind == "eps" and alpha[-1] == 0:  # pure noise says nothing of the signal
        estimate[-1] = x_0[-1]
    torch.testing.assert_close(estimate, x_0, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(predict_noise(estimate, x_t, alpha, sigma), noise, rtol=1e-8, atol=1e-8)


def test_the_targets_are_those_of_the_papers() -> None:
    """v = alpha eps - sigma x_0 (Salimans and Ho); the velocity of a straight path is d x_t / dt (Liu et al.)."""
    x_0, noise = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    angle = math.pi / 2 * t[:, None]
    cosine, flow = CosineSchedule(), FlowSchedule()
    v = training_target("v", x_0, noise, cosine.alpha(t), cosine.sigma(t))
    torch.testing.assert_close(v, angle.cos() * noise - angle.sin() * x_0)
    path = [(1 - s) * x_0 + s * noise for s in (t[:, None], t[:, None] + 0.1)]
    velocity = training_target("velocity", x_0, noise, flow.alpha(t), flow.sigma(t))
    torch.testing.assert_close(velocity, (path[1] - path[0]) / 0.1)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp-2m", "heun", "euler"])
def test_sampling_is_the_same_whatever_the_ideal_network_predicts(name: str, schedule: Schedule) -> None:
    ends = {}
    for kind in PREDICTIONS:

        def denoise(x_t: Tensor, t: Tensor, kind: Prediction = kind) -> Tensor:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            x_0 = 0.3 + expand(0.04 * alpha / (0.04 * alpha**2 + sigma**2), x_t) * (x_t - expand(alpha, x_t) * 0.3)
            # Trained networks output means of their targets, which are what this x_0 and its noise make.
            output = training_target(kind, x_0, predict_noise(x_0, x_t, alpha, sigma), alpha, sigma)
            return predict_x0(kind, output, x_t, alpha, sigma)

        noise, grid = ItemNoise([0, 1]), spaced_grid(schedule, 8, start=0.9 if kind == "eps" else 1.0)
        if kind == "eps":  # which cannot start where alpha is 0
            ends["x0 from 0.9"] = make_sampler(name)(
                lambda x_t, t: denoise(x_t, t, "x0"), noise.normal(64, torch.float64), schedule, grid, noise
            )
            noise = ItemNoise([0, 1])
        ends[kind] = make_sampler(name)(denoise, noise.normal(64, torch.float64), schedule, grid, noise)
    for kind in ("v", "velocity"):
        torch.testing.assert_close(ends[kind], ends["x0"], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ends["eps"], ends["x0 from 0.9"], rtol=1e-8, atol=1e-8)


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


def test_noise_of_a_gpu_is_normal_the_items_own_and_the_same_in_pieces() -> None:
    whole = CountedDraw([3, 4, 5], torch.device("cpu")).take(200_000).double()
    pieces = CountedDraw([4], torch.device("cpu"))
    assert torch.equal(torch.cat([pieces.take(70_001), pieces.take(129_999)], 1).double()[0], whole[1])
    moments = torch.stack([whole.mean(1), whole.square().mean(1) - 1, whole.pow(3).mean(1), whole.pow(4).mean(1) - 3])
    spread = torch.tensor([1.0, 2.0, 15.0, 96.0], dtype=torch.float64).sqrt()[:, None]  # of one sample
    assert (moments.abs() < 4 * spread / 200_000**0.5).all()
    for lag in (1, 2, 64, 16_384):
        assert ((whole[:, lag:] * whole[:, :-lag]).mean(1).abs() < 4 / 180_000**0.5).all()
    assert (torch.corrcoef(whole) - torch.eye(3)).abs().max() < 4 / 200_000**0.5


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True])
def test_a_seed_that_is_no_whole_number_is_refused(seed: int) -> None:
    with pytest.raises(SamplingError, match="seed"):
        ItemNoise([seed])


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("dpm", "'dpm' is unknown .*; choose from ddpm, ddim"),
        ("", "unknown"),
        ("DDIM", "unknown"),
        ("ddim eta=0.5", "unknown"),
        ("ddim:eta=2", r"eta 2.0 is outside \[0, 1\]"),
        ("ddim:eta=-0.1", "outside"),
        ("ddim:eta=nan", "outside"),
        ("ddim:eta=inf", "outside"),
        ("ddim:eta=x", "eta of ddim is 'x', not a number"),
        ("ddim:eta", "not a number"),
        ("ddim:foo=1", "ddim has no option 'foo', only: eta"),
        ("ddim:=1", "no option ''"),
        ("ddpm:eta=0", "ddpm has no option 'eta', only: none"),
        ("euler:eta=0", "only: none"),
        ("dpmpp-2m:eta=1.1", "outside"),
        ("dpmpp-2m-sde:eta=2", "outside"),
        ("dpmpp-2m:churn=0", "only: eta"),
        ("heun:churn=9", "churn 9.0 is outside"),
        ("heun:churn=-1", "outside"),
        ("heun:churn=0.1,noise_scale=2", "noise_scale 2.0 is outside"),
        ("heun:churn=0.1;noise_scale=1", "not a number"),
        (None, "None is unknown"),
        (3, "3 is unknown"),
        (["ddim"], "is unknown"),
    ],
)
def test_a_sampler_that_is_unknown_or_set_out_of_bounds_is_refused(name: str, cause: str) -> None:
    with pytest.raises(SamplingError, match=cause) as refusal:
        make_sampler(name)
    assert "\n" not in str(refusal.value)


def test_a_name_may_set_options_of_the_sampler() -> None:
    assert make_sampler("ddim") == DDIM(0.0)
    assert make_sampler("ddim:") == DDIM(0.0)
    assert make_sampler("ddim: eta = 0.5") == DDIM(0.5)
    assert make_sampler("dpmpp-2m-sde") == DPMpp2M(1.0)
    assert make_sampler("dpmpp-2m-sde:eta=0.5") == DPMpp2M(0.5)
    assert make_sampler("heun:churn=0.1,noise_scale=1.003") == Heun(0.1, 1.003)
    assert make_sampler(f"heun:churn={2**0.5 - 1}") == Heun(2**0.5 - 1)


class Says(torch.nn.Module):
    """A network that returns what a function of x_t and t does."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def prepare(self, cond: Condition) -> None:
        return None

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, prepared: None) -> torch.Tensor:
        return self.function(x_t, t)


def process(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Bound:
    return Denoiser(Says(function), BASE, "eps").bind(Condition())


def test_the_loss_is_the_mean_squared_error_of_the_noise_over_the_valid_samples() -> None:
    x_0, lengths = torch.randn(3, 400, generator=torch.Generator().manual_seed(1)), torch.tensor([400, 250, 1])
    seeds = [3, 4, 5]
    seen = {}

    def predict(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen["x_t"], seen["t"] = x_t, t
        return 0.1 * x_t

    loss = NoiseRegression()(process(predict), x_0, lengths, ItemNoise(seeds))
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
    assert NoiseRegression()(process(perfect), x_0, lengths, ItemNoise(range(4))).mean < 1e-10
    zero = NoiseRegression()(process(lambda x_t, t: 0 * x_t), x_0, lengths, ItemNoise(range(4))).mean
    assert zero.item() == pytest.approx(1, abs=0.02)
    l1 = NoiseRegression("l1")(process(lambda x_t, t: 0 * x_t), x_0, lengths, ItemNoise(range(4))).mean
    assert l1.item() == pytest.approx((2 / np.pi) ** 0.5, abs=0.01)
