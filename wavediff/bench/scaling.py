"""One vocoder's speed: how it grows with length and batch, what its stream costs, how near it is to the machine."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wavediff.backbones import Condition
from wavediff.bench.machine import copy_rate, launches, operations, peak_memory, spread
from wavediff.engine.precision import gemm_rate, timed
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
    peak = peak_memory(lambda: vocoder.decode(mel), vocoder.device)
    seconds = [timed(lambda: vocoder.decode(mel), vocoder.device) for _ in range(repeats)]
    return {
        **spread(seconds, samples / vocoder.sample_rate),
        "launches": launches(lambda: vocoder.decode(mel), vocoder.device),
        "peak_bytes_besides_speech": None if peak is None else max(peak - 4 * samples, 0),
    }


def _latency(vocoder: Vocoder, repeats: int) -> dict[str, Any]:
    frames = round(10 * vocoder.sample_rate / vocoder.hop_length)
    mel = example_mel(vocoder, frames)
    rows: dict[str, Any] = {}
    for name, low, size in (("gathered", False, 16), ("low latency", True, 8)):
        chunks = mel.split(size, -1)

        def first(chunks: Sequence[Tensor] = chunks, low: bool = low) -> Tensor:
            return next(vocoder.stream(chunks, low_latency=low))

        first()
        seconds = [timed(first, vocoder.device) for _ in range(repeats)]
        rows[name] = {
            "compute_seconds_to_first_chunk": statistics.median(seconds),
            "late_milliseconds": vocoder.delay(low_latency=low),
        }
    return rows


def _streams(vocoder: Vocoder, count: int, repeats: int) -> dict[str, Any]:
    """Streams that began one after another, pushed as one batch, and one of them alone, in turn."""
    frames, seconds = example_mel(vocoder, PUSHED), PUSHED * vocoder.hop_length / vocoder.sample_rate
    together, alone = StreamPool(vocoder), StreamPool(vocoder)
    one, streams = alone.open(), list[int]()
    for _ in range(count):
        streams.append(together.open())
        together.push(dict.fromkeys(streams, frames))
    for _ in range(math.ceil(vocoder.delay(low_latency=True) / 1000 / seconds) + 2):  # all are under way
        together.push(dict.fromkeys(streams, frames))
        alone.push({one: frames})
    pairs = [
        (
            timed(lambda: together.push(dict.fromkeys(streams, frames)), vocoder.device),
            timed(lambda: alone.push({one: frames}), vocoder.device),
        )
        for _ in range(repeats)
    ]
    row = dict(
        zip(("seconds_together", "seconds_alone"), map(statistics.median, zip(*pairs, strict=True)), strict=True)
    )
    return {"streams": count, "audio_seconds": seconds, **row}


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
        pairs = [
            (timed(lambda: fast.predict(x_t, t), vocoder.device), timed(lambda: vocoder.decode(mel), vocoder.device))
            for _ in range(6)
        ][1:]
    network, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
    rate = gemm_rate(vocoder.device)
    return {
        "operations_per_audio_second": work * evaluations / seconds,
        "gemm_rate": rate,
        "copy_rate": copy_rate(vocoder.device),
        "share_of_gemm_rate_network": work / network / rate,
        "share_of_gemm_rate_whole": work * evaluations / whole / rate,
    }
