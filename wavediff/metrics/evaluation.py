"""All metrics of one pair of signals, and what many pairs say together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavediff.errors import AudioError, DataError
from wavediff.metrics.registry import METRICS, select_metrics

# Vocoders return frames * hop_length samples, so a pair may differ by a hop: 25 ms is longer than any dialect's.
LENGTH_TOLERANCE_SECONDS = 0.025
LENGTH_TOLERANCE_SHARE = 0.01
MIN_SAMPLES = 2048  # the longest window of the multi-resolution STFT


def check_lengths(reference: int, synthesised: int, sample_rate: int) -> int:
    """The common length [samples] of two signals of nearly the same length.

    Raises:
        DataError: the lengths differ by more than 25 ms and by more than 1 % of the longer one.
        AudioError: the common length is below 2,048 samples.
    """
    difference, longest = abs(reference - synthesised), max(reference, synthesised)
    if difference > max(LENGTH_TOLERANCE_SECONDS * sample_rate, LENGTH_TOLERANCE_SHARE * longest):
        raise DataError(
            f"reference has {reference} samples and synthesised {synthesised}, more than 25 ms and 1 % apart; "
            "compare recordings of the same utterance, unpadded"
        )
    common = min(reference, synthesised)
    if common < MIN_SAMPLES:
        raise AudioError(f"only {common} samples in common, the metrics need {MIN_SAMPLES}; leave this pair out")
    return common


def _prepare(waveform: Tensor, role: str) -> Tensor:
    if waveform.ndim != 1 or not waveform.is_floating_point():
        raise AudioError(
            f"{role}: expected a floating-point waveform (N,), got {waveform.dtype} {tuple(waveform.shape)}; "
            "pass one mono signal with full scale 1"
        )
    if not waveform.isfinite().all():
        raise AudioError(f"{role}: holds NaN or infinite samples; repair the signal")
    return waveform.detach().to("cpu", torch.float32)


def evaluate_pair(
    reference: Tensor, synthesised: Tensor, sample_rate: int, metrics: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Compare a synthesised signal with its reference.

    >>> reference = 0.1 * torch.randn(22_050, generator=torch.Generator().manual_seed(0))
    >>> evaluate_pair(reference, reference, 22_050, ["mr_stft", "log_mel_l1"])
    {'mr_stft': 0.0, 'log_mel_l1': 0.0}

    Args:
        reference: waveform (N,), floating point, full scale 1.
        synthesised: waveform (M,); the first min(N, M) samples of both are compared.
        sample_rate: of both [Hz].
        metrics: names from `METRICS`; None means all that are installed.

    Returns:
        The figure of each metric by name, None where it is not defined (no silence, no voiced frame, or, where
        `metrics` is None, a sample rate that is too low for it).

    Raises:
        AudioError: a signal is not a finite waveform of at least 2,048 samples, or its sample rate is too low for
            a metric named in `metrics`.
        DataError: the lengths differ by more than 25 ms and more than 1 %.
        ConfigError: an unknown metric.
        MissingExtraError: a metric named in `metrics` needs the `eval` extra.
    """
    names, _ = select_metrics(metrics)
    reference, synthesised = _prepare(reference, "reference"), _prepare(synthesised, "synthesised")
    common = check_lengths(len(reference), len(synthesised), sample_rate)
    reference, synthesised = reference[:common], synthesised[:common]
    undefined = () if metrics is not None else [name for name in names if sample_rate < METRICS[name].lowest_rate]
    return {
        name: None if name in undefined else METRICS[name].function(reference, synthesised, sample_rate)
        for name in names
    }


def evaluate_signal(
    waveform: Tensor, sample_rate: int, metrics: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Score one signal without a reference.

    Args:
        waveform: (N,), floating point, full scale 1.
        sample_rate: [Hz].
        metrics: names from `METRICS` of metrics with `alone`; None means all of those that are installed.

    Returns:
        The figure of each metric by name, None where it is not defined.

    Raises:
        AudioError: the signal is not a finite waveform of at least 2,048 samples.
        ConfigError: an unknown metric, or one that needs a reference.
        MissingExtraError: a metric named in `metrics` needs the `eval` extra.
    """
    names, _ = select_metrics(metrics, alone=True)
    waveform = _prepare(waveform, "waveform")
    check_lengths(len(waveform), len(waveform), sample_rate)
    return {name: METRICS[name].function(waveform, waveform, sample_rate) for name in names}


@dataclass(frozen=True)
class Summary:
    """One metric over many utterances.

    Attributes:
        count: utterances with a figure.
        mean: None where there is no figure at all.
        standard_deviation: of the utterances, with count - 1; None below two figures.
        interval95: (low, high), the 95 % confidence interval of the mean (Student's t); None below two figures.
    """

    count: int
    mean: float | None
    standard_deviation: float | None
    interval95: tuple[float, float] | None


def summarise(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Summary]:
    """Mean, spread and confidence of every metric over `rows`, the dictionaries of `evaluate_pair`."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _summarise([value for row in rows if (value := row.get(name)) is not None]) for name in names}


def _summarise(values: list[float]) -> Summary:
    from scipy.stats import t as student

    count = len(values)
    if count == 0:
        return Summary(0, None, None, None)
    mean = math.fsum(values) / count
    if count == 1:
        return Summary(1, mean, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(student.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return Summary(count, mean, deviation, (mean - half, mean + half))
