"""What a search has found: quality against evaluations, as plans, as numbers and as a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavediff.diffusion import Plan
from wavediff.metrics import METRICS
from wavediff.search.budget import Found


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
