"""The transform of `FrameSTFT` in forms that can be exported: the same numbers, and nothing kept between two calls.

A spectrum is also given as pairs of real numbers, because a loop of an exported graph carries no complex ones.
"""

import abc
import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.mel import FrameSTFT, MelSpec


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

    def magnitudes(self, frames: Tensor) -> Tensor:
        """As `FrameSTFT.magnitudes`."""
        power = self.pairs_of(F.pad(frames, (0, self.filling))).square().sum(self.axis)
        return power.clamp(min=1e-30).sqrt()

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
        share = torch.full((self.n_fft // 2 + 1,), 2 / self.n_fft)
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
