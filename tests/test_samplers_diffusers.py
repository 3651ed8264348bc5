"""Samplers against those of Hugging Face's diffusers: the same network, times and noise give the same signal."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from wavediff.diffusion import DiscreteSchedule, FlowSchedule, Schedule, make_sampler, predict_x0
from wavediff.diffusion.schedules import Prediction

diffusers = pytest.importorskip("diffusers")

# torch's way to numpy 2, inside diffusers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

T = 50
SCHEDULE = DiscreteSchedule(T, 1e-4, 0.05)
KINDS: dict[Prediction, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
# Their timesteps count from 0: few and many, evenly and unevenly spaced.
TIMESTEPS = [[49], [49, 0], [49, 36, 20, 9, 2, 0], [40, 31, 30, 12, 7, 6, 1], list(range(49, -1, -1))]
each_kind = pytest.mark.parametrize("kind", KINDS)
each_grid = pytest.mark.parametrize("timesteps", TIMESTEPS, ids=len)


def network(x_t: Tensor, t: Tensor | float) -> Tensor:
    """Any smooth function will do."""
    return 0.6 * torch.sin(2 * x_t + 3 * t) + 0.3 * x_t


class Draws:
    """Noise that can be drawn a second time."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(7)

    def normal(self, length: int = 128, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(1, length, generator=self.generator, dtype=dtype)


X_T = torch.randn(1, 128, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def theirs_of(name: str, kind: Prediction, **options: Any) -> Any:
    """A scheduler of theirs on our noise levels, which their float32 tables are close to."""
    scheduler = getattr(diffusers, name)(T, 1e-4, 0.05, prediction_type=KINDS[kind], **options)
    exact = SCHEDULE.alpha(torch.arange(1, T + 1, dtype=torch.float64) / T) ** 2
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), exact, rtol=1e-5, atol=0)
    scheduler.alphas_cumprod = exact
    return scheduler


def run_theirs(scheduler: Any, x: Tensor, **options: Callable[[], Any]) -> Tensor:
    for timestep in scheduler.timesteps:
        time = timestep if scheduler.timesteps.is_floating_point() else int(timestep)
        scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        output = network(scaled, (float(timestep) + 1) / T)
        chosen = {name: option() for name, option in options.items()}
        x = scheduler.step(output, time, x, **chosen).prev_sample
    return x


def run_ours(name: str, kind: Prediction, times: Tensor, schedule: Schedule = SCHEDULE) -> Tensor:
    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return predict_x0(kind, network(x_t, t.item()), x_t, schedule.alpha(t), schedule.sigma(t))

    return make_sampler(name)(denoise, X_T, schedule, times, Draws())


def grid_of(timesteps: Any) -> Tensor:
    return torch.tensor([(n + 1) / T for n in timesteps] + [0.0], dtype=torch.float64)


@each_kind
@each_grid
def test_ancestral_sampling_is_that_of_diffusers(kind: Prediction, timesteps: list[int]) -> None:
    scheduler = theirs_of("DDPMScheduler", kind, clip_sample=False)
    scheduler.set_timesteps(timesteps=timesteps)
    draws = Draws()
    theirs = run_theirs(scheduler, X_T, generator=lambda: draws.generator)
    # Their last step adds noise of 1e-10, lest its logarithm be infinite.
    torch.testing.assert_close(run_ours("ddpm", kind, grid_of(timesteps)), theirs, rtol=1e-9, atol=2e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("num_steps", [1, 5, 10, 25, 50])
@each_kind
def test_ddim_is_that_of_diffusers(kind: Prediction, num_steps: int, eta: float) -> None:
    for spacing in ("leading", "trailing"):
        scheduler = theirs_of("DDIMScheduler", kind, clip_sample=False, timestep_spacing=spacing)
        scheduler.set_timesteps(num_steps)
        theirs = run_theirs(scheduler, X_T, eta=lambda: eta, variance_noise=Draws().normal)
        ours = run_ours(f"ddim:eta={eta}", kind, grid_of(scheduler.timesteps.tolist()))
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("name", "algorithm"), [("dpmpp-2m", "dpmsolver++"), ("dpmpp-2m-sde", "sde-dpmsolver++")])
@each_kind
@each_grid
def test_dpmpp_is_that_of_diffusers(kind: Prediction, timesteps: list[int], name: str, algorithm: str) -> None:
    options = {"solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero"}
    scheduler = theirs_of("DPMSolverMultistepScheduler", kind, algorithm_type=algorithm, **options)
    scheduler.set_timesteps(timesteps=timesteps)
    theirs = run_theirs(scheduler, X_T, variance_noise=Draws().normal)
    # Their steps are in float32, in which the fresh noise of a short step cancels.
    torch.testing.assert_close(run_ours(name, kind, grid_of(timesteps)).float(), theirs.float(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("name", "theirs"), [("heun", "HeunDiscreteScheduler"), ("ddim", "EulerDiscreteScheduler")])
@each_grid
def test_in_sigma_space_heun_is_that_of_diffusers_and_ddim_their_euler(
    timesteps: list[int], name: str, theirs: str
) -> None:
    """Both step in x / alpha, whose noise level is sigma / alpha."""
    for kind in ("eps", "v"):
        scheduler = theirs_of(theirs, kind)
        scheduler.set_timesteps(timesteps=timesteps)
        alpha = SCHEDULE.alpha(grid_of(timesteps)[:1])
        end = run_theirs(scheduler, X_T / alpha)
        torch.testing.assert_close(run_ours(name, kind, grid_of(timesteps)), end, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("times", [[1.0], [1.0, 0.5], [1.0, 0.75, 0.5, 0.25], [0.95, 0.9, 0.4, 0.3, 0.02]], ids=len)
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_on_straight_paths_is_flow_matching_of_diffusers(times: list[float], shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(1000, shift=shift)
    scheduler.set_timesteps(sigmas=times)
    theirs = X_T
    for timestep, time in zip(scheduler.timesteps, scheduler.sigmas.tolist()[:-1], strict=True):
        theirs = scheduler.step(network(theirs, time), timestep, theirs).prev_sample
    ours = run_ours("euler", "velocity", scheduler.sigmas.double(), schedule=FlowSchedule())
    torch.testing.assert_close(ours, theirs, rtol=5e-7, atol=5e-7)


@pytest.mark.parametrize(("name", "algorithm"), [("dpmpp-2m", "dpmsolver++"), ("dpmpp-2m-sde", "sde-dpmsolver++")])
@pytest.mark.parametrize("num_steps", [1, 3, 20])
def test_dpmpp_on_straight_paths_is_that_of_diffusers(num_steps: int, name: str, algorithm: str) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type=algorithm, prediction_type="flow_prediction", use_flow_sigmas=True, final_sigmas_type="zero"
    )
    scheduler.set_timesteps(num_steps)
    draws, theirs = Draws(), X_T
    for timestep, time in zip(scheduler.timesteps, scheduler.sigmas.tolist()[:-1], strict=True):
        noise = draws.normal()
        theirs = scheduler.step(network(theirs, time), timestep, theirs, variance_noise=noise).prev_sample
    ours = run_ours(name, "velocity", scheduler.sigmas.double(), schedule=FlowSchedule())
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=1e-5, atol=1e-5)
