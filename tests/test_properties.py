"""What holds for whatever is given: lengths, company and pieces, schedules, grids and plans."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import HOP, KIND, SEED, examples, generator, mels, vocoder
from sounds import RATE
from torch import Tensor

from wavediff.diffusion import (
    SAMPLERS,
    CosineSchedule,
    DiscreteSchedule,
    FlowSchedule,
    Plan,
    Schedule,
    make_grid,
)
from wavediff.mel import MelSpec
from wavediff.mel.transform import MelTransform
from wavediff.models.config import ModelConfig

# Lengths, company, pieces


@settings(examples, max_examples=16)
@given(kind=KIND, hop=HOP, batch=st.integers(1, 3), frames=st.integers(1, 40), seed=SEED)
def test_every_frame_becomes_a_hop(kind: str, hop: int, batch: int, frames: int, seed: int) -> None:
    speech = vocoder(kind, hop).decode(mels(seed % 1000, batch, frames), 1, seed=seed)
    assert speech.shape == (batch, frames * hop)
    assert speech.isfinite().all()
    assert speech.abs().max() <= 1


@settings(examples, max_examples=60)
@given(half_hop=st.integers(1, 150), samples=st.integers(700, 5000), framing=st.sampled_from(["same", "center"]))
def test_a_mel_has_the_frames_its_framing_says(half_hop: int, samples: int, framing: str) -> None:
    window, hop = 512, 2 * half_hop
    spec = MelSpec(8000, window, window, hop, framing, n_mels=8, f_max=4000.0)  # type: ignore[arg-type]
    frames = MelTransform(spec)(torch.zeros(1, samples)).shape[-1]
    assert frames == samples // hop + (framing == "center")


@settings(examples, max_examples=7)
@given(kind=KIND, hop=HOP, seeds=st.lists(SEED, min_size=2, max_size=4), data=st.data())
def test_an_item_of_any_batch_is_what_it_is_alone(kind: str, hop: int, seeds: list[int], data: st.DataObject) -> None:
    lengths = [data.draw(st.integers(1, 24)) for _ in seeds]
    batch = mels(seeds[0] % 1000, len(seeds), max(lengths))
    together = vocoder(kind, hop).decode(batch, 2, lengths=lengths, seed=seeds)
    for index, (length, seed) in enumerate(zip(lengths, seeds, strict=True)):
        alone = vocoder(kind, hop).decode(batch[index, :, :length], 2, seed=seed)
        torch.testing.assert_close(together[index, : len(alone)], alone, rtol=0, atol=1e-4)
        assert not together[index, len(alone) :].any()


def pieces_of(mel: Tensor, cuts: list[int]) -> list[Tensor]:
    """Pieces of any lengths, some of them empty."""
    places = [0, *sorted(cut % (mel.shape[-1] + 1) for cut in cuts), mel.shape[-1]]
    return [mel[..., first:last] for first, last in itertools.pairwise(places)]


@settings(examples, max_examples=8)
@given(
    kind=KIND,
    hop=HOP,
    frames=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 1000), max_size=8),
    low_latency=st.booleans(),
    seed=SEED,
    at_once=st.integers(1, 50),
)
def test_speech_in_any_pieces_is_that_of_the_whole(
    kind: str, hop: int, frames: int, cuts: list[int], low_latency: bool, seed: int, at_once: int
) -> None:
    """Of the caller's, and of `decode`'s own."""
    model, mel = vocoder(kind, hop), mels(seed % 1000, 2, frames)
    whole = model.decode(mel, 2, seed=seed, low_latency=low_latency)
    streamed = torch.cat(list(model.stream(pieces_of(mel, cuts), 2, seed=seed, low_latency=low_latency)), 1)
    torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wavediff.pipelines.vocoder.frames_at_once", lambda *_: at_once)
        again = model.decode(mel, 2, seed=seed, low_latency=low_latency)
        torch.testing.assert_close(again, whole, rtol=0, atol=1e-4)


@settings(examples, max_examples=8)
@given(kind=st.sampled_from(["unet", "latent", "diffwave"]), milliseconds=st.integers(5, 300), count=st.integers(1, 3))
def test_a_sound_has_any_length(kind: str, milliseconds: int, count: int) -> None:
    sounds = generator(kind).generate(count, milliseconds / 1000, num_steps=1)
    assert sounds.shape == (count, round(milliseconds / 1000 * RATE))
    assert sounds.isfinite().all()


# Schedules, grids, plans

SCHEDULES = st.one_of(
    st.floats(0, 0.02).map(CosineSchedule),
    st.just(FlowSchedule()),
    st.builds(DiscreteSchedule, st.integers(2, 60), st.floats(1e-5, 1e-3), st.floats(2e-3, 0.3)),
)


@settings(examples, max_examples=150)
@given(schedule=SCHEDULES, times=st.lists(st.floats(0.001, 1), min_size=2, max_size=20, unique=True))
def test_signal_falls_and_noise_rises_with_time_and_time_comes_back(schedule: Schedule, times: list[float]) -> None:
    t = torch.tensor(sorted(times), dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert (alpha.diff() <= 0).all()
    assert (sigma.diff() >= 0).all()
    assert ((alpha >= 0) & (alpha <= 1) & (sigma >= 0) & (sigma <= 1)).all()
    inside = t[(alpha > 1e-6) & (sigma > 1e-6) & (t < 0.999)]
    if isinstance(schedule, DiscreteSchedule):
        inside = inside[inside >= schedule.t_min]  # below, no noise level was trained
    back = schedule.time(2 * (schedule.alpha(inside) / schedule.sigma(inside)).log())
    torch.testing.assert_close(back, inside, rtol=1e-6, atol=1e-7)


def plan_of(schedule: Schedule, sampler: str, steps: int, spacing: str | None) -> Plan:
    if isinstance(schedule, DiscreteSchedule):
        steps = min(steps, schedule.num_steps)
    return Plan.along(sampler, make_grid(schedule, steps, spacing))


@settings(examples, max_examples=60)
@given(
    schedule=SCHEDULES,
    sampler=st.sampled_from(sorted(SAMPLERS)),
    steps=st.integers(1, 12),
    spacing=st.sampled_from([None, "linear", "quadratic", "cosine", "karras", "log-snr"]),
    seed=st.integers(0, 999),
)
def test_along_any_grid_every_sampler_stays_finite(
    schedule: Schedule, sampler: str, steps: int, spacing: str | None, seed: int
) -> None:
    """With a denoiser that knows no better than half of what it sees; noise of other items is not drawn."""
    from wavediff.diffusion import ItemNoise
    from wavediff.diffusion.walk import states

    plan = plan_of(schedule, sampler, steps, spacing)
    assert list(plan.times) == sorted(plan.times, reverse=True)
    assert (len(plan.times), plan.times[-1]) == (len(set(plan.times)), 0)
    noise = ItemNoise([seed, seed + 1])
    *_, x = states(lambda x_t, t: 0.5 * x_t.clamp(-1, 1), noise.normal(64), schedule, plan, noise)
    assert x.shape == (2, 64)
    assert x.abs().max() < 1e3


@settings(examples, max_examples=60)
@given(
    sampler=st.sampled_from(["ddim:eta=0.25", "ddpm", "heun:churn=0.2", "dpmpp-2m-sde"]),
    times=st.lists(st.floats(1e-6, 1), min_size=1, max_size=30, unique=True),
)
def test_a_plan_comes_back_from_a_configuration(sampler: str, times: list[float]) -> None:
    plan = Plan(sampler, (*sorted(times, reverse=True), 0.0))
    assert Plan.along(sampler, plan.grid) == plan
    config = dataclasses.replace(vocoder("spectral", 16).config, plans=((plan.evaluations, plan),))
    assert ModelConfig.from_dict(config.to_dict()).plans == config.plans
