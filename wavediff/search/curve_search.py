"""The whole search: one number of evaluations after the other, within a time limit, resumable."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wavediff.errors import ConfigError, DataError
from wavediff.metrics import METRICS, select_metrics
from wavediff.pipelines.vocoder import Vocoder
from wavediff.search.budget import Budget, Found, search_budget
from wavediff.search.curve import Curve
from wavediff.search.journal import Journal
from wavediff.search.judge import Judge, cut_clips, fingerprint

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
    names = _check(vocoder, budgets, metrics, clips, seconds, draws, minutes, trials)
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


def _check(
    vocoder: Vocoder,
    budgets: Sequence[int],
    metrics: Sequence[str],
    clips: int,
    seconds: float,
    draws: int,
    minutes: float,
    trials: int,
) -> tuple[str, ...]:
    """Names of the metrics, after checking all bounds."""
    most = vocoder.denoiser.schedule.trained_steps or MAX_BUDGET
    if not budgets or not all(type(n) is int and 1 <= n <= most for n in budgets):
        raise ConfigError(f"budgets: {list(budgets)} must be whole numbers from 1 to {most}")
    names, _ = select_metrics(metrics)
    useless = [name for name in names if METRICS[name].higher_is_better is None]
    if useless:
        raise ConfigError(f"metric: {useless[0]} has no better end; choose another")
    if not 1 <= clips <= 1000 or not 0.5 <= seconds <= 60 or not 1 <= draws <= 100:
        raise ConfigError(
            f"clips {clips} must lie in 1 to 1000, seconds {seconds} in 0.5 to 60, draws {draws} in 1 to 100"
        )
    if not 0 < minutes <= 100_000 or not 4 <= trials <= 100_000:
        raise ConfigError(f"minutes {minutes} must lie in 0 to 100000, trials {trials} in 4 to 100000")
    return names
