"""How close synthesised sound is to its reference; every figure is defined in its function's docstring."""

from wavediff.metrics.evaluation import Summary, evaluate_pair, summarise
from wavediff.metrics.files import Matching, check_files, evaluate_files, match_recordings, read_ids
from wavediff.metrics.level import clipped, dc_offset, noise_floor, peak
from wavediff.metrics.perceptual import pesq, stoi
from wavediff.metrics.pitch import f0_rmse, pitch_track, voicing_error
from wavediff.metrics.registry import METRICS, Metric, select_metrics
from wavediff.metrics.spectral import log_mel_l1, mcd, mr_stft

__all__ = [
    "METRICS",
    "Matching",
    "Metric",
    "Summary",
    "check_files",
    "clipped",
    "dc_offset",
    "evaluate_files",
    "evaluate_pair",
    "f0_rmse",
    "log_mel_l1",
    "match_recordings",
    "mcd",
    "mr_stft",
    "noise_floor",
    "peak",
    "pesq",
    "pitch_track",
    "read_ids",
    "select_metrics",
    "stoi",
    "summarise",
    "voicing_error",
]
