"""`FrameSTFT` on signals that arrive in pieces: every result is that of the whole signal, as soon as it is settled."""

import torch
from torch import Tensor

from wavediff.mel.lines import Context, DelayLine, Ends, Window, positions, settled
from wavediff.mel.phases import STEP_BACK, Harmonics, with_magnitude
from wavediff.mel.stft import FrameSTFT, overlap_weight


def analysis_look_ahead(stft: FrameSTFT) -> int:
    """Frames of samples beyond its own that a spectrum needs."""
    return -(-(stft.n_fft - stft.before) // stft.hop_length) - 1


def synthesis_look_ahead(stft: FrameSTFT) -> int:
    """Spectra beyond its own frame that a frame of samples needs."""
    return -(-stft.before // stft.hop_length)


def phase_look_ahead(stft: FrameSTFT) -> int:
    """Spectra beyond its own that an iteration of `find_phase` needs."""
    return stft.overlap - 1


class Analysis:
    """Samples (B, n * hop_length) -> spectra (B, m, bins)."""

    def __init__(self, stft: FrameSTFT, ends: Ends | None = None) -> None:
        self.stft, hop = stft, stft.hop_length
        self._context = Context(stft.before, stft.n_fft - hop - stft.before, ends=ends, frame=hop, unit=hop)

    def push(self, samples: Tensor | None, last: bool) -> Tensor | None:
        """Spectra of the frames whose samples are all known; beyond both ends lie zeros."""
        window = self._context.push(samples, last)
        return None if window is None else self.stft.spectra(window)


class OverlapAdd:
    """Spectra (B, n, bins) -> samples from the first sample of the first window on, as many as no later frame changes.

    The least squares signal of `FrameSTFT.synthesis`, but not cut where its first frame is centred. Frames are added
    in the same order whatever the pieces are, so that pieces change no bit: Griffin-Lim would make much of little.
    """

    STATE = ("_kept", "_known")

    def __init__(self, stft: FrameSTFT, ends: Ends | None = None) -> None:
        self.stft, self.ends = stft, ends
        self._kept: Tensor | None = None  # (B, overlap - 1, n_fft) windowed frames that reach into samples to come
        self._known = 0  # how many of them there are; those before the first frame are zeros
        self._frames = 0
        start = (stft.overlap - 1) * stft.hop_length
        self._head, self._steady, self._tail = stft.weight(stft.overlap).tensor_split(
            [start, start + stft.hop_length], dim=1
        )

    def push(self, spectra: Tensor | None, last: bool) -> Tensor | None:
        """(B, n * hop_length), and with the last frames n_fft - hop_length more."""
        if spectra is None and (self._kept is None or not last):
            return None
        stft, hop, known, count = self.stft, self.stft.hop_length, self._known, positions(spectra)
        first, self._frames = self._frames - known, self._frames + count
        self._known = min(known + count, stft.overlap - 1)
        signal = settled(self._with_kept(spectra, last), hop)
        whole = self.ends is None or self.ends.mask(first, known + count) is None
        if known == stft.overlap - 1 and whole and not last:
            return signal.mul_(self._steady).flatten(1)
        signal = signal.flatten(1)[:, : count * hop + (stft.n_fft - hop if last else 0)]
        if whole and last and known == 0:
            return signal * stft.weight(count)
        return signal * self._weight(first, known + count)[:, known * hop :][:, : signal.shape[1]]

    def _with_kept(self, spectra: Tensor | None, last: bool) -> Tensor:
        """The windowed frames behind those that were kept, and at the end before as many zeros."""
        kept, reach, count = self._kept, self.stft.overlap - 1, positions(spectra)
        items = len(kept if spectra is None else spectra)  # type: ignore[arg-type]
        frames = self.stft.window.new_empty(items, reach + count + (reach if last else 0), self.stft.n_fft)
        frames[:, :reach] = 0 if kept is None else kept
        frames[:, reach + count :] = 0
        if spectra is not None:
            added = self.stft.frames(spectra, out=frames[:, reach : reach + count])
            if self.ends is not None:
                added.copy_(self.ends.clear(added, self._frames - count))
        self._kept = None if last else frames[:, count : reach + count].clone()
        return frames

    def _weight(self, first: int, count: int) -> Tensor:
        """One over what the squared windows of frames `first` ... sum to, (1 or B, samples)."""
        masked = self.ends is not None and self.ends.mask(first, count) is not None
        if not masked and count >= self.stft.overlap:
            steady = self._steady.expand(count - self.stft.overlap + 1, -1).reshape(1, -1)
            return torch.cat([self._head, steady, self._tail], 1)
        squared, hop = self.stft.window.square().expand(1, count, -1), self.stft.hop_length
        if self.ends is None or not masked:
            return overlap_weight(squared, hop)
        ends, each = self.ends, squared.expand(len(self.ends.lengths), -1, -1)
        key = (self.stft.n_fft, hop, first, count)
        return ends.once(key, lambda: overlap_weight(ends.clear(each, first), hop))


class Synthesis:
    """Spectra (B, n, bins) -> samples (B, m * hop_length)."""

    STATE = ("_skip", "_owed")

    def __init__(self, stft: FrameSTFT, ends: Ends | None = None) -> None:
        self.stft, self._overlap_add = stft, OverlapAdd(stft, ends)
        self._line = DelayLine()
        self._skip, self._owed = stft.before, 0  # samples to leave out, frames whose samples are to come

    def push(self, spectra: Tensor | None, last: bool) -> Tensor | None:
        """The samples that are settled, in whole frames."""
        hop = self.stft.hop_length
        self._owed += positions(spectra)
        self._line.push(self._overlap_add.push(spectra, last))
        if self._skip:  # what lies before the first sample
            skipped = min(self._skip, self._line.held)
            self._skip -= skipped
            if skipped:
                self._line.take(skipped)
        ready = self._owed if last else self._line.held // hop
        self._owed -= ready
        return self._line.take(ready * hop) if ready > 0 else None


class PhaseStep:
    """One iteration of `find_phase`: spectra of the magnitude wanted -> the same with a more consistent phase.

    From spectrum to spectrum without cutting the samples between into frames, which would delay them by one more.

    Args:
        stft: of the spectra.
        magnitudes: wanted, of all frames from that of `given` on; those of its first bins, at a lower rate.
        first: whether no iteration was before it.
        ends: of the items.

    Attributes:
        harmonics: what gives the magnitudes finer structure in this iteration; None to keep them.
        finer: where it puts them, for the iterations after it.
        given: frames of `magnitudes` that are done.
    """

    STATE = ("_kept", "_blank", "_owed", "given")

    def __init__(self, stft: FrameSTFT, magnitudes: Window, first: bool, ends: Ends | None = None) -> None:
        self.stft, self.magnitudes, self.first, self.ends = stft, magnitudes, first, ends
        self.harmonics: Harmonics | None = None
        self.finer: Window | None = None
        self._overlap_add, self._before = OverlapAdd(stft, ends), DelayLine()
        self._kept: Tensor | None = None
        self._blank = self._owed = stft.before  # samples before the signal, and up to the end of what has arrived
        self._samples = self.given = 0

    def push(self, spectra: Tensor | None, previous: Tensor | None, last: bool) -> tuple[Tensor | None, Tensor | None]:
        """Pieces (B, n, bins) and (B, n * hop_length) -> the same two, for the next iteration.

        Args:
            spectra: of this iteration.
            previous: the signal of the last iteration, from the first sample of the first window on; None in the first.
            last: whether the signal ends here.

        Returns:
            Spectra of the frames that are settled, and this iteration's signal.
        """
        stft, hop = self.stft, self.stft.hop_length
        self._before.push(previous)
        self._owed += positions(spectra) * hop
        signal = self._overlap_add.push(spectra, last)
        if signal is None:
            return None, None
        signal = self._inside(signal, last)
        step = signal if self.first else torch.sub(signal, self._before.take(signal.shape[1]), alpha=STEP_BACK)
        joined = step if self._kept is None else torch.cat([self._kept, step], 1)
        count = max((joined.shape[1] - stft.n_fft) // hop + 1, 0)
        self._kept = None if last else joined[:, count * hop :].clone()
        if count == 0:
            return None, signal
        first, self.given = self.given, self.given + count
        spectra = stft.spectra(joined)
        wanted = self.magnitudes.look(first, count)[..., : spectra.shape[2]]
        if self.harmonics is not None and self.finer is not None:
            wanted = self.harmonics(wanted, spectra, stft)
            self.finer.push(wanted)
        return with_magnitude(spectra, wanted, out=spectra), signal

    def _inside(self, samples: Tensor, last: bool) -> Tensor:
        """Zeros where the windows of the outermost frames reach beyond the signal."""
        if self._blank:
            samples[:, : self._blank] = 0
        if last:
            samples[:, max(self._owed, 0) :] = 0
        if self.ends is not None:
            samples = self.ends.clear(samples, self._samples, self.stft.hop_length, self.stft.before)
        self._blank, self._owed = max(self._blank - samples.shape[1], 0), self._owed - samples.shape[1]
        self._samples += samples.shape[1]
        return samples
