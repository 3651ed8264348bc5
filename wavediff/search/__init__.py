"""Finding the best few steps of a trained model: sampler, times and noise for each number of evaluations."""

from wavediff.search.budget import Budget, Found, reference_plans, search_budget
from wavediff.search.curve import Curve, draw_curve
from wavediff.search.curve_search import search
from wavediff.search.journal import Journal
from wavediff.search.judge import Judge, cut_clips

__all__ = [
    "Budget",
    "Curve",
    "Found",
    "Journal",
    "Judge",
    "cut_clips",
    "draw_curve",
    "reference_plans",
    "search",
    "search_budget",
]
