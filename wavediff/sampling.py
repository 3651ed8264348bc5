"""From noise to signal with a denoiser that is bound to its condition: what all pipelines share."""

from collections.abc import Callable, Sequence

from torch import Tensor

from wavediff.denoiser import Bound
from wavediff.diffusion import ItemNoise, Schedule, expand, make_sampler
from wavediff.diffusion.noise import Noise
from wavediff.errors import SamplingError

OnStep = Callable[[int, int], None]


def draw(
    bound: Bound, noise: ItemNoise, length: int, grid: Tensor, sampler: str, on_step: OnStep | None = None
) -> Tensor:
    """Signals (B, length) from noise, or from the guess that the prior makes.

    Args:
        bound: the denoiser, told its condition.
        noise: of the batch's items.
        length: of the signals.
        grid: descending times (S + 1,), from where sampling starts to 0.
        sampler: its name.
        on_step: called with (steps done, steps in all) after each.

    Raises:
        SamplingError: no sampler is called so, or a step gave NaN.
    """
    x_T = bound.noise(noise.normal(length))
    schedule = bound.denoiser.schedule
    if bound.denoiser.start_time < 1:
        x_T = diffuse(bound.guess(noise.normal(length)), x_T, grid[0], schedule)
    return denoise(bound, x_T, schedule, grid, sampler, bound.noise_of(noise), on_step)


def diffuse(x_0: Tensor, noise: Tensor, time: Tensor, schedule: Schedule) -> Tensor:
    """x_t = alpha x_0 + sigma noise of signals (B, N), all at one time (scalar)."""
    t = time.to(x_0.device).expand(len(x_0))
    return expand(schedule.alpha(t), x_0) * x_0 + expand(schedule.sigma(t), x_0) * noise


def denoise(
    estimate: Callable[[Tensor, Tensor], Tensor],
    x_t: Tensor,
    schedule: Schedule,
    grid: Tensor,
    sampler: str,
    noise: Noise,
    on_step: OnStep | None = None,
) -> Tensor:
    """x_t (B, N) at the first time of the grid -> x_0 (B, N), checked after each step.

    Args:
        estimate: (x_t (B, N), t (B,)) -> estimate of x_0 (B, N).
        x_t, schedule, grid, noise: see `wavediff.diffusion.samplers`.
        sampler: its name.
        on_step: called with (steps done, steps in all) after each.

    Raises:
        SamplingError: no sampler is called so, or a step gave NaN.
    """
    total = len(grid) - 1

    def check_step(index: int, x_t: Tensor) -> None:
        if not x_t.isfinite().all():
            raise SamplingError(
                f"step {index + 1} of {total} gave NaN or infinite samples; use another checkpoint, schedule or "
                "precision"
            )
        if on_step is not None:
            on_step(index + 1, total)

    return make_sampler(sampler)(estimate, x_t, schedule, grid, noise, check_step)


def check_seeds(seed: int | Sequence[int], count: int, what: str) -> list[int]:
    """A seed for each of `count` items.

    Raises:
        SamplingError: there are more or fewer seeds than items, or neither a number nor a sequence.
    """
    if not isinstance(seed, int | Sequence):
        raise SamplingError(f"seed: {seed!r} is neither a whole number nor a list of them")
    seeds = [seed] * count if isinstance(seed, int) else list(seed)
    if len(seeds) != count:
        raise SamplingError(f"seed: {len(seeds)} seeds for {count} {what}; give one number, or one an item")
    return seeds
