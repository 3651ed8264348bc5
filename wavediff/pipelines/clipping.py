"""Speech that a mel asks to be louder than full scale."""

import sys
import warnings

import torch
from torch import Tensor

from wavediff.errors import ClippingWarning

_AT_ONCE = 2**18  # columns: little beside the speech, which may be an hour


# Share of the samples. Speech turned up by 10 dB clips 1 % of them; mels of other dialects clip 7 to 46 %.
_MOST = 0.03
_INSIDE = ("wavediff", "torch")


class Clipping:
    """How many samples (..., N), clamped to [-1, 1], lie at a bound: that one did so before is next to impossible.

    Samples of exactly 0 are padding and not counted among the others.
    """

    def __init__(self, speech: Tensor | None = None) -> None:
        self.samples = self.of = 0
        if speech is not None:
            self.count(speech)

    def count(self, speech: Tensor) -> None:
        """Take in more."""
        pieces = speech.split(_AT_ONCE, dim=-1)
        counts = [torch.stack([torch.count_nonzero(p.abs() >= 1), torch.count_nonzero(p)]) for p in pieces]
        clipped, of = torch.stack(counts).sum(0).tolist() if counts else (0, 0)  # on a GPU one wait
        self.samples, self.of = self.samples + clipped, self.of + of

    @property
    def fault(self) -> str:
        """Cause and cure; empty where nothing was clipped."""
        if not self.samples:
            return ""
        what = f"clipped {self.samples} samples, the mel asks for speech beyond full scale"
        advice = "turn down what it is made from"
        if self.samples > _MOST * self.of:
            advice += (
                f"; {self.samples / self.of:.0%} of all samples is so much that the mel may be of another dialect (ask "
                "`wavediff doctor MEL`, pass mel_spec=) or padded with loud frames (pass lengths=)"
            )
        return f"{what}; {advice}"

    def warn(self, source: str = "mel") -> None:
        """Warn of what was clipped, if anything was, where this package was called from."""
        if self.samples:
            frame, level = sys._getframe(), 1
            # Decorators lie on the way, and torch's own functions where a compiler is about.
            while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _INSIDE:
                frame, level = frame.f_back, level + 1
            warnings.warn(f"{source}: {self.fault}", ClippingWarning, stacklevel=level)
