"""All metrics of one pair of signals, and what many pairs say together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wavediff.arguments import Values
from wavediff.audio.resampling import check_sample_rate
from wavediff.errors import AudioError
from wavediff.metrics.registry import METRICS, select_metrics
from wavediff.metrics.signals import MIN_SAMPLES, as_pair, as_signal


def evaluate_pair(
    reference: Values, synthesised: Values, sample_rate: int, metrics: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Compare a synthesised signal with its reference.

    >>> import torch
    >>> reference = 0.1 * torch.randn(22_050, generator=torch.Generator().manual_seed(0))
    >>> evaluate_pair(reference, reference, 22_050, ["mr_stft", "log_mel_l1"])
    {'mr_stft': 0.0, 'log_mel_l1': 0.0}

    Args:
        reference: waveform (N,), a tensor, array or list of floats, full scale 1.
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
    reference, synthesised, sample_rate = as_pair(reference, synthesised, sample_rate)
    undefined = () if metrics is not None else [name for name in names if sample_rate < METRICS[name].lowest_rate]
    return {
        name: None if name in undefined else METRICS[name].function(reference, synthesised, sample_rate)
        for name in names
    }


def evaluate_signal(
    waveform: Values, sample_rate: int, metrics: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Score one signal without a reference.

    Args:
        waveform: (N,), a tensor, array or list of floats, full scale 1.
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
    signal, rate = as_signal(waveform, "waveform"), check_sample_rate(sample_rate)
    if len(signal) < MIN_SAMPLES:
        raise AudioError(f"waveform: holds {len(signal)} samples, the metrics need {MIN_SAMPLES}; leave it out")
    return {name: METRICS[name].function(signal, signal, rate) for name in names}


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
