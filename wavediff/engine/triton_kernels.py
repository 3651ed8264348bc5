"""A residual layer of `DiffWave` as one Triton kernel: what it computes between stream and stream stays on the chip.

Imported only where Triton is at hand.
"""

import functools
import math
from typing import Any

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from wavediff.backbones.diffwave_inputs import SQRT_HALF

SCALE = tl.constexpr(SQRT_HALF)  # kernels see no other globals


@triton.jit(do_not_specialize=["length", "dilation"])  # type: ignore[untyped-decorator]
def residual_layer(
    stream: tl.tensor,
    after: tl.tensor,
    skips: tl.tensor,
    mel: tl.tensor,
    taps: tl.tensor,
    mel_weight: tl.tensor,
    bias: tl.tensor,
    output: tl.tensor,
    output_bias: tl.tensor,
    length: tl.tensor,
    dilation: tl.tensor,
    WIDTH: tl.constexpr,
    BANDS: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    MEL_CHUNK: tl.constexpr,
) -> None:
    """One layer, figure 2 (a), for TILE positions of one item; N positions an item, W channels, all contiguous.

    The step is not added to the stream here. The convolution is linear, so what it makes of the step is a constant for
    each tap, which is in `bias`; only where a tap reaches beyond the signal, where the padding is, is it left out.

    Args:
        stream: x, (B, N, W); it and the weights are of the type that products are computed in.
        after: the new stream, (B, N, W).
        skips: the sum of skips so far (B, N, W), float32, added to.
        mel: (B, N, BANDS), not read if BANDS is 0.
        taps: (3, W, 2W), gate and value.
        mel_weight: (BANDS, 2W)
        bias: (B, 3, 2W), float32: what each tap makes of the step; the middle one holds the biases too.
        output: (W, 2W), residual and skip.
        output_bias: (B, 2W), float32: the step too, where it stays in the stream.
        length: N.
        dilation: positions between two taps.
        WIDTH: W, a power of two.
        BANDS: a multiple of MEL_CHUNK.
        PRECISION: of products of float32: "ieee", "tf32" or "tf32x3".
        TILE: positions of a program.
        CHUNK, MEL_CHUNK: channels and bands of a matrix product.
    """
    tiles = tl.cdiv(length, TILE)
    item = (tl.program_id(0) // tiles).to(tl.int64)  # an offset may exceed 32 bits
    start = tl.program_id(0) % tiles * TILE
    rows, channels = tl.arange(0, TILE), tl.arange(0, WIDTH)
    first = item * length + start
    tile = rows[:, None] * WIDTH + channels[None, :]

    gate = tl.zeros((TILE, WIDTH), tl.float32)
    value = tl.zeros((TILE, WIDTH), tl.float32)
    for tap in tl.static_range(3):
        position = start + rows + (tap - 1) * dilation
        inside = ((position >= 0) & (position < length))[:, None]
        constant = bias + (item * 3 + tap) * 2 * WIDTH + channels
        gate += tl.where(inside, tl.load(constant)[None, :], 0.0)
        value += tl.where(inside, tl.load(constant + WIDTH)[None, :], 0.0)

    part = tl.arange(0, CHUNK)
    for step in range(3 * WIDTH // CHUNK):
        shift = (step // (WIDTH // CHUNK) - 1) * dilation
        column = step % (WIDTH // CHUNK) * CHUNK
        position = start + rows + shift
        inside = ((position >= 0) & (position < length))[:, None]
        source = stream + (first + shift) * WIDTH + column
        x = tl.load(source + rows[:, None] * WIDTH + part[None, :], mask=inside, other=0.0)
        weight = taps + (step * CHUNK + part[:, None]) * 2 * WIDTH + channels[None, :]
        gate = tl.dot(x, tl.load(weight), gate, input_precision=PRECISION)
        value = tl.dot(x, tl.load(weight + WIDTH), value, input_precision=PRECISION)

    inside = (start + rows < length)[:, None]
    if BANDS > 0:
        part_bands = tl.arange(0, MEL_CHUNK)
        for step in range(BANDS // MEL_CHUNK):
            bands = step * MEL_CHUNK + part_bands
            m = tl.load(mel + first * BANDS + rows[:, None] * BANDS + bands[None, :], mask=inside, other=0.0)
            weight = mel_weight + bands[:, None] * 2 * WIDTH + channels[None, :]
            gate = tl.dot(m, tl.load(weight), gate, input_precision=PRECISION)
            value = tl.dot(m, tl.load(weight + WIDTH), value, input_precision=PRECISION)

    # tanh(b) = 2 sigmoid(2 b) - 1
    gated = (tl.sigmoid(gate) * (2 * tl.sigmoid(2 * value) - 1)).to(output.dtype.element_ty)

    weight = output + channels[:, None] * 2 * WIDTH + channels[None, :]
    constant = output_bias + item * 2 * WIDTH + channels
    residual = tl.dot(gated, tl.load(weight), input_precision=PRECISION) + tl.load(constant)[None, :]
    x = tl.load(stream + first * WIDTH + tile, mask=inside, other=0.0).to(tl.float32)
    new = ((x + residual) * SCALE).to(after.dtype.element_ty)
    tl.store(after + first * WIDTH + tile, new, mask=inside)

    skip = tl.dot(gated, tl.load(weight + WIDTH), input_precision=PRECISION) + tl.load(constant + WIDTH)[None, :]
    total = tl.load(skips + first * WIDTH + tile, mask=inside, other=0.0) + skip
    tl.store(skips + first * WIDTH + tile, total, mask=inside)


def configs(width: int, bands: int, kind: str) -> list[triton.Config]:
    """Tiles worth trying on a GPU with the shared memory of an H100, 227 KiB a block; one for the interpreter.

    Args:
        width: W.
        bands: BANDS.
        kind: of products: "half" or a PRECISION.
    """
    shapes = {  # TILE, CHUNK, warps, stages
        "half": [(64, 64, 4, 3), (64, 64, 8, 3), (128, 64, 8, 3), (128, 32, 8, 4)],
        # Without tensor cores registers are what is short.
        "ieee": [(32, 16, 4, 2), (32, 16, 8, 2), (64, 16, 8, 2)] if width <= 64 else [(16, 16, 4, 2), (32, 16, 8, 2)],
    }
    chosen = shapes.get(kind, [(64, 32, 4, 2), (64, 32, 8, 3), (128, 32, 8, 2)])
    if triton.knobs.runtime.interpret:
        chosen = [(64, 16, 4, 1)]
    found = []
    for tile, chunk, warps, stages in chosen:
        chunk = min(chunk, width)
        sizes = {"TILE": tile, "CHUNK": chunk, "MEL_CHUNK": math.gcd(chunk, bands)}
        found.append(triton.Config(sizes, num_warps=warps, num_stages=stages))
    return found


@functools.cache
def tuned(width: int, bands: int, kind: str, busy: bool) -> Any:
    """The kernel that picks the fastest tiles at its first launch.

    Args:
        width, bands, kind: as `configs` takes them.
        busy: whether there is enough to do for the whole GPU; short signals want other tiles than long ones.
    """
    tune = triton.autotune(configs(width, bands, kind), key=[], restore_value=["skips"])  # it adds to these
    return tune(residual_layer)
