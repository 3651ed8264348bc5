"""The one door for signals that are measured: mono, finite, float32, on the CPU, of one length."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from wavediff.arguments import Values, as_waveform, check_sample_rate
from wavediff.errors import AudioError, DataError

# Vocoders return frames * hop_length samples, so a pair may differ by a hop: 25 ms is longer than any dialect's.
LENGTH_TOLERANCE_SECONDS = 0.025
LENGTH_TOLERANCE_SHARE = 0.01
MIN_SAMPLES = 2048  # the longest window of the multi-resolution STFT

Figure = TypeVar("Figure")
PairMetric = Callable[[Values, Values, int], Figure]


def as_signal(waveform: Values, name: str) -> Tensor:
    """A waveform (N,) of floats as float32 on the CPU.

    Raises:
        AudioError: it is not (N,), of integers, empty, NaN or infinite.
    """
    return as_waveform(waveform, name, dimensions=(1,)).detach().to("cpu", torch.float32)


def check_lengths(reference: int, synthesised: int, sample_rate: int) -> int:
    """The common length [samples] of two signals of nearly the same length.

    Raises:
        DataError: the lengths differ by more than 25 ms and by more than 1 % of the longer one.
        AudioError: the common length is below 2,048 samples.
    """
    difference, longest = abs(reference - synthesised), max(reference, synthesised)
    if difference > max(LENGTH_TOLERANCE_SECONDS * sample_rate, LENGTH_TOLERANCE_SHARE * longest):
        raise DataError(
            f"reference, synthesised: have {reference} and {synthesised} samples, more than 25 ms and 1 % apart; "
            "compare recordings of the same utterance, unpadded"
        )
    common = min(reference, synthesised)
    if common < MIN_SAMPLES:
        raise AudioError(
            f"reference, synthesised: only {common} samples in common, the metrics need {MIN_SAMPLES}; "
            "leave this pair out"
        )
    return common


def as_pair(reference: Values, synthesised: Values, sample_rate: int) -> tuple[Tensor, Tensor, int]:
    """Two signals (N,) of the common length, and their sample rate [Hz].

    Raises:
        AudioError: one is no signal, or too short, or the rate is none.
        DataError: their lengths differ too much.
    """
    ours, theirs = as_signal(reference, "reference"), as_signal(synthesised, "synthesised")
    rate = check_sample_rate(sample_rate)
    common = check_lengths(len(ours), len(theirs), rate)
    return ours[:common], theirs[:common], rate


def of_pair(metric: Callable[[Tensor, Tensor, int], Figure]) -> PairMetric[Figure]:
    """A metric that takes its signals through `as_pair`, with its errors."""

    @functools.wraps(metric)
    def measure(reference: Values, synthesised: Values, sample_rate: int) -> Figure:
        return metric(*as_pair(reference, synthesised, sample_rate))

    return measure


def of_synthesised(metric: Callable[[Any, Tensor, int], Figure]) -> PairMetric[Figure]:
    """A metric of the synthesised signal alone; the reference is not looked at."""

    @functools.wraps(metric)
    def measure(reference: Values, synthesised: Values, sample_rate: int) -> Figure:
        return metric(reference, as_signal(synthesised, "synthesised"), check_sample_rate(sample_rate))

    return measure
