"""One vocoder's speed: how it grows with length and batch, what its stream costs, how near it is to the machine."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wavediff.backbones import Condition
from wavediff.bench.machine import Timing, alternate, copy_rate, operations
from wavediff.engine.precision import gemm_rate
from wavediff.pipelines.stream_pool import StreamPool
from wavediff.pipelines.vocoder import Vocoder

PIECE = 64  # frames of a mel of any length are these, repeated
PUSHED = 8  # frames that each of many streams is given at once


def measure(
    vocoder: Vocoder,
    lengths: Sequence[float],
    batches: Sequence[int],
    repeats: int,
    on_turn: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Growth, latency, many streams at once and share of the roofline.

    Args:
        vocoder: on its device.
        lengths: of the speech [s].
        batches: items of five seconds, and streams at once.
        repeats: timed turns each.
        on_turn: called after each row.

    Returns:
        `growth` and `batches`: rows of seconds, rtf, peak memory besides the speech; `latency`: medians of the compute
        before the first chunk [s], and how late the stream is [ms]; `streams`: rows of seconds that a push of all
        together takes, and of one alone; `roofline`: operations, rates and shares.
    """
    rate = vocoder.sample_rate / vocoder.hop_length
    growth = []
    for seconds in lengths:
        mel = example_mel(vocoder, max(8, round(seconds * rate)))
        growth.append({"audio_seconds": seconds, **_row(vocoder, mel[None], repeats if seconds < 60 else 1)})
        on_turn()
    wide = []
    for batch in batches:
        mel = example_mel(vocoder, round(5 * rate)).expand(batch, -1, -1)
        wide.append({"batch": batch, **_row(vocoder, mel, repeats)})
        on_turn()
    return {
        "growth": growth,
        "batches": wide,
        "latency": _latency(vocoder, repeats),
        "streams": [_streams(vocoder, count, repeats) for count in batches],
        "roofline": _roofline(vocoder),
    }


def example_mel(vocoder: Vocoder, frames: int) -> Tensor:
    """(n_mels, frames): noise that fades over and over, so that the values span what speech spans."""
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(PIECE * vocoder.hop_length, generator=generator)
    mel = vocoder.mel(white * 10 ** torch.linspace(-1, -6, len(white)), vocoder.sample_rate)[0, :, :PIECE]
    return mel.repeat(1, -(-frames // PIECE))[:, :frames]


def _row(vocoder: Vocoder, mel: Tensor, repeats: int) -> dict[str, Any]:
    samples = len(mel) * mel.shape[-1] * vocoder.hop_length
    vocoder.decode(mel[..., :PIECE])  # warm
    row = _timed(vocoder, {"decode": lambda: vocoder.decode(mel)}, repeats, samples)["decode"].to_dict()
    peak = row.pop("peak_bytes")
    return row | {"peak_bytes_besides_speech": None if peak is None else max(peak - 4 * samples, 0)}


def _timed(
    vocoder: Vocoder, contenders: Mapping[str, Callable[[], object]], repeats: int, samples: int
) -> dict[str, Timing]:
    timings = alternate(contenders, repeats, samples / vocoder.sample_rate, vocoder.device)
    return {timing.name: timing for timing in timings}


def _latency(vocoder: Vocoder, repeats: int) -> dict[str, Any]:
    mel = example_mel(vocoder, round(10 * vocoder.sample_rate / vocoder.hop_length))

    def first(size: int, low: bool) -> Tensor:
        return next(vocoder.stream(mel.split(size, -1), low_latency=low))

    kinds = {"gathered": (16, False), "low latency": (8, True)}
    contenders = {name: functools.partial(first, *kind) for name, kind in kinds.items()}
    return {
        name: {
            "compute_seconds_to_first_chunk": timing.median,
            "late_milliseconds": vocoder.delay(low_latency=kinds[name][1]),
        }
        for name, timing in _timed(vocoder, contenders, repeats, mel.shape[-1] * vocoder.hop_length).items()
    }


def _streams(vocoder: Vocoder, count: int, repeats: int) -> dict[str, Any]:
    """Streams that began one after another, pushed as one batch, and one of them alone, in turn."""
    frames, samples = example_mel(vocoder, PUSHED), PUSHED * vocoder.hop_length
    seconds = samples / vocoder.sample_rate
    together, alone = StreamPool(vocoder), StreamPool(vocoder)
    one, streams = alone.open(), list[int]()
    for _ in range(count):
        streams.append(together.open())
        together.push(dict.fromkeys(streams, frames))
    contenders: dict[str, Callable[[], object]] = {
        "together": lambda: together.push(dict.fromkeys(streams, frames)),
        "alone": lambda: alone.push({one: frames}),
    }
    for _ in range(math.ceil(vocoder.delay(low_latency=True) / 1000 / seconds) + 2):  # all are under way
        for push in contenders.values():
            push()
    took = {f"seconds_{name}": row.median for name, row in _timed(vocoder, contenders, repeats, samples).items()}
    return {"streams": count, "audio_seconds": seconds, **took}


def _roofline(vocoder: Vocoder) -> dict[str, Any]:
    """Of the network's matrix products and convolutions; transforms and element-wise work count as time alone."""
    frames = round(5 * vocoder.sample_rate / vocoder.hop_length)
    mel = example_mel(vocoder, frames)[None].to(vocoder.device)
    seconds = mel.shape[-1] * vocoder.hop_length / vocoder.sample_rate
    with torch.inference_mode():
        bound = vocoder.denoiser.bind(Condition(mel))
        x_t = torch.randn(1, frames * vocoder.hop_length, device=vocoder.device)
        t = torch.full((1,), 0.1, device=vocoder.device)
        work = operations(lambda: bound.predict(x_t, t))
        evaluations = vocoder.plan().evaluations
        fast = vocoder.bind(mel)
        contenders = {"network": lambda: fast.predict(x_t, t), "whole": lambda: vocoder.decode(mel)}
        took = _timed(vocoder, contenders, 5, x_t.numel())
    network, whole = took["network"].median, took["whole"].median
    rate = gemm_rate(vocoder.device)
    return {
        "operations_per_audio_second": work * evaluations / seconds,
        "gemm_rate": rate,
        "copy_rate": copy_rate(vocoder.device),
        "share_of_gemm_rate_network": work / network / rate,
        "share_of_gemm_rate_whole": work * evaluations / whole / rate,
    }
