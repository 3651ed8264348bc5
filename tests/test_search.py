"""The search for the best few steps: on problems with a known answer, and its diary."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from wavediff.audio import write_audio
from wavediff.backbones import DiffWaveConfig, SpectralConfig
from wavediff.cli.demo import CLIP
from wavediff.diffusion import CosineSchedule, Plan, PriorConfig
from wavediff.errors import ConfigError, DataError
from wavediff.mel import MelSpec
from wavediff.metrics import evaluate_pair
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.pipelines.vocoder import Vocoder
from wavediff.search.budget import Budget, Found, reference_plans, search_budget
from wavediff.search.curve import search
from wavediff.search.judge import Journal, Judge, cut_clips, relative_cost
from wavediff.search.space import noise_of

SPEC = MelSpec.preset("hifigan")
CONFIGS = {
    "diffwave": ModelConfig(backbone=DiffWaveConfig(channels=8, layers=4, dilation_cycle=4), mel=SPEC),
    "spectral": ModelConfig(
        SpectralConfig(bands=16, channels=8, layers=1),
        CosineSchedule(),
        "v",
        PriorConfig(power=0.8, start_time=0.2, phase_iterations=2),
        SPEC,
    ),
}
SUBJECT = {"checkpoint": "abc", "metrics": ["mr_stft"]}


def make_vocoder(kind: str) -> Vocoder:
    """Untrained, but with an output that depends on everything in it."""
    torch.manual_seed(0)
    denoiser = build_denoiser(CONFIGS[kind]).eval().requires_grad_(False)
    nn.init.normal_(denoiser.backbone.output_projection.weight, std=0.1)
    return Vocoder(CONFIGS[kind], denoiser)


@pytest.fixture(scope="module", params=CONFIGS)
def vocoder(request: pytest.FixtureRequest) -> Vocoder:
    return make_vocoder(request.param)


Formula = Callable[[Plan], float]


class Known:
    """A judge whose figures are a formula of the plan."""

    def __init__(self, journal: Journal, part: str, formula: Formula) -> None:
        self.journal, self.part, self.formula = journal, part, formula

    def __call__(self, plan: Plan) -> dict[str, float | None]:
        figures = self.journal.figures(self.part, plan)
        if figures is None:
            figures = {"mr_stft": self.formula(plan)}
            self.journal.add(self.part, plan, figures)
        return figures


def found_with(
    vocoder: Vocoder, path: Path, formula: Callable[[Plan], float], evaluations: int, **limits: Any
) -> Found:
    journal = Journal(path / "trials.jsonl", SUBJECT)
    judge, confirm = Known(journal, "search", formula), Known(journal, "confirm", formula)
    budget = Budget(evaluations, limits.get("trials", 120), time.monotonic() + limits.get("seconds", 60))
    return search_budget(vocoder, budget, judge, confirm, limits.get("known", ()))  # type: ignore[arg-type]


@pytest.mark.parametrize("evaluations", [2, 3, 6])
def test_the_search_comes_close_to_a_best_plan_that_is_known(tmp_path: Path, evaluations: int) -> None:
    wanted = [math.log(0.9 * 0.55**index) for index in range(evaluations)]

    def formula(plan: Plan) -> float:
        if len(plan.times) - 1 != evaluations or plan.sampler.startswith("dpmpp"):
            return 9.0
        noise = 1.0 if plan.sampler == "ddpm" else noise_of(plan)
        distance = sum((math.log(t) - w) ** 2 for t, w in zip(plan.times, wanted, strict=False)) / evaluations
        return 0.1 + distance + (noise - 0.3) ** 2

    found = found_with(make_vocoder("diffwave"), tmp_path, formula, evaluations)
    assert formula(found.plan) < 0.1 + 0.02
    assert formula(found.plan) < 0.5 * min(formula(plan) for plan, _ in found.references.values())
    assert found.plan.sampler.startswith("ddim:eta=0.")
    assert found.cost == pytest.approx(formula(found.plan) / formula(found.references["default"][0]))


def test_the_default_plan_is_kept_where_nothing_is_better(vocoder: Vocoder, tmp_path: Path) -> None:
    default = vocoder.plan(4)
    found = found_with(vocoder, tmp_path, lambda plan: 1.0 if plan == default else 2.0, 4)
    assert found.plan == default
    assert found.cost == 1


def test_what_is_good_on_the_searched_clips_alone_is_not_taken(tmp_path: Path) -> None:
    """The second hearing: a plan that the other clips like less than the default."""
    vocoder, journal = make_vocoder("spectral"), Journal(tmp_path / "trials.jsonl", SUBJECT)
    default = vocoder.plan(2)
    judge = Known(journal, "search", lambda plan: 1.0 if plan == default else 0.9)
    confirm = Known(journal, "confirm", lambda plan: 1.0 if plan == default else 1.5)
    budget = Budget(2, 20, time.monotonic() + 60)
    assert search_budget(vocoder, budget, judge, confirm).plan == default  # type: ignore[arg-type]


def test_trials_and_time_are_bounded_and_the_references_always_measured(vocoder: Vocoder, tmp_path: Path) -> None:
    some = found_with(vocoder, tmp_path / "trials", lambda plan: plan.times[0], 3, trials=10)
    assert some.trials <= 10 + len(some.references)
    assert some.in_time
    none = found_with(vocoder, tmp_path / "time", lambda plan: plan.times[0], 3, seconds=-1)
    assert none.trials == len({plan for plan, _ in none.references.values()})
    assert set(none.references) >= {"default", "ddim"}
    assert not none.in_time


def test_published_schedules_are_references_where_they_fit() -> None:
    diffwave = make_vocoder("diffwave")
    assert {"default", "ddim", "fast6"} == set(reference_plans(diffwave, 6))
    assert {"default", "ddim", "bddm4"} == set(reference_plans(diffwave, 4))
    assert {"default", "ddim"} == set(reference_plans(make_vocoder("spectral"), 6))


def test_more_evaluations_are_never_worse_than_fewer(tmp_path: Path) -> None:
    vocoder, known = make_vocoder("spectral"), [Plan("heun:churn=0.2", (0.19, 0.07, 0.0)), Plan("ddim", (0.1, 0.0))]
    for best in known:
        found = found_with(
            vocoder, tmp_path / best.sampler[:4], lambda plan, best=best: 0.5 if plan == best else 1.0, 4, known=known
        )
        assert found.plan == best


def test_a_published_schedule_is_improved_on(tmp_path: Path) -> None:
    """Downhill from where it is: ancestral sampling of four steps, the last of which is a little early."""
    vocoder = make_vocoder("diffwave")
    times = reference_plans(vocoder, 4)["bddm4"].times
    wanted = [math.log(t) for t in (*times[:3], 1.3 * times[3])]

    def formula(plan: Plan) -> float:
        if len(plan.times) != 5 or not (plan.sampler == "ddpm" or plan.sampler.startswith("ddim:eta=")):
            return 9.0
        return 0.01 + sum((math.log(t) - w) ** 2 for t, w in zip(plan.times, wanted, strict=False))

    found = found_with(vocoder, tmp_path, formula, 4, trials=90)
    assert formula(found.plan) < 0.5 * formula(found.references["bddm4"][0])


def test_the_best_of_a_smaller_number_is_tried_with_a_larger_one(tmp_path: Path) -> None:
    vocoder, known = make_vocoder("spectral"), Plan("dpmpp-2m:eta=0.125", (0.19, 0.07, 0.0))
    target = known.resampled(4)
    found = found_with(vocoder, tmp_path, lambda plan: 0.5 if plan == target else 1.0, 4, known=[known])
    assert found.plan == target


def test_costs_are_relative_to_the_reference_and_better_is_less() -> None:
    reference = {"pesq": 2.0, "mr_stft": 1.0}
    assert relative_cost(reference, reference) == 1
    assert relative_cost({"pesq": 4.0, "mr_stft": 1.0}, reference) == 0.75
    assert relative_cost({"pesq": 2.0, "mr_stft": 1.5}, reference) == 1.25
    assert relative_cost({"pesq": None, "mr_stft": 0.1}, reference) == math.inf


def speech(seconds: float, seed: int) -> torch.Tensor:
    """Not speech: noise whose level goes up and down."""
    time_axis = torch.arange(round(seconds * 22050)) / 22050
    noise = torch.randn(len(time_axis), generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * (1 + torch.sin(2 * torch.pi * 3 * time_axis))


def test_the_judge_hears_what_decode_gives(vocoder: Vocoder, tmp_path: Path) -> None:
    clips = torch.stack([speech(0.6, seed)[: 40 * 256] for seed in (1, 2)])
    judge = Judge(vocoder, clips, ["mr_stft"], 5, "search", Journal(tmp_path / "trials.jsonl", SUBJECT), draws=2)
    for plan in (vocoder.plan(3), Plan("ddim:eta=0.5", (0.2, 0.1, 0.0))):
        mel = vocoder.mel(clips, 22050)[..., :40]
        decoded = vocoder.with_plans([(3, plan)]).decode(mel.repeat(2, 1, 1), 3, seed=[5, 6, 7, 8])
        pairs = zip(clips.repeat(2, 1), decoded, strict=True)
        expected = [evaluate_pair(a, b, 22050, ["mr_stft"])["mr_stft"] for a, b in pairs]
        assert judge(plan)["mr_stft"] == pytest.approx(sum(expected) / 4, rel=1e-6)  # type: ignore[arg-type]


def test_a_plan_that_diverges_has_no_figures_and_costs_all(tmp_path: Path) -> None:
    vocoder = make_vocoder("diffwave")
    vocoder.denoiser.backbone.output_projection.weight.fill_(float("inf"))
    judge = Judge(vocoder, speech(0.5, 1)[None, : 40 * 256], ["mr_stft"], 0, "a", Journal(tmp_path / "t", SUBJECT))
    assert judge(vocoder.plan(2)) == {"mr_stft": None}


def test_the_diary_measures_nothing_twice_and_survives_a_cut_line(tmp_path: Path) -> None:
    path, plan = tmp_path / "trials.jsonl", Plan("ddim", (0.5, 0.25, 0.0))
    journal = Journal(path, SUBJECT)
    journal.add("search", plan, {"mr_stft": 1.5})
    journal.close()
    path.write_text(path.read_text() + '{"part": "search", "sampl')
    with pytest.warns(UserWarning, match=r"trials\.jsonl, line 3: is cut or damaged"):
        again = Journal(path, SUBJECT)
    assert again.figures("search", plan) == {"mr_stft": 1.5}
    assert again.figures("confirm", plan) is None
    other = Plan("ddim", (0.5, 0.2, 0.0))
    again.add("search", other, {"mr_stft": None})
    again.close()
    with pytest.warns(UserWarning, match="line 3"):
        last = Journal(path, SUBJECT)
    assert last.figures("search", other) == {"mr_stft": None}
    assert len(last) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"part": ["search"]},
        {"sampler": "none"},
        {"times": [0.5, 1.0]},
        {"times": 3},
        {"figures": {}},
        {"figures": {"mr_stft": "good"}},
    ],
)
def test_a_damaged_line_of_the_diary_is_told_and_measured_again(change: dict[str, Any], tmp_path: Path) -> None:
    path, plans = tmp_path / "trials.jsonl", [Plan("ddim", (time, 0.25, 0.0)) for time in (0.5, 0.6)]
    journal = Journal(path, SUBJECT)
    for plan in plans:
        journal.add("search", plan, {"mr_stft": 1.5})
    journal.close()
    lines = path.read_text().splitlines()
    damaged = json.loads(lines[1])
    for line in (json.dumps(damaged | change), json.dumps({"figures": {"mr_stft": 1.0}}), "7", "null"):
        path.write_text("\n".join([lines[0], line, *lines[2:], ""]))
        with pytest.warns(UserWarning, match="line 2: is cut or damaged"):
            again = Journal(path, SUBJECT)
        assert [again.figures("search", plan) for plan in plans] == [None, {"mr_stft": 1.5}]


def test_the_diary_of_another_search_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    Journal(path, SUBJECT).close()
    before = path.read_bytes()
    with pytest.raises(DataError, match="checkpoint"):
        Journal(path, SUBJECT | {"checkpoint": "def"})
    assert path.read_bytes() == before
    for text in ("something else\n", "7\n", "[]\n", ""):
        path.write_text(text)
        with pytest.raises(DataError, match="is not the diary"):
            Journal(path, SUBJECT)
    assert len(Journal(path, SUBJECT, overwrite=True)) == 0


def test_clips_come_from_all_recordings_and_whole_ones_too_short_are_refused(tmp_path: Path) -> None:
    paths = []
    for index, seconds in enumerate((3.0, 0.4, 2.0)):
        paths.append(tmp_path / f"{index}.wav")
        write_audio(paths[-1], torch.full((round(seconds * 22050),), 0.1 * (index + 1)), 22050)
    clips = cut_clips(paths, 6, 11025, 22050)
    assert clips.shape == (4, 11025)  # two of each that is long enough
    assert sorted({round(value, 1) for value in clips.mean(1).tolist()}) == [0.1, 0.3]
    assert len(cut_clips(paths[::2], 1, 11025, 22050)) == 1
    with pytest.raises(DataError, match="5 s long"):
        cut_clips(paths, 6, 5 * 22050, 22050)


def test_a_search_goes_on_where_it_was_and_finds_the_same(vocoder: Vocoder, tmp_path: Path) -> None:
    paths = []
    for seed in range(4):
        paths.append(tmp_path / f"{seed}.wav")
        write_audio(paths[-1], speech(1.0, seed), 22050)
    options: dict[str, Any] = {"budgets": [1, 3], "clips": 2, "seconds": 0.5, "minutes": 5, "checkpoint": "x"}
    whole = search(vocoder, paths, tmp_path / "whole.jsonl", trials=9, **options)
    assert all(found.cost <= 1 for found in whole.found.values())
    assert [evaluations for evaluations, _ in whole.plans] == [1, 3]

    search(vocoder, paths, tmp_path / "cut.jsonl", trials=9, **options | {"budgets": [1]})
    lines = (tmp_path / "cut.jsonl").read_text().splitlines()
    (tmp_path / "cut.jsonl").write_text("\n".join(lines[:6]) + "\n")
    again = search(vocoder, paths, tmp_path / "cut.jsonl", trials=9, **options)
    assert again.plans == whole.plans
    count = len((tmp_path / "whole.jsonl").read_text().splitlines())
    assert len((tmp_path / "cut.jsonl").read_text().splitlines()) == count
    search(vocoder, paths, tmp_path / "whole.jsonl", trials=9, **options)
    assert len((tmp_path / "whole.jsonl").read_text().splitlines()) == count  # nothing was measured again
    assert json.dumps(whole.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"budgets": []}, "budgets"),
        ({"budgets": [0, 2]}, "budgets"),
        ({"budgets": [5000]}, "budgets"),
        ({"metrics": ["loudness"]}, "loudness"),
        ({"metrics": ["peak"]}, "no better end"),
        ({"clips": 0}, "clips"),
        ({"seconds": 0.1}, "seconds"),
        ({"draws": 0}, "draws"),
        ({"minutes": 0}, "minutes"),
        ({"trials": 1}, "trials"),
    ],
)
def test_an_impossible_search_is_refused_before_any_work(tmp_path: Path, options: dict, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        search(make_vocoder("diffwave"), [tmp_path / "none.wav"], tmp_path / "t.jsonl", "x", **options)
    assert not (tmp_path / "t.jsonl").exists()


def test_equal_figures_cost_as_much_also_where_there_is_no_ratio() -> None:
    assert relative_cost({"clipped": 0.0, "mr_stft": 2.0}, {"clipped": 0.0, "mr_stft": 1.0}) == 1.5
    assert relative_cost({"clipped": 1.0}, {"clipped": 0.0}) == math.inf


def test_a_level_is_no_metric_of_a_search(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"noise_floor is a level"):
        search(make_vocoder("spectral"), [CLIP], tmp_path / "trials.jsonl", "", budgets=[1], metrics=["noise_floor"])
