"""From noise to signal with a denoiser that is bound to its condition: what all pipelines share."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from wavediff.diffusion import ItemNoise, Plan
from wavediff.diffusion.walk import OnStep, diffuse, levels, states
from wavediff.models.denoiser import Bound


@dataclass(frozen=True)
class Start:
    """What sampling begins with, whatever the plan: it can be begun again from here.

    Attributes:
        noise: of the process (B, N).
        guess: of the prior (B, N), for models that start from one.
        items: what fresh noise is drawn from.
        low_latency: whether the guess is that of streams with low latency; then nothing is done after the last step.
    """

    noise: Tensor
    guess: Tensor | None
    items: ItemNoise
    low_latency: bool = False


def begin(bound: Bound, noise: ItemNoise, length: int, low_latency: bool = False) -> Start:
    """Noise for speech (B, length), and the guess if the prior makes one: the better one, or that of low latency."""
    length = bound.denoiser.signal_length(length)
    x_T = bound.noise(noise.draw().take(length))
    guess = bound.guess(noise.draw().take(length), low_latency=low_latency) if bound.denoiser.start_time < 1 else None
    return Start(x_T, guess, noise, low_latency)


def follow(bound: Bound, start: Start, plan: Plan, on_step: OnStep | None = None) -> Tensor:
    """Signals (B, N) from where `begin` begins, along a plan.

    Args:
        bound: the denoiser, told its condition.
        start: noise, and guess.
        plan: sampler, and times from where sampling starts to 0.
        on_step: called with (steps done, steps in all) after each.

    Raises:
        SamplingError: a step gave NaN.
    """
    return deque(way(bound, start, plan, on_step), 1)[0]


def way(bound: Bound, start: Start, plan: Plan, on_step: OnStep | None = None) -> Iterator[Tensor]:
    """The signals (B, N) that `follow` goes through, each computed when it is asked for: the first state, and what
    each step leaves; the last is finished.

    Raises:
        SamplingError: a step gave NaN.
    """
    total, noise = len(plan.times) - 1, bound.noise_of(start.items.copy())
    x_T = first_state(bound, start, plan)
    yield bound.denoiser.at_rate(x_T)
    for number, x in enumerate(states(bound, x_T, bound.denoiser.schedule, plan, noise, None, on_step), 1):
        done = number == total and not start.low_latency
        yield bound.denoiser.at_rate(bound.finished(x) if done else x)


def first_state(bound: Bound, start: Start, plan: Plan) -> Tensor:
    """x_t (B, N) at the first time of a plan: noise, to which a guess adds its signal."""
    if start.guess is None:
        return start.noise
    return diffuse(start.guess, start.noise, levels(bound.denoiser.schedule, plan.times[0]))


def draw_each(
    bind: Callable[[Tensor], Bound],
    mels: Tensor,
    lengths: Tensor | None,
    seeds: Sequence[int],
    plan: Plan,
    hop_length: int,
    on_step: OnStep | None = None,
    low_latency: bool = False,
) -> Tensor:
    """Signals (B, frames * hop_length) of whole mels, those of one length together, so that no network sees padding.

    Args:
        bind: a denoiser, told the mels.
        mels: (B, n_mels, frames)
        lengths: frames (B,) of items that differ; behind them the signals are zero.
        seeds: one an item.
        plan, on_step: as `follow`; the steps of all lengths are counted.
        hop_length: samples a frame becomes.
        low_latency: see `begin`.

    Raises:
        SamplingError: a step gave NaN.
    """
    if lengths is None:
        bound, noise = bind(mels), ItemNoise(seeds, mels.device)
        return follow(bound, begin(bound, noise, mels.shape[2] * hop_length, low_latency), plan, on_step)
    signals, frames = mels.new_zeros(len(mels), mels.shape[2] * hop_length), lengths.tolist()
    different = sorted(set(frames))
    for number, length in enumerate(different):
        items = [index for index, count in enumerate(frames) if count == length]
        noise = ItemNoise([seeds[index] for index in items], mels.device)
        bound, samples = bind(mels[items, :, :length]), length * hop_length
        start, told = begin(bound, noise, samples, low_latency), part_of(on_step, number, len(different))
        signals[items, :samples] = follow(bound, start, plan, told)
    return signals


def part_of(on_step: OnStep | None, part: int, parts: int) -> OnStep | None:
    """Is told the steps of one part of several, and tells them as steps of all."""
    return None if on_step is None else lambda done, total: on_step(part * total + done, parts * total)
