"""The whole search, one number of evaluations after the other: quality against evaluations, and its picture."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavediff.arguments import real, whole
from wavediff.diffusion import Plan
from wavediff.errors import ConfigError, DataError
from wavediff.metrics import METRICS, select_metrics
from wavediff.pipelines.vocoder import Vocoder
from wavediff.search.budget import Budget, Found, search_budget
from wavediff.search.judge import Journal, Judge, cut_clips, fingerprint


@dataclass(frozen=True)
class Curve:
    """Attributes:
    found: by number of evaluations.
    metrics: names of what was measured.
    subject: what was searched, with what; JSON literals.
    """

    found: dict[int, Found]
    metrics: tuple[str, ...]
    subject: dict[str, Any]

    @property
    def plans(self) -> tuple[tuple[int, Plan], ...]:
        """For a model file: the best for each number of evaluations."""
        return tuple((evaluations, found.plan) for evaluations, found in self.found.items())

    def to_dict(self) -> dict[str, Any]:
        """JSON literals."""
        return {
            "search": self.subject,
            "metrics": {
                name: {"unit": METRICS[name].unit, "higher_is_better": METRICS[name].higher_is_better}
                for name in self.metrics
            },
            "curve": [
                {
                    "evaluations": evaluations,
                    "taken": found.plan.evaluations,
                    "sampler": found.plan.sampler,
                    "times": list(found.plan.times),
                    "figures": found.figures,
                    "cost": found.cost,
                    "trials": found.trials,
                    "in_time": found.in_time,
                    "references": {
                        name: {"sampler": plan.sampler, "times": list(plan.times), "figures": figures}
                        for name, (plan, figures) in found.references.items()
                    },
                }
                for evaluations, found in self.found.items()
            ],
        }


def draw_curve(curve: Curve, path: Path) -> None:
    """A PNG: for each metric the searched plans beside those that need no search."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(curve.metrics), 4), layout="constrained")
    panels = figure.subplots(1, len(curve.metrics), squeeze=False)[0]
    names = dict.fromkeys(name for found in curve.found.values() for name in found.references)
    for axes, metric in zip(panels, curve.metrics, strict=True):
        for name in names:
            points = [
                (evaluations, found.references[name][1][metric])
                for evaluations, found in curve.found.items()
                if name in found.references and found.references[name][1][metric] is not None
            ]
            style = "o--" if len(points) > 1 else "s"
            axes.plot([x for x, _ in points], [y for _, y in points], style, label=name, linewidth=1, markersize=4)
        searched = [(x, found.figures[metric]) for x, found in curve.found.items()]
        axes.plot([x for x, _ in searched], [y for _, y in searched], "o-", color="black", label="searched")
        better = {True: "higher is better", False: "lower is better", None: ""}[METRICS[metric].higher_is_better]
        unit = f" [{METRICS[metric].unit}]" if METRICS[metric].unit else ""
        axes.set(xlabel="network evaluations", ylabel=f"{metric}{unit}, {better}", xscale="log")
        axes.set_xticks(list(curve.found), [str(x) for x in curve.found])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=100, format="png")


MAX_BUDGET = 1000
SECOND_SEED = 1_000_003  # the confirming clips' noise is other noise
METRICS_COST = 2.0  # what comparing costs, in network evaluations of the same clips: for sharing out the time


def search(
    vocoder: Vocoder,
    recordings: Sequence[Path],
    journal_path: Path,
    checkpoint: str,
    *,
    budgets: Sequence[int] = (1, 2, 3, 4, 6, 8, 12),
    metrics: Sequence[str] = ("mr_stft",),
    clips: int = 6,
    seconds: float = 3.0,
    draws: int = 2,
    minutes: float = 25.0,
    trials: int = 100,
    seed: int = 0,
    overwrite: bool = False,
    on_trial: Callable[[int, int], None] = lambda evaluations, done: None,
) -> Curve:
    """The best plans for several numbers of evaluations.

    Args:
        vocoder: the model.
        recordings: held-out speech, neither trained nor tested on. Half of the clips are searched on; on the others
            the best few are measured again, and the best over both is taken. The default plan takes part in that.
        journal_path: the diary (JSONL). A search that was cut, or whose time was up, goes on from it.
        checkpoint: names the model in the diary: a hash of its weights.
        budgets: numbers of network evaluations.
        metrics: what is judged by, see `wavediff.metrics.METRICS`; of several, the mean relative gain.
        clips: how many are searched on; as many again are confirmed on.
        seconds: length of each, cut to whole mel frames.
        draws: noises that each clip is vocoded from.
        minutes: for all budgets together, more for larger ones; what the diary holds costs no time.
        trials: plans measured for each budget, at most.
        seed: of the noise.
        overwrite: begin the diary anew.
        on_trial: called with the evaluations of the budget and the plans measured for it.

    Raises:
        ConfigError: a budget, metric or limit is out of bounds.
        DataError: the recordings are too short, or the diary is of another search.
        OutputError: the diary cannot be written.
    """
    budgets = sorted(set(budgets))
    most = vocoder.denoiser.schedule.trained_steps or MAX_BUDGET
    if not budgets or not all(type(n) is int and 1 <= n <= most for n in budgets):
        raise ConfigError(f"budgets: {list(budgets)} must be whole numbers from 1 to {most}")
    names, _ = select_metrics(metrics)
    if useless := [name for name in names if METRICS[name].higher_is_better is None]:
        raise ConfigError(f"metric: {useless[0]} has no better end; choose another")
    if levels := [name for name in names if METRICS[name].unit == "dBFS"]:
        raise ConfigError(f"metric: {levels[0]} is a level, and plans are compared by ratios; choose another")
    clips, draws = whole(clips, "clips", 1, 1000, ConfigError), whole(draws, "draws", 1, 100, ConfigError)
    trials = whole(trials, "trials", 4, 100_000, ConfigError)
    seconds = real(seconds, "seconds", "from 0.5 to 60", lambda value: 0.5 <= value <= 60, ConfigError)
    minutes = real(minutes, "minutes", "above 0 and at most 100000", lambda value: 0 < value <= 1e5, ConfigError)
    frames = round(seconds * vocoder.sample_rate / vocoder.hop_length)
    both = cut_clips(recordings, 2 * clips, frames * vocoder.hop_length, vocoder.sample_rate)
    if len(both) < 2:
        raise DataError(f"{recordings[0]}: gives one clip of {seconds:g} s, a search needs two; give more recordings")
    subject: dict[str, Any] = {
        "checkpoint": checkpoint,
        "metrics": list(names),
        "clips": len(both),
        "seconds": seconds,
        "draws": draws,
        "seed": seed,
    }
    journal = Journal(journal_path, subject | {"recordings": fingerprint(both)}, overwrite=overwrite)
    try:
        judge = Judge(vocoder, both[::2], names, seed, "search", journal, draws)
        confirm = Judge(vocoder, both[1::2], names, seed + SECOND_SEED, "confirm", journal, draws)
        found: dict[int, Found] = {}
        end = time.monotonic() + 60 * minutes
        for index, evaluations in enumerate(budgets):
            # The time left, shared out by what a trial costs.
            share = (evaluations + METRICS_COST) / sum(budget + METRICS_COST for budget in budgets[index:])
            now = time.monotonic()
            budget = Budget(evaluations, trials, now + share * max(end - now, 0))
            known = list(dict.fromkeys(found[other].plan for other in budgets[:index]))
            count = functools.partial(on_trial, evaluations)
            found[evaluations] = search_budget(vocoder, budget, judge, confirm, known, count)
    finally:
        journal.close()
    return Curve(found, names, subject)
