"""Sounds from nothing, on small untrained models and on ideal denoisers whose answer is known."""

import dataclasses
import functools
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sounds import CONFIGS, LABELS, RATE, small_generator
from torch import Tensor, nn

from wavediff import Generator
from wavediff.diffusion import CosineSchedule
from wavediff.diffusion.walk import diffuse, levels
from wavediff.errors import AudioError, ConfigError, SamplingError, WavediffError
from wavediff.models.config import ModelConfig
from wavediff.models.denoiser import Denoiser, Guided
from wavediff.pipelines.circular import Circular, close_loop, wrap
from wavediff.pipelines.filling import fill

STEPS = 3


@pytest.fixture(params=list(CONFIGS))
def generator(request: pytest.FixtureRequest) -> Generator:
    return small_generator(request.param)


@pytest.fixture
def latent() -> Generator:
    return small_generator("latent")


def tone(seconds: float = 0.3, rate: int = RATE, frequency: float = 440.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


class Ideal(nn.Module):
    """The network that predicts v without error for data N(0, deviation^2), so that what must come out is known."""

    multiple = 1

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = nn.Parameter(torch.tensor(deviation))

    def prepare(self, cond: object) -> None:
        return None

    def forward(self, x_t: Tensor, t: Tensor, prepared: None) -> Tensor:
        schedule, variance = CosineSchedule(), self.deviation**2
        alpha, sigma = schedule.alpha(t).float()[:, None], schedule.sigma(t).float()[:, None]
        x_0 = alpha * variance / (alpha**2 * variance + sigma**2) * x_t
        return (alpha * x_t - x_0) / sigma


def ideal(deviation: float = 0.2) -> Generator:
    config = ModelConfig(CONFIGS["free"].backbone, CosineSchedule(), "v", sample_rate=RATE)
    return Generator(config, Denoiser(Ideal(deviation), CosineSchedule(), "v"))


# Lengths, seeds, batches


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.3001, 1])
def test_a_sound_has_the_length_that_was_asked_for(generator: Generator, seconds: float) -> None:
    sounds = generator.generate(2, seconds, num_steps=2)
    assert sounds.shape == (2, round(seconds * RATE))
    assert sounds.isfinite().all()
    assert sounds.abs().max() <= 1


def test_autocast_around_a_generator_changes_nothing(generator: Generator) -> None:
    expected = generator.generate(seconds=0.1, seed=0, num_steps=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(generator.generate(seconds=0.1, seed=0, num_steps=2), expected)
        *_, last = generator.states(0.1, seed=0, num_steps=2)
    assert torch.equal(last, expected)


def test_without_a_length_it_is_that_of_the_training_segments() -> None:
    assert small_generator("unet").generate(num_steps=1).shape == (1, 2000)
    assert small_generator("free").generate(num_steps=1).shape == (1, RATE)


def test_a_sound_depends_on_its_own_seed_alone(generator: Generator) -> None:
    state = torch.get_rng_state()
    together = generator.generate(3, 0.2, num_steps=STEPS, seed=5)
    assert torch.equal(torch.get_rng_state(), state)  # fault 66
    for index in range(3):
        alone = generator.generate(1, 0.2, num_steps=STEPS, seed=5 + index)[0]
        assert (together[index] - alone).abs().max() < 1e-4  # fault 67
        other = together[(index + 1) % 3]
        assert (together[index] - other).abs().max() > 0.1 * together.abs().max()
    given = generator.generate(2, 0.2, num_steps=STEPS, seed=[7, 5])
    assert (given - together[[2, 0]]).abs().max() < 1e-4


def test_the_first_samples_of_noise_do_not_decide_the_length_of_a_sound(latent: Generator) -> None:
    short, longer = (latent.generate(1, seconds, num_steps=1) for seconds in (0.2, 0.4))
    assert longer.shape[1] == 2 * short.shape[1]


# Classes and guidance


def test_the_class_and_its_guidance_change_the_sound() -> None:
    generator = small_generator("unet")
    options = {"seconds": 0.2, "num_steps": STEPS}
    sounds = [generator.generate(label=label, **options) for label in (*LABELS, None)]
    for index, sound in enumerate(sounds):
        for other in sounds[:index]:
            assert (sound - other).abs().max() > 1e-3
    mixed = generator.generate(3, label=list(LABELS), seed=[0, 0, 0], **options)
    assert (mixed - torch.cat(sounds[:3])).abs().max() < 1e-4
    free = generator.generate(label="glass", guidance=0, **options)
    assert (free - sounds[3]).abs().max() < 1e-5
    assert (generator.generate(label="glass", guidance=1, **options) - sounds[0]).abs().max() > 1e-4


def test_a_class_with_kinds_takes_one_after_the_other() -> None:
    plain = small_generator("unet")
    config = dataclasses.replace(plain.config, labels=("laser/retro", "glass", "laser/large"))
    generator = Generator(config, plain.denoiser)
    assert generator.classes == ("laser", "glass")
    assert generator.labels == ("laser", "glass", "laser/retro", "laser/large")
    mixed = generator.generate(3, 0.1, "laser", seed=4, num_steps=2)
    kinds = ["laser/retro", "laser/large", "laser/retro"]  # seeds 4, 5, 6
    assert torch.equal(mixed, generator.generate(3, 0.1, kinds, seed=4, num_steps=2))
    assert not torch.equal(mixed, generator.generate(3, 0.1, kinds[::-1][1:] + kinds[1:2], seed=4, num_steps=2))
    between = generator.interpolate(1, 5, seconds=0.1, count=3, label="laser", num_steps=2)
    assert torch.equal(between, generator.interpolate(1, 5, seconds=0.1, count=3, label="laser/large", num_steps=2))


def test_guidance_leads_away_from_the_estimate_without_a_class() -> None:
    x_t, t = torch.randn(2, 8), torch.rand(2)
    guided = Guided(lambda x, t: 3 * x, lambda x, t: 2 * x, 2.5)  # type: ignore[arg-type]
    assert torch.allclose(guided(x_t, t), (2 + 2.5 * (3 - 2)) * x_t)


# With an ideal denoiser


def test_what_an_ideal_denoiser_draws_has_the_datas_deviation() -> None:
    sounds = ideal().generate(64, 0.05, num_steps=100, sampler="ddim")[:, 20:350]
    assert sounds.std().item() == pytest.approx(0.2, rel=0.05)


def test_a_weak_variation_is_the_sound_and_a_strong_one_is_another() -> None:
    generator, sound = ideal(), 0.2 * torch.randn(2000, generator=torch.Generator().manual_seed(99))
    correlations = []
    for strength in (0.05, 0.3, 1.0):
        varied = generator.vary(sound, RATE, strength, count=4, num_steps=20)
        assert varied.shape == (4, 2000)
        rows = [torch.corrcoef(torch.stack([row, sound[:1900]]))[0, 1].item() for row in varied[:, :1900]]
        correlations.append(sum(rows) / 4)
    assert correlations[0] > 0.8
    assert correlations[0] > correlations[1] > correlations[2]
    assert abs(correlations[2]) < 0.1


def test_two_seeds_are_the_ends_and_the_middle_is_as_loud() -> None:
    generator = ideal()
    way = generator.interpolate(3, 8, count=5, seconds=0.25, num_steps=40)
    for index, seed in ((0, 3), (4, 8)):
        assert torch.allclose(
            way[index], generator.generate(1, 0.25, num_steps=40, seed=seed, sampler="ddim")[0], atol=1e-4
        )
    assert way[2].std().item() == pytest.approx(way[0].std().item(), rel=0.1)  # on the line it would be 0.7
    steps = (way[1:] - way[:-1]).norm(dim=1)
    assert steps.max() < 1.3 * steps.min()


def test_between_two_seeds_fresh_noise_of_the_sampler_is_not_that_of_the_start() -> None:
    generator = small_generator("diffwave")
    options: dict[str, Any] = {"seconds": 0.1, "num_steps": STEPS, "sampler": "ddpm"}
    way = generator.interpolate(3, 8, count=3, **options)
    assert torch.allclose(way[0], generator.generate(seed=3, **options)[0], atol=1e-4)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_sound_is_changed_with_other_noise_than_it_was_made_from(sampler: str) -> None:
    """All seeds count from 0, so a sound and its variation will often have the same."""
    generator = ideal()
    options: dict[str, Any] = {"num_steps": 20, "seed": 0, "sampler": sampler}
    sound = generator.generate(1, 0.25, **options)[0]
    varied = generator.vary(sound, RATE, 1.0, **options)[0]
    filled = generator.inpaint(sound, RATE, 0.05, 0.15, **options)[0]
    for other in (varied, filled):
        assert abs(torch.corrcoef(torch.stack([other, sound])[:, 500:1100])[0, 1]) < 0.2


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_variations_of_a_seed_are_the_nearer_to_its_sound_the_weaker_they_are(sampler: str) -> None:
    generator = ideal()
    options: dict[str, Any] = {"seconds": 0.25, "num_steps": 20, "sampler": sampler}
    sound = generator.generate(seed=3, **options)

    def likeness(strength: float) -> float:
        varied = generator.vary(3, None, strength, 4, **options)
        return float(torch.corrcoef(torch.cat([sound, varied])[:, 100:-100])[0, 1:].abs().mean())

    torch.testing.assert_close(generator.vary(3, None, 0, **options), sound, atol=1e-5, rtol=0)
    found = [likeness(strength) for strength in (0.1, 0.4, 1.0)]
    assert found[0] > 0.95
    assert found[0] > found[1] > found[2] + 0.2
    two = generator.vary(3, None, 0.4, 2, seed=5, **options)
    torch.testing.assert_close(two[1], generator.vary(3, None, 0.4, seed=6, **options)[0], atol=1e-4, rtol=0)


def test_a_variation_of_a_seed_is_of_the_kind_of_its_sound() -> None:
    generator = small_generator("diffwave")
    options: dict[str, Any] = {"seconds": 0.1, "num_steps": STEPS, "label": generator.labels[0]}
    sound = generator.generate(seed=1, **options)
    torch.testing.assert_close(generator.vary(1, None, 0, seed=7, **options), sound, atol=1e-5, rtol=0)


def test_noise_is_added_on_the_device_of_the_signal() -> None:
    signal = torch.zeros(2, 8, device="meta")
    assert diffuse(signal, signal, levels(CosineSchedule(), 0.5)).device.type == "meta"


def test_two_sounds_are_the_ends_where_little_noise_is_added() -> None:
    generator = ideal()
    first, second = (0.2 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (1500, 2000))
    way = generator.interpolate(first, second, RATE, 3, strength=0.02, num_steps=5)
    assert way.shape == (3, 2000)
    assert (way[0, :1500] - first).norm() < 0.3 * first.norm()
    assert torch.corrcoef(torch.stack([way[2, :1900], second[:1900]]))[0, 1] > 0.9


@pytest.mark.parametrize("kind", ["ideal", "unet", "latent"])
def test_inpainting_keeps_what_lies_outside_to_the_sample(kind: str) -> None:
    generator = ideal() if kind == "ideal" else small_generator(kind)
    sound = tone(0.5)
    filled = generator.inpaint(sound, RATE, 0.2, 0.3, count=2, num_steps=STEPS)
    first, last = round(0.2 * RATE), round(0.3 * RATE)
    assert torch.equal(filled[:, :first], sound[:first].expand(2, -1))
    assert torch.equal(filled[:, last:], sound[last:].expand(2, -1))
    assert (filled[:, first + 100 : last - 100] - sound[first + 100 : last - 100]).abs().max() > 0.01
    assert (filled[0] - filled[1]).abs().max() > 1e-3
    jumps = filled.diff(dim=1).abs()
    assert jumps[:, first - 1 : first + 2].max() < 2 * sound.diff().abs().max()  # no click at the edge


# Loops


def test_a_circular_convolution_is_one() -> None:
    kernel = torch.randn(1, 1, 9)

    def conv(x: Tensor, t: Tensor) -> Tensor:
        return nn.functional.conv1d(x[:, None], kernel, padding=4)[:, 0]

    x = torch.randn(2, 40)
    padded = torch.nn.functional.pad(x[:, None], (4, 4), mode="circular")
    expected = nn.functional.conv1d(padded, kernel)[:, 0]
    assert torch.allclose(Circular(conv, 64)(x, torch.zeros(2)), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["unet", "diffwave", "latent"])
def test_the_network_sees_a_loop_go_on_where_it_closes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the length of the loop itself, which is no multiple of what the network folds."""
    generator, seen = small_generator(kind), []
    walk = generator._walk

    def spy(estimate: Any, x_t: Tensor, *rest: Any) -> Tensor:
        if not isinstance(estimate, Circular):  # whether the sound goes on at all
            return walk(estimate, x_t, *rest)

        def record(x: Tensor, t: Tensor) -> Tensor:
            seen.append(x)
            return estimate.estimate(x, t)

        return walk(Circular(record, estimate.margin), x_t, *rest)

    monkeypatch.setattr(generator, "_walk", spy)
    assert generator.generate(1, 2501 / RATE, num_steps=2, loop=True).shape == (1, 2501)
    period = 2501 if kind != "latent" else math.ceil(2501 / 128) * 4
    context = 0.7 * RATE if kind != "latent" else 0.7 * RATE / 128 * 4
    for x in seen:
        assert torch.equal(x[:, period:], x[:, :-period])
        assert x.shape[1] >= period + 2 * context


def test_wrap_repeats_a_signal_that_is_shorter_than_the_margin() -> None:
    assert wrap(torch.tensor([0, 1, 2]), 4).tolist() == [2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("kind", ["unet", "latent", "diffwave"])
def test_a_loop_has_no_seam(kind: str) -> None:
    """Where the end meets the beginning, the signal moves as much as elsewhere."""
    sounds = small_generator(kind).generate(4, 0.4, num_steps=STEPS, loop=True)
    assert sounds.shape == (4, round(0.4 * RATE))
    twice = torch.cat([sounds, sounds], dim=1).diff(dim=1).abs()
    seam = twice[:, sounds.shape[1] - 1]
    assert (seam < 5 * twice.square().mean(1).sqrt()).all()


def test_the_transition_of_a_loop_is_at_equal_power_and_continuous() -> None:
    noise = torch.randn(64, 3000, generator=torch.Generator().manual_seed(0))
    loop = close_loop(noise, 500, 2000, 400)
    assert loop[:, :400].std().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(loop[:, 400:], noise[:, 900:2500])
    sine = torch.sin(torch.arange(3000) * 2 * math.pi / 50)[None]  # 40 periods fit: nothing to hide
    closed = close_loop(sine, 500, 2000, 400)
    assert (closed[:, 0] - sine[:, 2500]).abs().max() < 0.15  # goes on from where the end stops


@pytest.mark.parametrize("kind", ["unet", "diffwave"])
def test_a_sound_takes_fifteen_steps_and_a_filling_sixty_unless_told_or_trained_otherwise(kind: str) -> None:
    generator, steps = small_generator(kind), []
    on_step = lambda done, total: steps.append(total)  # noqa: E731
    generator.generate(1, 0.1, on_step=on_step)
    generator.vary(tone(), RATE, 0.5, on_step=on_step)
    generator.inpaint(tone(), RATE, 0.1, 0.2, on_step=on_step)
    generator.inpaint(tone(), RATE, 0.1, 0.2, num_steps=2, on_step=on_step)
    assert list(dict.fromkeys(steps)) == ([15, 8, 60, 2] if kind == "unet" else [20, 10, 2])


# Bad input


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"count": 0}, "count: 0"),
        ({"count": 10**12}, "count: 1000000000000"),
        ({"count": 2, "seed": 2**63 - 1}, f"seed: {2**63 - 1} is not"),
        ({"seed": True}, "seed: True"),
        ({"seed": 1.5}, "seed: 1.5 is neither"),
        ({"label": 3}, "label: 3 is neither"),
        ({"guidance": True}, "guidance: True"),
        ({"seconds": 0}, "seconds: 0"),
        ({"seconds": math.nan}, "seconds: nan"),
        ({"seconds": 1e9}, "at most 600"),
        ({"num_steps": 0}, "num_steps: 0"),
        ({"label": "gravel"}, "'gravel' is none of this model's classes; choose from glass, wood, metal"),
        ({"label": ["glass"], "count": 2}, "1 names for 2 sounds"),
        ({"guidance": -1.0}, "guidance: -1"),
        ({"guidance": 3.0}, "guidance: 3.0 leads to a class, and none was given"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": [1, 2, 3]}, "3 seeds for 1 sounds"),
        ({"sampler": "magic"}, "'magic' is unknown"),
    ],
)
def test_impossible_sounds_are_refused(options: dict, cause: str) -> None:
    with pytest.raises(WavediffError, match=cause):  # fault 63
        small_generator("unet").generate(**options)


def test_a_model_without_classes_takes_no_label() -> None:
    with pytest.raises(ConfigError, match="knows no classes"):
        small_generator("free").generate(label="glass")


def test_impossible_edits_are_refused(latent: Generator) -> None:
    sound = tone()
    for call, cause in (
        (lambda: latent.vary(sound[None], RATE), r"floats \(N,\)"),
        (lambda: latent.vary(sound / 0, RATE), "NaN or infinite"),
        (lambda: latent.vary(["a"], RATE), "waveform: holds list values"),
        (lambda: latent.vary(sound, math.nan), "sample_rate: nan is not a whole number"),
        (lambda: latent.vary(torch.zeros(601 * 4000), 4000), "601 s, at most 600 s"),
        (lambda: latent.vary(sound, RATE, count=0), "count: 0"),
        (lambda: latent.vary(sound, RATE, seconds=1.0), "seconds: has no meaning where a waveform is given"),
        (lambda: latent.vary(3, RATE), "waveform: a seed is given, so sample_rate has no meaning"),
        (lambda: latent.vary(-3), "waveform: -3"),
        (lambda: latent.vary(3, strength=1.5), "strength: 1.5"),
        (lambda: latent.vary(sound), "sample_rate: None"),
        (lambda: latent.vary(sound, RATE, 0.0), "strength: 0.0"),
        (lambda: latent.vary(sound, RATE, 1.5), "strength: 1.5"),
        (lambda: latent.inpaint(sound, RATE, 0.2, 0.1), "start, end: the span 0.2 to 0.1"),
        (lambda: latent.inpaint(sound, RATE, 0.0, 9.0), "0.300 s long"),
        (lambda: latent.inpaint(sound, RATE, 0.1, 0.10001), "holds no sample"),
        (lambda: latent.interpolate(1.7, 2, count=2), "give two of a kind"),
        (lambda: latent.interpolate(sound, 3, RATE), "give two of a kind"),
        (lambda: latent.interpolate(sound, sound), "sample_rate"),
        (lambda: latent.interpolate(1, 2, count=1), "count: 1 is not a whole number from 2"),
        (lambda: latent.interpolate(1, 2, count=2, strength=0.5), "strength: has no meaning where two seeds"),
        (lambda: latent.interpolate(1, 2, count=2, seed=3), "seed: has no meaning where two seeds"),
        (lambda: latent.interpolate(1, 2, RATE, count=2), "sample_rate: has no meaning where two seeds"),
        (lambda: latent.interpolate(sound, sound, RATE, seconds=1.0), "seconds: has no meaning where two waveforms"),
    ):
        with pytest.raises((SamplingError, AudioError), match=cause):
            call()


def test_a_filling_gets_the_level_of_what_is_around_it() -> None:
    """Whatever the level at which a decoder made the sound anew; by 12 dB at most."""
    sound, made = tone(0.5), 1 + torch.arange(4000.0)[None]
    sound[3000:] = 0
    for gain, left in ((0.5, 1), (2, 1), (0.1, 0.4)):
        filled = fill(sound, gain * sound[None].repeat(2, 1), 1000, 2000, RATE)
        assert torch.equal(filled[:, :1000], sound[:1000].expand(2, -1))
        assert torch.equal(filled[:, 2000:], sound[2000:].expand(2, -1))
        torch.testing.assert_close(filled[:, 1050:1950], left * sound[1050:1950].expand(2, -1))
    quiet = made / 5000
    assert fill(torch.zeros(4000), quiet, 3500, 4000, RATE)[0, 3900] == quiet[0, 3900]  # silence has no level to match


def test_the_level_of_a_filling_is_that_beside_its_edges() -> None:
    """A sound that decays faster than what was made anew agrees with it there alone."""
    sound, seconds = tone(0.5), torch.arange(4000) / RATE
    made = sound * torch.exp((seconds - 0.1875).abs() * 20)  # 10 ms off 1.2 times, 100 ms off 7 times
    filled = fill(sound, made[None], 1490, 1510, RATE)[0]
    torch.testing.assert_close(filled, sound, atol=0.1, rtol=0)


def test_a_filling_stays_within_full_scale_and_moves_nothing_else() -> None:
    """A loud one, and one that is louder than its context tells; its shape stays."""
    sound = 1.9 * tone(0.5)
    for made in (3 * tone(0.5), torch.cat([0.1 * tone(0.125), tone(0.125), 0.1 * tone(0.25)])):
        filled = fill(sound, made[None], 1000, 2000, RATE)[0]
        assert filled.abs().max() <= 1
        assert torch.equal(filled[:1000], sound[:1000])
        assert torch.equal(filled[2000:], sound[2000:])
        inside, shape = filled[1050:1950], made[1050:1950]
        torch.testing.assert_close(inside / inside.norm(), shape / shape.norm())


def test_what_ends_by_itself_is_no_loop() -> None:
    """A model whose every sound is one click at its start is refused, one that hums on is not."""
    click = torch.zeros(20_000)
    click[:100] = 0.5
    generator = ideal()
    generator.config = dataclasses.replace(generator.config, default_length=2000)
    for sound in (tone(2.5), click):
        always = functools.partial(lambda sound, output, x_t, t: sound[: x_t.shape[1]].expand_as(x_t), sound)
        generator.denoiser.x0_from = always  # type: ignore[method-assign]
        if sound is click:
            with pytest.raises(SamplingError, match="loop: what seed 7 makes ends by itself"):
                generator.generate(1, 0.1, loop=True, seed=7, num_steps=2)
        else:
            assert generator.generate(1, 0.1, loop=True, seed=7, num_steps=2).shape == (1, 800)


def test_a_variation_has_the_level_of_the_sound(latent: Generator) -> None:
    """The model sees both at one level, so that one variation is the other, fainter."""
    loud, faint = latent.vary(tone(), RATE, num_steps=2), latent.vary(tone() / 10, RATE, num_steps=2)
    torch.testing.assert_close(loud / 10, faint, rtol=1e-3, atol=1e-4)


def test_a_step_that_gives_nan_is_named() -> None:
    generator = ideal(math.nan)
    with pytest.raises(SamplingError, match="step 1 of 3 gave NaN"):  # fault 65
        generator.generate(1, 0.1, num_steps=3)


def test_a_vocoder_is_no_generator_and_the_other_way_round(tmp_path: Path) -> None:
    from wavediff import Vocoder

    with pytest.raises(ConfigError, match=r"use wavediff\.Vocoder"):
        Generator.from_pretrained(Path(Vocoder.from_pretrained.__globals__["WEIGHTS"]) / Vocoder.bundled)
    small_generator("latent").save(tmp_path / "sounds.safetensors")
    with pytest.raises(ConfigError, match=r"wavediff\.Generator"):
        Vocoder.from_pretrained(tmp_path / "sounds.safetensors")


def test_a_saved_generator_makes_the_same_sounds(generator: Generator, tmp_path: Path) -> None:
    generator.save(tmp_path / "sounds.safetensors")
    again = Generator.from_pretrained(tmp_path / "sounds.safetensors", "cpu")
    assert again.config == generator.config
    assert torch.equal(again.generate(2, 0.2, num_steps=2), generator.generate(2, 0.2, num_steps=2))


def test_another_rate_is_resampled(latent: Generator) -> None:
    varied = latent.vary(tone(0.25, 16000), 16000, 0.3, num_steps=2)
    assert varied.shape == (1, 2000)


def test_states_lead_from_noise_to_the_sound_of_generate(generator: Generator) -> None:
    options = {"label": generator.labels[0] if generator.labels else None, "num_steps": 5, "seed": 4}
    states = list(generator.states(0.1, **options))
    assert len(states) == 6
    torch.testing.assert_close(states[-1], generator.generate(seconds=0.1, **options), rtol=0, atol=0)
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(states))
    calls: list[tuple[int, int]] = []
    some = generator.states(0.1, at={0, 3}, on_step=lambda done, total: calls.append((done, total)), **options)
    for one, other in zip(some, (states[0], states[3]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert calls == [(number, 5) for number in range(1, 6)]


class TwoKinds(Ideal):
    """Predicts v without error for data N(0, deviation^2), whose deviation its label tells; of none, 1."""

    def __init__(self, deviations: tuple[float, ...]) -> None:
        super().__init__(0.2)
        self.deviations = torch.tensor([*deviations, 1.0])

    def prepare(self, cond: Any) -> Any:
        return self.deviations[cond.label][:, None]

    def forward(self, x_t: Tensor, t: Tensor, prepared: Any) -> Tensor:
        schedule, variance = CosineSchedule(), prepared**2
        alpha, sigma = schedule.alpha(t).float()[:, None], schedule.sigma(t).float()[:, None]
        return (alpha * x_t - alpha * variance / (alpha**2 * variance + sigma**2) * x_t) / sigma


@pytest.fixture
def two_kinds() -> Generator:
    """Of noise, and of sounds that are nearly silent beside their peak."""
    labels = ("rain/drops", "rain/steady", "wind")
    config = dataclasses.replace(CONFIGS["free"], labels=labels)
    return Generator(config, Denoiser(TwoKinds((0.01, 0.25, 0.25)), CosineSchedule(), "v"))


def noise_and_drops() -> dict[str, Tensor]:
    noise, drops = torch.randn(4000, generator=torch.Generator().manual_seed(0)), torch.zeros(4000)
    drops[100] = 0.5
    # Of what is to be replaced nothing may be heard: it is of the other kind.
    return {
        "rain/steady": torch.cat([0.1 * noise[:1000], drops[:2000], 0.1 * noise[3000:]]),
        "rain/drops": torch.cat([drops[:1000], 0.1 * noise[1000:3000], drops[1000:2000]]),
    }


def test_a_filling_is_of_the_kind_that_fits_what_is_around_it(two_kinds: Generator) -> None:
    span = (1000 / RATE, 3000 / RATE)
    for kind, sound in noise_and_drops().items():
        assert two_kinds.fitting_kind(sound, RATE, *span, "rain") == kind
        assert two_kinds.fitting_kind(sound, RATE, *span, "wind") == "wind"
        assert two_kinds.fitting_kind(sound, RATE, *span, "rain/drops") == "rain/drops"
        filled = two_kinds.inpaint(sound, RATE, *span, 2, label="rain", num_steps=STEPS)
        assert torch.equal(filled, two_kinds.inpaint(sound, RATE, *span, 2, label=[kind] * 2, num_steps=STEPS))
        mixed = two_kinds.inpaint(sound, RATE, *span, 2, label=["rain", "wind"], num_steps=STEPS)
        assert torch.equal(mixed[0], filled[0])


def test_nothing_known_leaves_the_kind_to_the_seed(two_kinds: Generator) -> None:
    sound = next(iter(noise_and_drops().values()))
    assert two_kinds.fitting_kind(sound, RATE, 0, 0.5, "rain") == "rain"
    for seed, kind in enumerate(("rain/drops", "rain/steady")):
        whole = two_kinds.inpaint(sound, RATE, 0, 0.5, label="rain", seed=seed, num_steps=STEPS)
        assert torch.equal(whole, two_kinds.inpaint(sound, RATE, 0, 0.5, label=kind, seed=seed, num_steps=STEPS))


@pytest.mark.parametrize("kind", ["latent", "diffwave"])
def test_kinds_are_compared_in_latents_and_at_discrete_steps(kind: str) -> None:
    generator = small_generator(kind)
    config = dataclasses.replace(generator.config, labels=("rain/drops", "rain/steady", "wind"))
    generator = Generator(config, generator.denoiser)
    assert generator.fitting_kind(tone(), RATE, 0.1, 0.2, "rain") in ("rain/drops", "rain/steady")
    with pytest.raises(ConfigError, match="is none of this model's classes"):
        generator.fitting_kind(tone(), RATE, 0.1, 0.2, "hail")


def test_the_transition_of_a_loop_begins_and_ends_without_a_step() -> None:
    """Two low tones have nothing above 2 kHz, and where the loop closes no more than a cross-fade puts there."""
    time = torch.arange(12_000, dtype=torch.float64) / 22_050
    sound = 0.4 * torch.sin(2 * math.pi * 41 * time) + 0.4 * torch.sin(2 * math.pi * 67 * time + 1)
    loop = close_loop(sound[None], 500, 8000, 1000)[0]
    around = torch.cat([loop, loop])[7000:9000] * torch.hann_window(2000, dtype=torch.float64)
    high = torch.fft.rfft(around)[round(2000 * 2000 / 22_050) :].abs().max() / 1000
    assert high < 1e-5  # 4e-5 with roots of a straight ramp
