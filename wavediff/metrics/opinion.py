"""Models of a listener, from the `eval` extra: STOI, wide-band PESQ and ViSQOL of a pair, DistillMOS and DNSMOS P.808
of one signal.
"""

import contextlib
import functools
import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavediff.audio import resample
from wavediff.errors import require_packages
from wavediff.libraries import OwnDraws
from wavediff.metrics.signals import of_pair, of_synthesised

OPINION_RATE = 16_000  # [Hz], of DistillMOS and DNSMOS
VISQOL_RATE = 48_000  # [Hz], of ViSQOL's audio mode
VISQOL_SECONDS = 1.0  # shorter signals hold too few of ViSQOL's patches


@of_synthesised
def distillmos(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """Mean opinion score predicted from the synthesised signal alone (1 to 5), higher is better.

    The signal is resampled to 16 kHz, so that nothing above 8 kHz is heard. The level has no influence.

    Args:
        reference: unused.
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        MOS; None for digital silence.

    Raises:
        MissingExtraError: distillmos is not installed.

    Source: Stahl and Gamper 2025, Distillation and Pruning for Scalable Self-Supervised Representation-Based
    Speech Quality Assessment (arXiv 2502.05356), as packaged in distillmos 0.9.1.
    """
    network = _distillmos()
    if not synthesised.any():
        return None
    with torch.inference_mode():
        return network(resample(synthesised, sample_rate, OPINION_RATE)[None]).item()


@functools.cache
def _distillmos() -> Any:
    require_packages(["distillmos"], "eval", "the DistillMOS metric")
    from distillmos import ConvTransformerSQAModel

    # The package prints where its weights are, and draws the weights that it then replaces.
    with contextlib.redirect_stdout(io.StringIO()), OwnDraws(), torch.device("cpu"):
        return ConvTransformerSQAModel().eval()


@of_synthesised
def dnsmos(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """DNSMOS P.808: mean opinion score predicted from the synthesised signal alone (1 to 5), higher is better.

    The signal is resampled to 16 kHz, so that nothing above 8 kHz is heard. It is repeated to 9.01 s where it is
    shorter; of a longer one the mean is taken over pieces of that length every second. The level has no influence.

    Args:
        reference: unused.
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        MOS; None for digital silence.

    Raises:
        MissingExtraError: speechmos or onnxruntime is not installed.

    Source: Reddy et al. 2021, DNSMOS: A non-intrusive perceptual objective speech quality metric to evaluate noise
    suppressors (arXiv 2010.15258); the score "p808_mos" of speechmos 0.0.1.1.
    """
    scorer = _dnsmos()
    if not synthesised.any():
        return None
    samples = resample(synthesised, sample_rate, OPINION_RATE)
    samples = samples / samples.abs().max().clamp(min=1)  # the package refuses what is beyond full scale
    return float(scorer(samples.numpy(), OPINION_RATE, False)["p808_mos"])


class _NoScores:
    """In the place of the package's second network, whose scores are not used and take most of the time."""

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.zeros((1, 3))]


@functools.cache
def _dnsmos() -> Any:
    require_packages(["speechmos", "onnxruntime"], "eval", "the DNSMOS metric")
    import onnxruntime
    from speechmos import dnsmos as package

    scorer = package.DNSMOS.__new__(package.DNSMOS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    weights = Path(package.__file__).parent / "dnsmos_models" / "model_v8.onnx"
    scorer.p808_onnx_sess = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    scorer.onnx_sess = _NoScores()
    return scorer


@of_pair
def visqol(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """ViSQOL in audio mode: similarity to the reference as a mean opinion score (1 to 4.73), higher is better.

    The speech mode hears up to 8 kHz only, as PESQ does. The audio mode hears all that the signals hold; both are
    resampled to 48 kHz. Bands above half of `sample_rate` are equally empty in both signals and count as alike, so
    figures at different rates do not compare.

    Args:
        reference: waveform (N,).
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        MOS-LQO; None where a signal is digital silence or shorter than 1 s.

    Raises:
        MissingExtraError: visqol-python is not installed.

    Source: Chinen et al. 2020, ViSQOL v3: An open source production ready objective speech and audio metric
    (arXiv 2004.09584), as packaged in visqol-python 3.8.0.
    """
    judge = _visqol()
    if not reference.any() or not synthesised.any() or len(reference) < VISQOL_SECONDS * sample_rate:
        return None
    ours, theirs = (resample(x, sample_rate, VISQOL_RATE).double().numpy() for x in (reference, synthesised))
    return float(judge.measure_from_arrays(ours, theirs, VISQOL_RATE).moslqo)


@functools.cache
def _visqol() -> Any:
    require_packages(["visqol"], "eval", "the ViSQOL metric")
    from visqol import VisqolApi

    judge = VisqolApi()
    judge.create(mode="audio")
    return judge


PESQ_RATE = 16_000  # [Hz]
# The ITU's code keeps 50 utterances of at least 0.2 s with pauses of at least 0.2 s, and writes past its
# tables at the 51st: 20 s cannot hold so many.
PESQ_SECONDS = 20
PESQ_LOWEST = 1.0


@of_pair
def stoi(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """Short-time objective intelligibility, about 0 to 1, higher is better.

    Computed by pystoi, which resamples to its own 10 kHz.

    Args:
        reference: waveform (N,).
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        The classical (not the extended) STOI; None where the reference holds less than 0.4 s of sound.

    Raises:
        MissingExtraError: pystoi is not installed.

    Source: Taal et al. 2010, A short-time objective intelligibility measure.
    """
    require_packages(["pystoi"], "eval", "the STOI metric")
    import pystoi

    if not reference.any():
        return None
    with warnings.catch_warnings():
        # pystoi warns and returns 1e-5 where it has too few frames: no figure is better than that one.
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(reference.double().numpy(), synthesised.double().numpy(), sample_rate))
        except RuntimeWarning:
            return None


@of_pair
def pesq(reference: Tensor, synthesised: Tensor, sample_rate: int) -> float | None:
    """Wide-band PESQ (MOS-LQO, 1.0 to 4.64), higher is better.

    Both signals are resampled to 16 kHz. Signals longer than 20 s are cut into equal pieces of at most that
    length, and the mean over the pieces is returned.

    Args:
        reference: waveform (N,).
        synthesised: waveform (N,).
        sample_rate: [Hz].

    Returns:
        MOS-LQO, 1.0 for digital silence in place of sound; None where the reference holds no speech or is shorter
        than 0.25 s.

    Raises:
        MissingExtraError: pesq is not installed.

    Source: ITU-T P.862.2 (2007), as packaged in pesq 0.0.4.
    """
    require_packages(["pesq"], "eval", "the PESQ metric")
    import pesq as itu

    ours = resample(reference, sample_rate, PESQ_RATE)
    theirs = resample(synthesised, sample_rate, PESQ_RATE)
    pieces = math.ceil(len(ours) / (PESQ_SECONDS * PESQ_RATE))
    scores = []
    for one, other in zip(torch.tensor_split(ours, pieces), torch.tensor_split(theirs, pieces), strict=True):
        # The ITU's code divides by the level it finds.
        if not one.any():
            continue
        if not other.any():
            scores.append(PESQ_LOWEST)
            continue
        try:
            scores.append(float(itu.pesq(PESQ_RATE, one.numpy(), other.numpy(), "wb")))
        except (itu.NoUtterancesError, itu.BufferTooShortError):
            continue
    return sum(scores) / len(scores) if scores else None
