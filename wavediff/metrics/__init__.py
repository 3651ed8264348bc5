"""How close synthesised sound is to its reference, and generated sounds to real ones.

Every figure is defined in its function's docstring.
"""

from wavediff.metrics.distribution import (
    frechet_distance,
    kernel_distance,
    nearest_distances,
    overlap,
    pairwise_diversity,
)
from wavediff.metrics.evaluation import (
    METRICS,
    Metric,
    Summary,
    evaluate_pair,
    evaluate_signal,
    select_metrics,
    summarise,
)
from wavediff.metrics.generated import GeneratedReport, evaluate_generated
from wavediff.metrics.level import clipped, dc_offset, high_band_unvoiced, high_band_voiced, noise_floor, peak
from wavediff.metrics.opinion import distillmos, dnsmos, pesq, stoi, visqol
from wavediff.metrics.pitch import f0_rmse, pitch_track, voicing_error
from wavediff.metrics.recordings import (
    Matching,
    check_files,
    evaluate_file,
    evaluate_files,
    find_recordings,
    match_recordings,
    read_ids,
)
from wavediff.metrics.spectra import log_mel_l1, mcd, mr_stft

__all__ = [
    "METRICS",
    "GeneratedReport",
    "Matching",
    "Metric",
    "Summary",
    "check_files",
    "clipped",
    "dc_offset",
    "distillmos",
    "dnsmos",
    "evaluate_file",
    "evaluate_files",
    "evaluate_generated",
    "evaluate_pair",
    "evaluate_signal",
    "f0_rmse",
    "find_recordings",
    "frechet_distance",
    "high_band_unvoiced",
    "high_band_voiced",
    "kernel_distance",
    "log_mel_l1",
    "match_recordings",
    "mcd",
    "mr_stft",
    "nearest_distances",
    "noise_floor",
    "overlap",
    "pairwise_diversity",
    "peak",
    "pesq",
    "pitch_track",
    "read_ids",
    "select_metrics",
    "stoi",
    "summarise",
    "visqol",
    "voicing_error",
]
