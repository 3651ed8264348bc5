"""The transform of `FrameSTFT` in forms that can be exported: the same numbers, and nothing kept between two calls.

A spectrum is also given as pairs of real numbers, because a loop of an exported graph carries no complex ones. The
iterations that find phases are such loops: written out they would make the graph thirty times as large.
"""

import abc
import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.mel import FrameSTFT, MelSpec, phases
from wavediff.mel.phases import STEP_BACK, Harmonics, finer_from, iterations_of_rates


class PairSTFT(FrameSTFT, abc.ABC):
    """`FrameSTFT`, also between waveform (B, frames * hop_length) and pairs (real, imaginary) of real numbers.

    Args:
        spec: as `FrameSTFT`.

    Raises:
        ConfigError: as `FrameSTFT`.
    """

    axis: int
    """Where the pair is in pairs: -2 for (B, frames, 2, bins), -1 for (B, frames, bins, 2)."""
    bin_axis: int
    """Where the bins are."""
    squared: Tensor

    def __init__(self, spec: MelSpec) -> None:
        super().__init__(spec)
        # Windows are filled up to whole hops, so that frames are cut and added hop by hop, whatever the hop.
        self.filling = self.overlap * self.hop_length - self.n_fft
        self.register_buffer("squared", F.pad(self.window.square(), (0, self.filling)), persistent=False)

    @abc.abstractmethod
    def pairs_of(self, frames: Tensor) -> Tensor:
        """Frames (B, frames, overlap * hop_length) -> pairs of their spectra, windowed."""

    @abc.abstractmethod
    def frames_of(self, pairs: Tensor) -> Tensor:
        """Pairs -> windowed frames (B, frames, overlap * hop_length)."""

    def pairs(self, waveform: Tensor) -> Tensor:
        """Waveform (B, frames * hop_length) -> pairs of its spectrum."""
        return self.pairs_of(self._cut(waveform))

    def added(self, pairs: Tensor) -> Tensor:
        """Pairs -> windowed frames, added where they overlap: (B, frames * hop_length)."""
        return self._add(self.frames_of(pairs))

    def powers(self, frames: Tensor) -> Tensor:
        """As `FrameSTFT.powers`."""
        return self.pairs_of(F.pad(frames, (0, self.filling))).square().sum(self.axis)

    def gain(self, frames: int) -> Tensor:
        """(1, frames * hop_length): what undoes the windows in `added`."""
        squared = self.squared.expand(1, frames, -1)
        return self._add(squared).clamp(min=1e-6).reciprocal()

    def analysis(self, waveform: Tensor) -> Tensor:
        """As `FrameSTFT.analysis`."""
        pairs = self.pairs(waveform)
        return torch.complex(pairs.select(self.axis, 0), pairs.select(self.axis, 1))

    def synthesis(self, spectrum: Tensor) -> Tensor:
        """As `FrameSTFT.synthesis`."""
        pairs = torch.stack([spectrum.real, spectrum.imag], self.axis)
        return self.added(pairs) * self.gain(spectrum.shape[1])

    def _cut(self, waveform: Tensor) -> Tensor:
        """(B, frames * hop_length) -> frames (B, frames, overlap * hop_length)"""
        batch, count = waveform.shape[0], waveform.shape[1] // self.hop_length
        padded = F.pad(waveform, (self.before, (self.overlap - 1) * self.hop_length - self.before))
        hops = padded.reshape(batch, count + self.overlap - 1, self.hop_length)
        return torch.cat([hops[:, index : index + count] for index in range(self.overlap)], 2)

    def _add(self, frames: Tensor) -> Tensor:
        """(B, frames, overlap * hop_length) -> (B, frames * hop_length)"""
        parts = frames.unflatten(2, (self.overlap, self.hop_length)).unbind(2)
        shifted = [F.pad(part, (0, 0, index, self.overlap - 1 - index)) for index, part in enumerate(parts)]
        total = functools.reduce(torch.add, shifted)
        return total.flatten(1)[:, self.before : self.before + frames.shape[1] * self.hop_length]


class FourierSTFT(PairSTFT):
    """By torch's FFT."""

    axis, bin_axis = -1, -2

    def pairs_of(self, frames: Tensor) -> Tensor:
        """(B, frames, overlap * hop_length) -> (B, frames, bins, 2)"""
        return torch.view_as_real(torch.fft.rfft(frames[..., : self.n_fft] * self.window))

    def frames_of(self, pairs: Tensor) -> Tensor:
        """(B, frames, bins, 2) -> (B, frames, overlap * hop_length)"""
        frames = torch.fft.irfft(torch.view_as_complex(pairs), n=self.n_fft) * self.window
        return F.pad(frames, (0, self.filling))


def fourier_matrix(window: Tensor) -> Tensor:
    """What a frame (n_fft,) is multiplied by to be its windowed spectrum, real parts before imaginary ones:
    (n_fft, 2 * bins)."""
    spectra = torch.fft.rfft(torch.diag(window.double()))
    return torch.cat([spectra.real, spectra.imag], 1).float()


class MatrixSTFT(PairSTFT):
    """By products with a matrix, which every runtime has and most have fast: ONNX's own DFT is slower there.

    One matrix, (overlap * hop_length, 2 * bins), serves both directions.
    """

    axis, bin_axis = -2, -1
    matrix: Tensor
    share: Tensor

    def __init__(self, spec: MelSpec) -> None:
        super().__init__(spec)
        matrix = F.pad(fourier_matrix(self.window), (0, 0, 0, self.filling))
        self.register_buffer("matrix", matrix, persistent=False)
        # Of the whole spectrum, the inverse counts each bin twice that has a twin.
        share = torch.full((self.n_fft // 2 + 1,), 2 / self.n_fft, dtype=torch.float32)
        share[0] = share[-1] = 1 / self.n_fft
        self.register_buffer("share", share, persistent=False)

    def pairs_of(self, frames: Tensor) -> Tensor:
        """(B, frames, overlap * hop_length) -> (B, frames, 2, bins)"""
        return (frames @ self.matrix).unflatten(2, (2, self.n_fft // 2 + 1))

    def frames_of(self, pairs: Tensor) -> Tensor:
        """(B, frames, 2, bins) -> (B, frames, overlap * hop_length)"""
        return F.linear((pairs * self.share).flatten(2), self.matrix)


def exchange(module: nn.Module, transform: type[PairSTFT], made: dict[MelSpec, PairSTFT] | None = None) -> None:
    """Put a `transform` in the place of each that `module` or a part of it has; one of a dialect serves all.

    Args:
        module: the model.
        transform: which form they take.
        made: those that there are already.
    """
    made = {} if made is None else made
    for name, part in module.named_children():
        if isinstance(part, FrameSTFT):
            if part.spec not in made:
                made[part.spec] = transform(part.spec)
            setattr(module, name, made[part.spec])
        else:
            exchange(part, transform, made)


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
    step, _ = phases.advance(magnitude, stft.spec)
    bins = step.owner.shape[2]
    low, above = pairs.split([bins, magnitude.shape[2] - bins], stft.bin_axis)
    real, imaginary = low[:, :1].unbind(stft.axis)
    chain = phases.beginning(step, phases.phase_of(real, imaginary))

    def goes_on(span: Tensor, owner: Tensor, turns: Tensor) -> Tensor:
        return span < owner.shape[1]

    def iterate(span: Tensor, owner: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return span * 2, *phases.joined(phases.Step(owner, turns), span)

    _, _, turns = torch.while_loop(goes_on, iterate, (torch.ones((), dtype=torch.int64), *chain))
    return torch.cat([torch.stack(phases.unit(turns % phases.TURN), stft.axis), above], stft.bin_axis)
