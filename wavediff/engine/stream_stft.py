"""`FrameSTFT` on signals that arrive in pieces: every result is that of the whole signal, as soon as it is settled."""

import torch
from torch import Tensor

from wavediff.engine.lines import DelayLine, Ends
from wavediff.mel.griffin_lim import MOMENTUM, with_magnitude
from wavediff.mel.stft import FrameSTFT, overlap_add


def analysis_look_ahead(stft: FrameSTFT) -> int:
    """Frames of samples beyond its own that a spectrum needs."""
    return -(-(stft.n_fft - stft.before) // stft.hop_length) - 1


def synthesis_look_ahead(stft: FrameSTFT) -> int:
    """Spectra beyond its own frame that a frame of samples needs."""
    return -(-stft.before // stft.hop_length)


def phase_look_ahead(stft: FrameSTFT) -> int:
    """Spectra beyond its own that an iteration of `find_phase` needs."""
    return -(-stft.n_fft // stft.hop_length) - 1


class Analysis:
    """Samples (B, n * hop_length) -> spectra (B, m, bins)."""

    def __init__(self, stft: FrameSTFT, ends: Ends | None = None) -> None:
        self.stft, self.ends = stft, ends
        self._kept: Tensor | None = None
        self._samples = 0

    def push(self, samples: Tensor | None, last: bool) -> Tensor | None:
        """Spectra of the frames whose samples are all known; beyond both ends lie zeros."""
        stft = self.stft
        if samples is not None and self.ends is not None:
            samples = self.ends.clear(samples, self._samples, stft.hop_length)
        parts = [part for part in (self._kept, samples) if part is not None]
        if not parts:
            return None
        if self._kept is None:
            parts.insert(0, parts[0].new_zeros(len(parts[0]), stft.before))
        if last:
            parts.append(parts[0].new_zeros(len(parts[0]), stft.n_fft - stft.hop_length - stft.before))
        if samples is not None:
            self._samples += samples.shape[1]
        padded = torch.cat(parts, 1)
        count = (padded.shape[1] - stft.n_fft) // stft.hop_length + 1
        self._kept = padded[:, max(count, 0) * stft.hop_length :].clone()
        return stft.spectra(padded) if count > 0 else None


class OverlapAdd:
    """Spectra (B, n, bins) -> samples from the first sample of the first window on, as many as no later frame changes.

    The least squares signal of `FrameSTFT.synthesis`, but not cut where its first frame is centred. Frames are added
    in the same order whatever the pieces are, so that pieces change no bit: Griffin-Lim would make much of little.
    """

    def __init__(self, stft: FrameSTFT, ends: Ends | None = None) -> None:
        self.stft, self.ends = stft, ends
        self._overlap = -(-stft.n_fft // stft.hop_length)
        self._kept: Tensor | None = None  # windowed frames that reach into samples to come
        self._frames = 0
        steady = self._weight(0, self._overlap)
        start = (self._overlap - 1) * stft.hop_length
        self._steady = steady[:, start : start + stft.hop_length]

    def push(self, spectra: Tensor | None, last: bool) -> Tensor | None:
        """(B, n * hop_length), and with the last frames n_fft - hop_length more."""
        hop = self.stft.hop_length
        kept = 0 if self._kept is None else self._kept.shape[1]
        parts = [] if self._kept is None else [self._kept]
        if spectra is not None:
            frames = self.stft.frames(spectra)
            parts.append(frames if self.ends is None else self.ends.clear(frames, self._frames))
        if not parts or (spectra is None and not last):
            return None
        frames = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        count = frames.shape[1] - kept
        signal = overlap_add(frames, hop)[:, kept * hop :]
        if not last:
            signal = signal[:, : count * hop]
        self._kept = frames[:, max(frames.shape[1] - self._overlap + 1, 0) :].clone()
        first, self._frames = self._frames - kept, self._frames + count
        whole = self.ends is None or self.ends.mask(first, kept + count) is None
        if kept == self._overlap - 1 and whole and not last:
            return (signal.unflatten(1, (count, hop)) * self._steady).flatten(1)
        weight = self._weight(first, kept + count)[:, kept * hop :]
        return signal * weight[:, : signal.shape[1]]

    def _weight(self, first: int, count: int) -> Tensor:
        """One over what the squared windows of frames `first` ... sum to, (1 or B, samples)."""
        squared = self.stft.window.square().expand(1, count, -1)
        if self.ends is not None and self.ends.mask(first, count) is not None:
            squared = self.ends.clear(squared.expand(len(self.ends.lengths), -1, -1), first)
        return overlap_add(squared, self.stft.hop_length).clamp(min=1e-6).reciprocal()


class Synthesis:
    """Spectra (B, n, bins) -> samples (B, m * hop_length)."""

    def __init__(self, stft: FrameSTFT, ends: Ends | None = None) -> None:
        self.stft, self._overlap_add = stft, OverlapAdd(stft, ends)
        self._line = DelayLine()
        self._skip, self._frames, self._given = stft.before, 0, 0

    def push(self, spectra: Tensor | None, last: bool) -> Tensor | None:
        """The samples that are settled, in whole frames."""
        hop = self.stft.hop_length
        self._frames += 0 if spectra is None else spectra.shape[1]
        self._line.push(self._overlap_add.push(spectra, last))
        if self._skip:  # what lies before the first sample
            skipped = min(self._skip, self._line.held)
            self._skip -= skipped
            if skipped:
                self._line.take(skipped)
        ready = self._frames - self._given if last else self._line.held // hop
        self._given += ready
        return self._line.take(ready * hop) if ready > 0 else None


class PhaseStep:
    """One iteration of `find_phase`: spectra of the magnitude wanted -> the same with a more consistent phase.

    From spectrum to spectrum without cutting the samples between into frames, which would delay them by one more.
    """

    def __init__(self, stft: FrameSTFT, first: bool, ends: Ends | None = None) -> None:
        self.stft, self.first, self.ends = stft, first, ends
        self._overlap_add = OverlapAdd(stft, ends)
        self._magnitudes, self._before = DelayLine(), DelayLine()
        self._kept: Tensor | None = None
        self._samples = self._frames = 0

    def push(
        self, spectra: Tensor | None, magnitude: Tensor | None, previous: Tensor | None, last: bool
    ) -> tuple[Tensor, Tensor, Tensor] | tuple[None, None, None]:
        """Pieces (B, n, bins) -> the same three, for the next iteration.

        Args:
            spectra: of this iteration.
            magnitude: wanted of the same frames.
            previous: projection in the last iteration of the same frames; None in the first iteration.
            last: whether the signal ends here.

        Returns:
            Spectra, magnitudes and projections of the frames that are settled.
        """
        stft, hop = self.stft, self.stft.hop_length
        self._magnitudes.push(magnitude)
        self._before.push(previous)
        self._frames += 0 if spectra is None else spectra.shape[1]
        samples = self._overlap_add.push(spectra, last)
        if samples is not None:
            samples = self._inside(samples, last)
            self._samples += samples.shape[1]
        parts = [part for part in (self._kept, samples) if part is not None]
        if not parts:
            return None, None, None
        joined = torch.cat(parts, 1)
        count = max((joined.shape[1] - stft.n_fft) // hop + 1, 0)
        self._kept = joined[:, count * hop :].clone()
        if count == 0:
            return None, None, None
        projected = stft.spectra(joined)
        step, magnitude = projected, self._magnitudes.take(count)
        if not self.first:
            step = torch.sub(projected, self._before.take(count), alpha=MOMENTUM / (1 + MOMENTUM))
        return with_magnitude(step, magnitude), magnitude, projected

    def _inside(self, samples: Tensor, last: bool) -> Tensor:
        """Zeros where the windows of the outermost frames reach beyond the signal."""
        before, hop = self.stft.before, self.stft.hop_length
        if self._samples < before:
            samples[:, : before - self._samples] = 0
        if last:
            samples[:, max(before + self._frames * hop - self._samples, 0) :] = 0
        if self.ends is not None:
            samples = self.ends.clear(samples, self._samples, hop, before)
        return samples
