"""Speech that a mel asks to be louder than full scale."""

import warnings

import torch
from torch import Tensor

from wavediff.errors import ClippingWarning

_AT_ONCE = 2**18  # columns: little beside the speech, which may be an hour


class Clipping:
    """How many samples (..., N), clamped to [-1, 1], lie at a bound: that one did so before is next to impossible."""

    def __init__(self, speech: Tensor | None = None) -> None:
        self.samples = 0
        if speech is not None:
            self.count(speech)

    def count(self, speech: Tensor) -> None:
        """Take in more."""
        counts = [torch.count_nonzero(piece.abs() >= 1) for piece in speech.split(_AT_ONCE, dim=-1)]
        self.samples += int(sum(counts))  # on a GPU one wait

    @property
    def fault(self) -> str:
        """Cause and cure; empty where nothing was clipped."""
        what = f"clipped {self.samples} samples, the mel asks for speech beyond full scale"
        return f"{what}; turn down what it is made from" if self.samples else ""

    def warn(self, source: str = "mel", stacklevel: int = 2) -> None:
        """Warn of what was clipped, if anything was."""
        if self.samples:
            warnings.warn(f"{source}: {self.fault}", ClippingWarning, stacklevel=stacklevel + 1)
