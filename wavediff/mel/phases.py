"""What every search for phases has in common, on whole signals, in pieces and in exported files.

First phases: a magnitude has a peak for each partial below 2 kHz, whose frequency says by how much its phase grows over
a hop. So a phase that is drawn once goes on for as long as the partial does; from random phases Griffin-Lim's method
needs many iterations to find that, and never finds all of it. Then how the iterations are shared out, and harmonics
where a mel resolves none: its bands are wider than a voice's pitch from about 2 kHz on, so its pseudo-inverse is smooth
there, but the lowest harmonics are resolved and say where all others lie.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.mel.spec import MelSpec
from wavediff.mel.stft import FrameSTFT, power

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


_MOMENTUM = 0.99  # of `find_phase`
# Of c_n + momentum (c_n - c_{n-1}) only the phase counts, so it may be divided by 1 + momentum: c_n less this much of
# c_{n-1}. The transform is linear, so the signals may be subtracted, which have a quarter of the numbers.
STEP_BACK = _MOMENTUM / (1 + _MOMENTUM)
MAX_OCTAVES = 2
_LENGTHS = ("n_fft", "win_length", "hop_length")
# Twelfths of the iterations at lower sample rates, the lowest first; the rest have the full one.
_SHARES: tuple[tuple[int, ...], ...] = ((), (9,), (8, 2))


def lower_rates(spec: MelSpec, octaves: int) -> list[FrameSTFT]:
    """The transform of `spec` at lower sample rates, the lowest first: its first bins, of frames as many.

    Args:
        spec: dialect of the frames.
        octaves: how often the rate is halved, 0 to `MAX_OCTAVES`; less often where lengths would not stay whole.
    """
    lower = []
    for octave in range(octaves, 0, -1):
        divisor = 2**octave
        while not _divides(divisor, spec):
            divisor //= 2
        lengths = {name: getattr(spec, name) // divisor for name in _LENGTHS}
        lower.append(FrameSTFT(replace(spec, **lengths)))
    return lower


def _divides(divisor: int, spec: MelSpec) -> bool:
    """Whether the lengths of a dialect stay whole, and its frames centred on samples."""
    even = 2 * divisor  # an FFT is even, and a hop where frames are centred on its middle
    whole = spec.win_length % divisor == spec.n_fft % even == 0
    return whole and spec.hop_length % (even if spec.framing == "same" else divisor) == 0


def iterations_of_rates(n_iter: int, octaves: int) -> list[int]:
    """How many of the iterations have each rate, the lowest first."""
    lower = [share * n_iter // 12 for share in _SHARES[octaves]]
    return [*lower, n_iter - sum(lower)]


def finer_from(count: int, octaves: int) -> int:
    """Index, among `count` iterations at the full rate, of the one that gives the magnitude finer structure.

    Half way, or sooner where lower rates have found the phase of the lowest harmonics.
    """
    return count // (4 if octaves else 2)


def with_magnitude(spectrum: Tensor, magnitude: Tensor, out: Tensor | None = None) -> Tensor:
    """The phase of `spectrum` with another magnitude, in `out` if given, which may be `spectrum`."""
    gain = magnitude / power(spectrum).add_(1e-18).sqrt_()
    return torch.mul(spectrum, gain.to(spectrum.dtype), out=out)


_LOW = (900.0, 1400.0)  # [Hz] the lowest harmonics lie below; between the two they fade
_HIGH = (2000.0, 3000.0)  # [Hz] likewise, where the magnitude begins to change
_REACH = 170.0  # [Hz] to either side, over which power stays as it is
_RANGE = (0.15, 2.5)  # of the fine structure, whose mean square is 1
_EDGE = 0.02  # of the squared window, where a frame is divided by it
_LEAST_POWER = 1e-14


class Harmonics(nn.Module):
    """(magnitude, spectrum), both (B, frames, n_fft // 2 + 1) -> the magnitude with finer structure.

    A rectifier of speech below 1 kHz has partials at all multiples of its pitch (harmonic regeneration, Plapous,
    Marro and Scalart 2006, Improved Signal-to-Noise Ratio Estimation for Speech Enhancement, section IV). Where there
    is no pitch, it has noise. Each frame is computed by itself.

    Args:
        spec: dialect of the frames.
        amount: exponent of the fine structure; 0 changes nothing, 1 gives the contrast of recordings.
    """

    low: Tensor
    exponent: Tensor
    share: Tensor  # of each of the bins around a bin

    def __init__(self, spec: MelSpec, amount: float = 1.0) -> None:
        super().__init__()
        width = spec.sample_rate / spec.n_fft  # of a bin [Hz]
        frequencies = width * torch.arange(spec.n_fft // 2 + 1, dtype=torch.float64, device="cpu")
        self.register_buffer("low", (1 - _rise(frequencies, _LOW)).float(), persistent=False)
        self.register_buffer("exponent", (amount * _rise(frequencies, _HIGH)).float(), persistent=False)
        self._reach = max(round(_REACH / width), 1)  # bins
        within = neighbours(F.pad(torch.ones_like(self.low), (self._reach, self._reach)), 2 * self._reach + 1)
        self.register_buffer("share", 1 / within, persistent=False)

    def forward(self, magnitude: Tensor, spectrum: Tensor, stft: FrameSTFT) -> Tensor:
        """The magnitude with the fine structure of the spectrum's lowest harmonics.

        Args:
            magnitude: to be changed.
            spectrum: complex, with a phase that fits that magnitude; of any scale.
            stft: the transform of both.
        """
        with torch.autocast(magnitude.device.type, enabled=False):
            return self.carried(magnitude, stft.frames(spectrum * self.low), stft)

    def carried(self, magnitude: Tensor, low: Tensor, stft: FrameSTFT) -> Tensor:
        """The same, from windowed frames (B, frames, n_fft) of the lowest harmonics."""
        x = low / (stft.window.square() + _EDGE)
        # Not a sum with the least level: the ONNX exporter takes that for nothing, and 0 / 0 comes of silence.
        x = x / x.square().mean(-1, keepdim=True).clamp(min=_LEAST_POWER).sqrt()
        made = stft.powers(x.relu().square())
        fine = (made / self._around(made)).clamp(*(limit**2 for limit in _RANGE))  # c squared, of mean 1
        finer = magnitude * (fine.log() * (0.5 * self.exponent)).exp()
        return finer * (self._around(magnitude.square()) / self._around(finer.square())).sqrt()

    def _around(self, power: Tensor) -> Tensor:
        """Mean over the bins around each."""
        sums = neighbours(F.pad(power, (self._reach, self._reach)), 2 * self._reach + 1)
        return (sums * self.share).clamp(min=_LEAST_POWER)


def neighbours(x: Tensor, width: int) -> Tensor:
    """Sums of `width` successive values: (..., n + width - 1) -> (..., n); of pairs, of pairs of these, and so on."""
    count, done, span, parts = x.shape[-1] - width + 1, 0, 1, []
    while done < width:
        if width & span:
            parts.append(x[..., done : done + count])
            done += span
        x, span = x[..., :-span] + x[..., span:], 2 * span
    return sum(parts[1:], parts[0])


def _rise(frequencies: Tensor, span: tuple[float, float]) -> Tensor:
    """0 below a span of frequencies, 1 above it, a raised cosine within."""
    place = ((frequencies - span[0]) / (span[1] - span[0])).clamp(0, 1)
    return 0.5 - 0.5 * torch.cos(torch.pi * place)
