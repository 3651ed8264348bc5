"""What is done to a sound that was drawn, before it is written: its sample rate, its zero line, its ends, its peak."""

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from wavediff.audio import centred, ended, read_audio, read_info, trim, with_peak
from wavediff.errors import SamplingError
from wavediff.pipelines.extension import BandExtension
from wavediff.pipelines.filling import carry_over


@dataclass(frozen=True)
class Finish:
    """From sounds as they are drawn to sounds as they are written.

    Attributes:
        drawn_at: sample rate of the model [Hz].
        extension: that brings them to another one; None where they keep theirs.
        loop: their ends go over into their beginnings.
        trimmed, levelled: whether silence around them is cut off, and whether an offset is taken away, what would be
            cut fades out, and the peak is brought to -1 dBFS.
        recording: whose span is filled, at the rate of what is written, where it has an octave of its own: outside the
            span it stays as it is. None otherwise.
        span: its start and end [s].
    """

    drawn_at: int
    extension: BandExtension | None
    loop: bool
    trimmed: bool
    levelled: bool
    recording: Tensor | None = None
    span: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, args: argparse.Namespace, drawn_at: int) -> Self:
        """What the options of `wavediff generate` ask for.

        Raises:
            SamplingError: --sample-rate is a rate that cannot be had.
        """
        levelled = not (args.raw or args.inpaint)  # what lies around a filling stays as it is
        trimmed = levelled and not (args.seconds or args.loop)
        extension = _extension(args, drawn_at)
        finish = cls(drawn_at, extension, args.loop, trimmed, levelled)
        if not args.inpaint or extension is None or read_info(args.inpaint).sample_rate <= drawn_at:
            return finish
        recording, _ = read_audio(args.inpaint, extension.sample_rate)
        return dataclasses.replace(finish, recording=recording, span=span_in(args.span))

    @property
    def sample_rate(self) -> int:
        """Of what is written [Hz]."""
        return self.drawn_at if self.extension is None else self.extension.sample_rate

    def __call__(self, sound: Tensor) -> Tensor:
        """(N,) -> (N',)"""
        if self.recording is not None and self.extension is not None:
            # At half its level it stays below the peak to which all of it would be scaled down.
            wide = 2 * self.extension(sound / 2, self.drawn_at).cpu()
            return carry_over(self.recording, wide, *self.span, self.sample_rate)
        if self.extension is not None:
            sound = self.extension(sound, self.drawn_at, loop=self.loop).cpu()
        if self.levelled:
            sound = centred(sound, self.sample_rate, loop=self.loop)
            sound = sound if self.loop else ended(sound, self.sample_rate)
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


def span_in(text: str) -> tuple[float, float]:
    """What --span says.

    Raises:
        SamplingError: it is not two times.
    """
    try:
        start, end = (float(part) for part in text.split(","))
    except ValueError as error:
        raise SamplingError(f"--span: {text!r} is not two times in seconds, such as 0.2,0.5") from error
    return start, end
