"""Whether sounds are copies of others, told from their spectrograms themselves: an embedding may hide it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BANDS, FRAMES = 2, 4  # that become one: what a small detune or a codec changes is not to count
QUIET = 1 / 3  # of the range of `Features`, so 40 dB below the loudest band: noise and fading ends do not count
STRIDE = 2  # frames; half of what becomes one, so that copies fit at any delay
BLOCK = 1024  # spectrograms that are compared with at once


class Match(NamedTuple):
    """The best counterpart of each of n sounds: `correlation` (n,) from -1 to 1, and which one it is, `place` (n,)."""

    correlation: Tensor
    place: Tensor


def coarse_spectrogram(bands: Tensor) -> Tensor:
    """What of a clip is compared: (n_mels, frames) in [0, 1] as in `Features` -> (n_mels // 2, steps), from its first
    loud sound to its last. A clip without any has one step of zeros.
    """
    sound = (bands - QUIET).clamp(min=0)
    places = sound.amax(0).nonzero()[:, 0]
    if not len(places):
        return bands.new_zeros(bands.shape[0] // BANDS, 1)
    sound = sound[:, int(places[0]) : int(places[-1]) + 1]
    return F.avg_pool2d(sound[None], (BANDS, FRAMES), (BANDS, STRIDE), ceil_mode=True, count_include_pad=False)[0]


def best_matches(spectrograms: Sequence[Tensor], others: Sequence[Tensor] | None = None) -> Match:
    """The highest correlation of each spectrogram with one of `others`, at whatever delay fits best.

    What is compared is the detail: what remains of a spectrogram when the mean of each band and of each step are
    subtracted, divided by its norm and taken as zero beyond the ends. Spectrum and envelope alone would make all
    sounds of a kind alike. Of `others` as many steps are compared as the longest of `spectrograms` has, so that what a
    model cut off is found in a longer recording that begins with it.

    Args:
        spectrograms: n of (bands, steps), on a logarithmic scale, any steps.
        others: m of (bands, steps); without them, the other ones of `spectrograms`, of which there must be some.

    Returns:
        Correlations: 1 for a copy at any level and delay; 0 where a spectrogram has no detail.
    """
    longest = max(spectrogram.shape[1] for spectrogram in spectrograms)
    ours = _unit(spectrograms, longest)  # (n, bands, longest)
    theirs = ours if others is None else _unit(others, longest)
    size = 2 * longest  # no delay wraps around
    best = torch.full((len(ours),), -torch.inf, dtype=torch.float32, device="cpu")
    places = torch.zeros(len(ours), dtype=torch.int64, device="cpu")
    for first in range(0, len(theirs), BLOCK):
        spectra = torch.fft.rfft(theirs[first : first + BLOCK], size).conj()  # (m, bands, size // 2 + 1)
        for row, spectrogram in enumerate(ours):
            product = torch.einsum("bk,mbk->mk", torch.fft.rfft(spectrogram, size), spectra)
            correlation = torch.fft.irfft(product, size).amax(1)  # (m,)
            if others is None and first <= row < first + BLOCK:
                correlation[row - first] = -torch.inf
            highest, column = correlation.max(0)
            if highest > best[row]:
                best[row], places[row] = highest, first + column
    return Match(best.clamp(-1, 1), places)


def _unit(spectrograms: Sequence[Tensor], steps: int) -> Tensor:
    """(n, bands, steps): the detail of each within its own steps, of norm 1."""
    rows = []
    for spectrogram in spectrograms:
        part = spectrogram[:, :steps].float()
        part = part - part.mean(0, keepdim=True)
        part = part - part.mean(1, keepdim=True)
        norm = part.norm()
        part = part / norm if norm > 1e-3 else torch.zeros_like(part)  # below, rounding errors are all there is
        rows.append(F.pad(part, (0, steps - part.shape[1])))
    return torch.stack(rows)
