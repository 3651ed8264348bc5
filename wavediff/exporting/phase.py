"""Griffin-Lim's iterations as loops of a graph: written out they would make it thirty times as large."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wavediff.exporting.real_stft import PairSTFT
from wavediff.mel import partials
from wavediff.mel.griffin_lim import STEP_BACK, finer_from, iterations_of_rates
from wavediff.mel.harmonics import Harmonics


def find_phase(
    magnitude: Tensor,
    start: Tensor,
    rates: Sequence[PairSTFT],
    n_iter: int,
    harmonics: Harmonics | None = None,
    going_on: bool = False,
) -> Tensor:
    """As `wavediff.mel.griffin_lim.find_phase`, which explains it: in real numbers, in loops that can be exported.

    With `going_on`, the phases of `start` (B, frames * hop_length) are `Partials` first.
    """
    stft, counts = rates[-1], iterations_of_rates(n_iter, len(rates) - 1)
    pairs = stft.pairs(start)
    pairs = _with_magnitude(stft, _followed(stft, pairs, magnitude) if going_on else pairs, magnitude)
    for rate, count in zip(rates, counts, strict=True):
        bins = rate.n_fft // 2 + 1
        found, above = pairs.split([bins, magnitude.shape[2] - bins], stft.bin_axis)
        found = found.contiguous()  # as a loop leaves it
        iteration = _PhaseIteration(rate, magnitude.shape[1])
        # Nothing was before the first: it has no momentum. The exporter wants the very size that the loop leaves.
        previous = torch.zeros_like(iteration.signal(found))
        turn = finer_from(count, len(rates) - 1)
        if harmonics is None or rate is not stft or turn >= count:
            found, _ = iteration.repeated(found, previous, magnitude[..., :bins], count)
        else:
            found, previous = iteration(*iteration.repeated(found, previous, magnitude, turn))
            low = stft.frames_of(found * harmonics.low.unsqueeze(stft.axis))
            finer = harmonics.carried(magnitude, low[..., : stft.n_fft], stft)
            found, _ = iteration.repeated(_with_magnitude(stft, found, finer), previous, finer, count - turn - 1)
        pairs = torch.cat([found, above], stft.bin_axis)
    return iteration.signal(pairs)  # the last rate is the full one


class _PhaseIteration:
    """One of `find_phase`, at one rate."""

    def __init__(self, stft: PairSTFT, frames: int) -> None:
        self.stft, self.gain = stft, stft.gain(frames)

    def signal(self, pairs: Tensor) -> Tensor:
        """Pairs -> (B, frames * hop_length)"""
        return self.stft.added(pairs) * self.gain

    def __call__(self, pairs: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs and the signal of the last iteration -> pairs of any magnitude, and the signal of this one."""
        signal = self.signal(pairs)
        return self.stft.pairs(signal - STEP_BACK * previous), signal

    def repeated(self, pairs: Tensor, previous: Tensor, magnitude: Tensor, times: int) -> tuple[Tensor, Tensor]:
        """So many of them, each put on the magnitude, as one loop of the graph."""

        def goes_on(count: Tensor, pairs: Tensor, previous: Tensor) -> Tensor:
            return count < times

        def iterate(count: Tensor, pairs: Tensor, previous: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            pairs, signal = self(pairs, previous)
            return count + 1, _with_magnitude(self.stft, pairs, magnitude), signal

        if times == 0:
            return pairs, previous
        _, pairs, previous = torch.while_loop(goes_on, iterate, (torch.zeros((), dtype=torch.int64), pairs, previous))
        return pairs, previous


def _with_magnitude(stft: PairSTFT, pairs: Tensor, magnitude: Tensor) -> Tensor:
    # Not a sum with 1e-18: the ONNX exporter takes that for nothing, and 0 / 0 comes of silence.
    power = pairs.square().sum(stft.axis).clamp(min=1e-18)
    return pairs * (magnitude * power.rsqrt()).unsqueeze(stft.axis)


def _followed(stft: PairSTFT, pairs: Tensor, magnitude: Tensor) -> Tensor:
    """As `Partials.push` of all frames."""
    step, _ = partials.advance(magnitude, stft.spec)
    bins = step.owner.shape[2]
    low, above = pairs.split([bins, magnitude.shape[2] - bins], stft.bin_axis)
    real, imaginary = low[:, :1].unbind(stft.axis)
    chain = partials.beginning(step, partials.phase_of(real, imaginary))

    def goes_on(span: Tensor, owner: Tensor, turns: Tensor) -> Tensor:
        return span < owner.shape[1]

    def iterate(span: Tensor, owner: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return span * 2, *partials.joined(partials.Step(owner, turns), span)

    _, _, turns = torch.while_loop(goes_on, iterate, (torch.ones((), dtype=torch.int64), *chain))
    return torch.cat([torch.stack(partials.unit(turns % partials.TURN), stft.axis), above], stft.bin_axis)
