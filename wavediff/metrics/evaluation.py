"""Every metric by name, all of them of one pair of signals, and what many pairs say together."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wavediff.arguments import Values, as_list, check_sample_rate, shown
from wavediff.errors import AudioError, ConfigError, did_you_mean, require_packages
from wavediff.metrics.level import (
    LOWEST_RATE,
    clipped,
    dc_offset,
    high_band_unvoiced,
    high_band_voiced,
    noise_floor,
    peak,
)
from wavediff.metrics.opinion import distillmos, dnsmos, pesq, stoi, visqol
from wavediff.metrics.pitch import f0_rmse, voicing_error
from wavediff.metrics.signals import MIN_SAMPLES, PairMetric, as_pair, as_signal
from wavediff.metrics.spectra import log_mel_l1, mcd, mr_stft


@dataclass(frozen=True)
class Metric:
    """One figure of a pair of signals.

    Attributes:
        function: (reference (N,), synthesised (N,), sample_rate) -> figure, None where it is not defined.
        unit: as printed; empty for a number without unit.
        higher_is_better: None where neither end is good.
        description: one line.
        package: what the `eval` extra must have brought; None where nothing is needed.
        alone: whether the synthesised signal alone decides, so that one signal can be scored without a reference.
        lowest_rate: the sample rate [Hz] below which the metric is not defined.
    """

    function: PairMetric[float | None]
    unit: str
    higher_is_better: bool | None
    description: str
    package: str | None = None
    alone: bool = False
    lowest_rate: int = 0


METRICS: dict[str, Metric] = {
    "log_mel_l1": Metric(log_mel_l1, "nat", False, "mean difference of hifigan log-mels"),
    "mr_stft": Metric(mr_stft, "", False, "multi-resolution STFT distance"),
    "mcd": Metric(mcd, "dB", False, "mel cepstral distortion, 13 cepstra, time-warped"),
    "f0_rmse": Metric(f0_rmse, "cents", False, "F0 error where both are voiced"),
    "voicing_error": Metric(voicing_error, "%", False, "frames with the wrong voicing decision"),
    "stoi": Metric(stoi, "", True, "short-time objective intelligibility", "pystoi"),
    "pesq": Metric(pesq, "MOS", True, "wide-band PESQ at 16 kHz", "pesq"),
    "visqol": Metric(visqol, "MOS", True, "ViSQOL in audio mode at 48 kHz", "visqol"),
    "distillmos": Metric(distillmos, "MOS", True, "DistillMOS at 16 kHz, without reference", "distillmos", alone=True),
    "dnsmos": Metric(dnsmos, "MOS", True, "DNSMOS P.808 at 16 kHz, without reference", "speechmos", alone=True),
    "high_band_voiced": Metric(
        high_band_voiced, "dB", None, "error above 8 kHz in voiced frames, best 0", lowest_rate=LOWEST_RATE
    ),
    "high_band_unvoiced": Metric(
        high_band_unvoiced, "dB", None, "error above 8 kHz in unvoiced frames, best 0", lowest_rate=LOWEST_RATE
    ),
    "noise_floor": Metric(noise_floor, "dBFS", False, "level where the reference is silent"),
    "dc_offset": Metric(dc_offset, "", False, "mean of the synthesised signal, full scale 1", alone=True),
    "peak": Metric(peak, "", None, "largest synthesised sample, full scale 1", alone=True),
    "clipped": Metric(clipped, "samples", False, "synthesised samples at full scale", alone=True),
}


def select_metrics(
    names: Sequence[str] | None = None, *, alone: bool = False
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The metrics to compute, and those left out with the package each lacks.

    Args:
        names: what was asked for, in order; None means every metric that can run here.
        alone: whether there is no reference, so that only metrics of one signal can be chosen.

    Raises:
        ConfigError: a name is unknown or needs a reference that is not there, or the list is empty.
        MissingExtraError: a metric in `names` needs the `eval` extra. With None it is left out instead.
    """
    known = {name: metric for name, metric in METRICS.items() if metric.alone or not alone}
    missing = {
        name: metric.package
        for name, metric in known.items()
        if metric.package is not None and importlib.util.find_spec(metric.package) is None
    }
    if names is None:
        return tuple(name for name in known if name not in missing), missing
    given = as_list(names)
    if given is None:
        raise ConfigError(f"metrics: {shown(names)} is no list of names; choose from {', '.join(METRICS)}")
    names = [str(name) for name in given]
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        meant = did_you_mean(unknown[0], METRICS) if unknown else ""
        raise ConfigError(f"metrics: {', '.join(unknown) or 'none'} unknown{meant}; choose from {', '.join(METRICS)}")
    paired = [name for name in names if name not in known]
    if paired:
        raise ConfigError(f"metrics: {', '.join(paired)} need a reference; give one, or choose from {', '.join(known)}")
    for name in names:
        if name in missing:
            require_packages([missing[name]], "eval", f"the metric {name}")
    return tuple(dict.fromkeys(names)), {}


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
