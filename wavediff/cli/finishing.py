"""What is done to a sound that was drawn, before it is written: its sample rate, its zero line, its ends, its peak."""

import argparse
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from wavediff.audio import centred, trim, with_peak
from wavediff.errors import SamplingError
from wavediff.pipelines.extension import BandExtension


@dataclass(frozen=True)
class Finish:
    """From sounds as they are drawn to sounds as they are written.

    Attributes:
        drawn_at: sample rate of the model [Hz].
        extension: that brings them to another one; None where they keep theirs.
        loop: their ends go over into their beginnings.
        trimmed, levelled: whether silence around them is cut off, and whether an offset is taken away and the peak
            brought to -1 dBFS.
    """

    drawn_at: int
    extension: BandExtension | None
    loop: bool
    trimmed: bool
    levelled: bool

    @classmethod
    def of(cls, args: argparse.Namespace, drawn_at: int) -> Self:
        """What the options of `wavediff generate` ask for.

        Raises:
            SamplingError: --sample-rate is a rate that cannot be had.
        """
        levelled = not (args.raw or args.inpaint)  # what lies around a filling stays as it is
        trimmed = levelled and not (args.seconds or args.loop)
        return cls(drawn_at, _extension(args, drawn_at), args.loop, trimmed, levelled)

    @property
    def sample_rate(self) -> int:
        """Of what is written [Hz]."""
        return self.drawn_at if self.extension is None else self.extension.sample_rate

    def __call__(self, sound: Tensor) -> Tensor:
        """(N,) -> (N',)"""
        if self.extension is not None:
            sound = self.extension(sound, self.drawn_at, loop=self.loop).cpu()
        if self.levelled:
            sound = centred(sound, self.sample_rate, loop=self.loop)
        sound = trim(sound, self.sample_rate) if self.trimmed else sound
        return with_peak(sound) if self.levelled else sound


def _extension(args: argparse.Namespace, drawn_at: int) -> BandExtension | None:
    if args.sample_rate in (None, drawn_at):
        return None
    extension = BandExtension.from_pretrained(device=args.device)
    if (drawn_at, args.sample_rate) == (extension.source_rate, extension.sample_rate):
        return extension
    rates = f"{drawn_at} or {extension.sample_rate}" if drawn_at == extension.source_rate else f"{drawn_at}"
    raise SamplingError(f"--sample-rate: {args.sample_rate} Hz cannot be made of this model's sounds; give {rates}")
