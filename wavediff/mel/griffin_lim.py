"""Phases for magnitudes, by Griffin-Lim's method: from a mel alone, from a first phase, or in blocks for streams."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.libraries import OwnDraws, require_torchaudio
from wavediff.mel.lines import DelayLine, Window, settled
from wavediff.mel.phases import STEP_BACK, Harmonics, finer_from, iterations_of_rates, with_magnitude
from wavediff.mel.spec import MelSpec
from wavediff.mel.stft import FrameSTFT, overlap_add, pseudo_inverse
from wavediff.mel.transform import analysis_window

# PESQ gains nothing from more.
_INVERSION_ITERATIONS = 50


def griffin_lim(mel: Tensor, spec: MelSpec, *, n_iter: int = 60, momentum: float = 0.99, seed: int = 0) -> Tensor:
    """Fast Griffin-Lim (Perraudin et al. 2013) on the pseudo-inverse of the mel.

    >>> griffin_lim(torch.full((1, 80, 20), -6.0), MelSpec(), n_iter=2).shape
    torch.Size([1, 5120])

    Runs on the CPU, so that a seed gives the same samples wherever the mel lies.

    Args:
        mel: (B, n_mels, frames) of dialect `spec`.
        spec: The dialect.
        n_iter: Iterations.
        momentum: From 0 (the original method) to below 1.
        seed: Of the random initial phase; every item of the batch starts from the same.

    Returns:
        (B, frames * hop_length)
    """
    require_torchaudio()
    from torchaudio.functional import griffinlim

    hop = spec.hop_length
    # The search centres frame k on sample k * hop. One frame more in front leaves room to cut where the dialect
    # centres its first: on sample 0, or half a hop in. The frames behind make the shortest mel long enough to reflect.
    magnitude = pseudo_inverse(mel.detach().cpu(), spec, iterations=_INVERSION_ITERATIONS)
    magnitude = F.pad(magnitude, (1, 1 + spec.n_fft // (2 * hop)), mode="replicate")
    start = hop if spec.framing == "center" else hop // 2
    items = []
    for item in magnitude:
        with OwnDraws(seed):
            items.append(
                griffinlim(
                    item,
                    window=analysis_window(spec),
                    n_fft=spec.n_fft,
                    hop_length=hop,
                    win_length=spec.win_length,
                    power=1.0,
                    n_iter=n_iter,
                    momentum=momentum,
                    length=None,
                    rand_init=True,
                )
            )
    return torch.stack(items)[:, start : start + mel.shape[-1] * hop].to(mel.device)


@torch.no_grad()
def find_phase(
    magnitude: Tensor,
    start: Tensor,
    rates: Sequence[FrameSTFT],
    n_iter: int,
    harmonics: Harmonics | None = None,
) -> Tensor:
    """A waveform of about this magnitude, found by fast Griffin-Lim from the phase of the spectrum `start`.

    Unlike `griffin_lim` on any device, for a whole batch at once, and an item's result depends on its own start
    alone: a seed that draws the start decides the result.

    A low band changes slowly, so the first iterations may find its phase at a lower sample rate, where each costs less.

    Args:
        magnitude: (B, frames, n_fft // 2 + 1).
        start: (B, frames, n_fft // 2 + 1), complex.
        rates: in whose frames both are given; before it, the lower rates of `wavediff.mel.phases.lower_rates`.
        n_iter: 0 puts the magnitude on the phase of `start`.
        harmonics: what gives the magnitude finer structure on the way.

    Returns:
        (B, frames * hop_length)

    Source: Perraudin et al. 2013, A fast Griffin-Lim algorithm, algorithm 2.
    """
    spectrum = with_magnitude(start, magnitude)
    octaves, stft = len(rates) - 1, rates[-1]
    counts = iterations_of_rates(n_iter, octaves)
    turn = finer_from(counts[-1], octaves)
    for rate, count in zip(rates, counts, strict=True):
        bins = rate.n_fft // 2 + 1
        found, wanted, previous = spectrum[..., :bins], magnitude[..., :bins], None
        for index in range(count):
            signal = rate.synthesis(found)
            step = signal if previous is None else torch.sub(signal, previous, alpha=STEP_BACK)
            previous, found = signal, rate.analysis(step)
            if harmonics is not None and rate is stft and index == turn:
                wanted = harmonics(wanted, found, stft)
            found = with_magnitude(found, wanted)
        spectrum = torch.cat([found, spectrum[..., bins:]], -1)
    return stft.synthesis(spectrum)


BLOCK = 4  # frames that are settled at once
ITERATIONS = 32  # of a block; most frames are in two blocks, so they have twice as many
RANDOM_SHARE = 0.3  # of the magnitude, in the first phase of frames that the signal before them reaches
_LEAST_WEIGHT = 1e-2  # of squared windows, where a signal is divided by their sum


def look_ahead(stft: FrameSTFT) -> int:
    """Frames beyond its own that a spectrum of `PhaseInBlocks` depends on, at the most."""
    return BLOCK - 1 + stft.overlap - 1


@torch.no_grad()
def phase_in_blocks(magnitude: Tensor, white: Tensor, stft: FrameSTFT, harmonics: Harmonics | None = None) -> Tensor:
    """A waveform (B, frames * hop_length) of about this magnitude (B, frames, n_fft // 2 + 1), in blocks of frames.

    Each iteration of Griffin-Lim's method looks three frames further ahead, so eighty of them look three seconds ahead.
    Here a block of frames is iterated together with the few frames after it, while the frames before it stay. Then the
    block is settled, and the next begins from the signal so far. It follows Zhu, Beauregard and Wyse 2007 (Real-Time
    Signal Estimation From Modified Short-Time Fourier Transform Magnitude Spectra, IEEE Transactions on Audio, Speech,
    and Language Processing, pages 1645 to 1653), who settle single frames. The iterations have the momentum of
    `find_phase`.

    Args:
        magnitude: of every frame.
        white: noise (B, frames * hop_length), which decides the first phases.
        stft: in whose frames the magnitude is given.
        harmonics: what gives the magnitude finer structure, half way through the iterations of a block.
    """
    spectra = PhaseInBlocks(stft, harmonics).push(magnitude, white.unflatten(1, (-1, stft.hop_length)), last=True)
    return stft.synthesis(magnitude.new_zeros(0) if spectra is None else spectra)


class PhaseInBlocks:
    """Magnitudes and noise (B, n, ...) -> spectra (B, m, n_fft // 2 + 1) of these magnitudes, as blocks are settled.

    Blocks are counted from the first frame on, so the result does not depend on the pieces.

    Args:
        stft: in whose frames they are given.
        harmonics: see `phase_in_blocks`.
    """

    STATE = ("_carried", "_signal", "_weight")

    def __init__(self, stft: FrameSTFT, harmonics: Harmonics | None = None) -> None:
        self.stft, self.harmonics, self._squares = stft, harmonics, stft.window.square()
        self._magnitude = Window()  # of the frames that are not settled
        self._noise = DelayLine()  # of those that were in no block yet
        self._carried: Tensor | None = None  # spectra of those that were in one
        self._signal: Tensor | None = None  # (B, n_fft - hop_length) of settled frames, where later ones reach
        self._weight: Tensor | None = None  # (B, n_fft - hop_length) their squared windows

    def push(self, magnitude: Tensor | None, noise: Tensor | None, last: bool) -> Tensor | None:
        """The next frames.

        Args:
            magnitude: (B, n, n_fft // 2 + 1); 0 beyond the end of an item.
            noise: (B, n, hop_length), which decides the first phases.
            last: whether the signal ends here.

        Returns:
            The spectra that are settled, or None.
        """
        self._magnitude.push(magnitude)
        self._noise.push(noise)
        blocks, ahead = [], self.stft.overlap - 1  # frames that reach into the last one of a block
        while (held := self._magnitude.held) and (last or held >= BLOCK + ahead):
            blocks.append(self._block(min(held, BLOCK + ahead)))
        return torch.cat(blocks, 1) if blocks else None

    def _block(self, count: int) -> Tensor:
        """Settle up to `BLOCK` of the first `count` frames that are held."""
        stft, hop, magnitude = self.stft, self.stft.hop_length, self._magnitude.look(0, count)
        reach = stft.n_fft - hop
        before = magnitude.new_zeros(len(magnitude), reach) if self._signal is None else self._signal
        weighed = torch.zeros_like(before) if self._weight is None else self._weight
        X = self._first_phase(magnitude, before, weighed)
        gain = self._weights(magnitude, weighed).clamp(min=_LEAST_WEIGHT).reciprocal()
        previous: Tensor | None = None
        ahead = stft.overlap - 1
        frames = magnitude.new_zeros(len(magnitude), ahead + count + ahead, stft.n_fft)  # zeros before and behind
        for index in range(ITERATIONS):
            stft.frames(X, out=frames[:, ahead : ahead + count])
            signal = settled(frames, hop).flatten(1)[:, : gain.shape[1]]
            signal[:, :reach] += before
            signal *= gain
            step = signal if previous is None else torch.sub(signal, previous, alpha=STEP_BACK)
            previous, X = signal, stft.spectra(step)
            if self.harmonics is not None and index == ITERATIONS // 2:
                magnitude = self.harmonics(magnitude, X, stft)
            X = with_magnitude(X, magnitude, out=X)
        done = X[:, :BLOCK]
        signal = overlap_add(stft.frames(done), hop)
        signal[:, :reach] += before
        span = done.shape[1] * hop
        self._signal = signal[:, span:].clone()
        self._weight = self._weights(magnitude[:, :BLOCK], weighed)[:, span:].clone()
        self._carried = X[:, BLOCK:].clone()
        self._magnitude.forget(BLOCK)
        return done

    def _first_phase(self, magnitude: Tensor, before: Tensor, weighed: Tensor) -> Tensor:
        """Spectra of a block and the frames after it; those that were in no block go on from the signal before."""
        stft, hop, reach, carried = self.stft, self.stft.hop_length, before.shape[1], self._carried
        known = 0 if carried is None else carried.shape[1]
        count = magnitude.shape[1] - known
        if carried is not None and count == 0:
            return carried
        edge = (stft.n_fft - hop) // 2  # each frame has noise of its own, in its middle
        X = with_magnitude(torch.fft.rfft(F.pad(self._noise.take(count), (edge, reach - edge))), magnitude[:, known:])
        if carried is None:
            return X
        signal = F.pad(before, (0, magnitude.shape[1] * hop))
        signal[:, : known * hop + reach] += overlap_add(stft.frames(carried), hop)
        gain = F.pad(self._weights(magnitude[:, :known], weighed), (0, count * hop))
        heard = stft.spectra((signal / gain.clamp(min=_LEAST_WEIGHT))[:, known * hop :])
        return torch.cat([carried, with_magnitude(heard + RANDOM_SHARE * X, magnitude[:, known:])], 1)

    def _weights(self, magnitude: Tensor, before: Tensor) -> Tensor:
        """Sum of the squared windows (B, samples) of frames that sound, after those before them."""
        sounds = magnitude.amax(2, keepdim=True) > 0
        total = overlap_add(self._squares * sounds, self.stft.hop_length)
        total[:, : before.shape[1]] += before
        return total
