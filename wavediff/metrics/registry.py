"""Every metric by name, with its unit and direction."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from wavediff.arguments import as_list, shown
from wavediff.errors import ConfigError, MissingExtraError, did_you_mean
from wavediff.metrics.high_band import LOWEST_RATE, high_band_unvoiced, high_band_voiced
from wavediff.metrics.level import clipped, dc_offset, noise_floor, peak
from wavediff.metrics.opinion import distillmos, dnsmos, visqol
from wavediff.metrics.perceptual import pesq, stoi
from wavediff.metrics.pitch import f0_rmse, voicing_error
from wavediff.metrics.signals import PairMetric
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
            raise MissingExtraError(missing[name], "eval", f"the metric {name}")
    return tuple(dict.fromkeys(names)), {}
