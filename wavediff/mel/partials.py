"""First phases for Griffin-Lim's method: below 2 kHz the phase of each partial grows as its frequency says.

A magnitude has a peak there for each partial. The frequency of a peak says by how much its phase grows over a hop, so
a phase that is drawn once goes on for as long as the partial does. From random phases Griffin-Lim's method needs many
iterations to find that, and never finds all of it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wavediff.mel.spec import MelSpec

_TOP = 2000.0  # [Hz], above which a mel resolves no partials
_JUMPS = 5  # a peak is found from up to 2 ** 5 bins away
TURN = 1 << 24  # a turn; whole numbers have the same sum in whatever order they are added
_LEAST = 1e-5  # of a magnitude, before its logarithm


class Partials:
    """First spectra for the magnitudes of successive frames: Single Pass Spectrogram Inversion.

    The phases of a frame depend on all frames before it and on none after it. Above 2 kHz spectra stay as they are.

    Args:
        spec: dialect of the frames.

    Source: Beauregard, Harish and Wyse 2015, Single Pass Spectrogram Inversion.
    """

    STATE = ("_phase", "_frequency")

    def __init__(self, spec: MelSpec) -> None:
        self.spec = spec
        self._phase: Tensor | None = None  # (B, 1, bins) of the frame before
        self._frequency: Tensor | None = None  # likewise

    def push(self, magnitude: Tensor, spectrum: Tensor) -> Tensor:
        """The next frames.

        Args:
            magnitude: (B, n, n_fft // 2 + 1).
            spectrum: likewise, complex; its phases in the first frame of all decide those of the frames that follow.

        Returns:
            (B, n, n_fft // 2 + 1), of any magnitude.
        """
        step, frequency = advance(magnitude, self.spec, self._frequency)
        bins = step.owner.shape[2]
        if self._phase is None:
            first = phase_of(spectrum.real[:, :1, :bins], spectrum.imag[:, :1, :bins])
        else:
            first = self._phase.gather(-1, step.owner[:, :1]) + step.turns[:, :1]
        chain, span = beginning(step, first), 1
        while span < chain.owner.shape[1]:
            chain, span = joined(chain, span), 2 * span
        phase = chain.turns % TURN
        self._phase, self._frequency = phase[:, -1:], frequency[:, -1:]
        return torch.cat([torch.complex(*unit(phase)), spectrum[..., bins:]], -1)


class Step(NamedTuple):
    """How phases grow up to each frame: phase[t, k] = phase[t - span, owner[t, k]] + turns[t, k].

    Attributes:
        owner: (B, frames, bins) the bin that each goes on from.
        turns: (B, frames, bins) by how much it is turned further, in parts of `TURN`.
    """

    owner: Tensor
    turns: Tensor


def advance(magnitude: Tensor, spec: MelSpec, before: Tensor | None = None) -> tuple[Step, Tensor]:
    """The growth over one frame, in the bins below 2 kHz.

    Args:
        magnitude: (B, frames, n_fft // 2 + 1).
        spec: dialect of the frames.
        before: (B, 1, bins) the frequency of the frame before; that of the first frame if None.

    Returns:
        The growth, and the frequency (B, frames, bins) of the peak that each bin belongs to [turns a hop].
    """
    bins = min(round(_TOP / spec.sample_rate * spec.n_fft), spec.n_fft // 2)
    level = magnitude[..., : bins + 1].contiguous().clamp(min=_LEAST).log()
    here, above = level[..., :-1], level[..., 1:]
    below = torch.cat([level[..., 1:2], level[..., :-2]], -1)  # 0 Hz lies between like neighbours
    number = torch.arange(bins, device=level.device)
    rises = (above > here) & (above >= below)
    falls = (below > here) & (below > above)
    owner = (number + rises.long() - falls.long()).clamp(max=bins - 1)
    for _ in range(_JUMPS):
        owner = owner.gather(-1, owner)
    # The top of a parabola through the logarithms of a peak and its neighbours.
    offset = (0.5 * (below - above) / (below - 2 * here + above).clamp(max=-1e-6)).clamp(-0.5, 0.5)
    frequency = ((number + offset) * (spec.hop_length / spec.n_fft)).gather(-1, owner)
    # By index, not by slices: the exporter would ask whether a slice has one frame.
    frames = torch.arange(frequency.shape[1], device=frequency.device)
    earlier = frequency.index_select(1, (frames - 1).clamp(min=0))
    if before is not None:
        earlier = torch.where((frames == 0)[:, None], before, earlier)
    turns = 0.5 * (frequency + earlier.gather(-1, owner)) % 1.0  # a glide from one to the other
    # The transform of the window is real about the middle of a frame: half a turn lies between the bins of a peak.
    half = (TURN // 2) * ((number - owner) % 2)
    return Step(owner, (turns * TURN).long() + half), frequency


def beginning(step: Step, first: Tensor) -> Step:
    """The growth over frames of which the first one has the phases `first` (B, 1, bins)."""
    frames = torch.arange(step.turns.shape[1], device=first.device)
    return Step(step.owner, torch.where((frames == 0)[:, None], first, step.turns))


def joined(step: Step, span: int | Tensor) -> Step:
    """The growth over `2 * span` frames, from that over `span` frames; up to the first frame where there are fewer."""
    frames = torch.arange(step.owner.shape[1], device=step.owner.device)
    earlier, known = (frames - span).clamp(min=0), (frames >= span)[:, None]
    owner, turns = (x.index_select(1, earlier).gather(-1, step.owner) for x in step)
    return Step(torch.where(known, owner, step.owner), step.turns + torch.where(known, turns, 0))


def phase_of(real: Tensor, imaginary: Tensor) -> Tensor:
    """Phases of complex numbers, in parts of `TURN`."""
    return (torch.atan2(imaginary, real) * (TURN / (2 * torch.pi))).long() % TURN


def unit(phase: Tensor) -> tuple[Tensor, Tensor]:
    """Phases in parts of `TURN` -> real and imaginary parts of numbers of magnitude 1."""
    angle = phase.float() * (2 * torch.pi / TURN)
    return angle.cos(), angle.sin()
