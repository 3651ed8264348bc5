"""Pairs of signals and what many of them say together: lengths, refusals, missing extras, summaries."""

import math
import sys

import pytest
import torch
from torch import Tensor

from wavediff.errors import AudioError, ConfigError, DataError, MissingExtraError
from wavediff.metrics import METRICS, evaluate_pair, pesq, select_metrics, summarise

RATE = 22050


def white(length: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed))


def test_a_hop_more_at_the_end_changes_nothing() -> None:
    speech, hissing = white(RATE), white(RATE, seed=1)
    names = ["log_mel_l1", "mr_stft", "peak"]
    longer = torch.cat([hissing, torch.ones(256)])
    assert evaluate_pair(speech, longer, RATE, names) == evaluate_pair(speech, hissing, RATE, names)
    assert list(evaluate_pair(longer, speech, RATE, names)) == names


def test_signals_of_other_lengths_are_refused() -> None:
    evaluate_pair(white(10 * RATE), white(10 * RATE - 2200), RATE, ["peak"])  # 1 % of 10 s
    for shorter in (10 * RATE - 2210, RATE):
        with pytest.raises(DataError, match=rf"have 220500 and {shorter} samples"):
            evaluate_pair(white(10 * RATE), white(shorter), RATE, ["peak"])


def test_what_is_not_a_waveform_is_refused() -> None:
    good, holed = white(RATE), white(RATE)
    holed[7] = float("nan")
    for bad in (holed, good[None], (good * 1000).short(), white(2047)):
        with pytest.raises(AudioError):
            evaluate_pair(bad, bad, RATE)


def test_an_unknown_metric_is_refused_with_the_list_of_all() -> None:
    for names in (["loudness"], []):
        with pytest.raises(ConfigError, match="mr_stft"):
            evaluate_pair(white(RATE), white(RATE), RATE, metrics=names)


def test_a_summary_has_students_interval_and_skips_what_has_no_figure() -> None:
    rows = [{"a": float(value), "b": None} for value in (1, 2, 3, 4, 5)] + [{"a": None, "b": None}, {"c": 7.0}]
    summary = summarise(rows)
    assert summary["a"].count == 5
    assert summary["a"].mean == 3
    assert summary["a"].standard_deviation == pytest.approx(math.sqrt(2.5))
    half = 2.7764451 * math.sqrt(2.5 / 5)  # t(0.975, 4 degrees of freedom), from the tables
    assert summary["a"].interval95 == pytest.approx((3 - half, 3 + half))
    assert (summary["b"].count, summary["b"].mean) == (0, None)
    assert (summary["c"].count, summary["c"].mean, summary["c"].interval95) == (1, 7.0, None)


def test_a_missing_extra_is_named_when_asked_for_and_left_out_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wavediff\[eval\]'"):  # fault 84
        evaluate_pair(white(RATE), white(RATE), RATE, metrics=["pesq"])
    with pytest.raises(MissingExtraError, match="pesq"):
        pesq(white(RATE), white(RATE), RATE)
    with pytest.raises(MissingExtraError, match="pesq"):
        select_metrics(["mcd", "pesq"])
    names, left_out = select_metrics()
    assert left_out["pesq"] == "pesq"
    assert set(names) == set(METRICS) - set(left_out)
