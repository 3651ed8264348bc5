"""From a sound that is asked for to the one that is written: the best of several draws, none silent nor a loop of what
ends by itself, and its finish."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from wavediff.audio import centred, ended, read_audio, read_info, trim, with_peak
from wavediff.errors import ConfigError, EndingError, SamplingError
from wavediff.pipelines.extension import BandExtension
from wavediff.pipelines.filling import carry_over
from wavediff.pipelines.sounds import LASTING

ATTEMPTS = 4  # at a sound that is silent, or a loop of what ends
SILENT_PEAK = 10 ** (-50 / 20)
_NEXT_SEED = 0x9E3779B97F4A7C15  # odd, and far from what people add to a seed


class Job(NamedTuple):
    """One sound: its file, its label, and its seed."""

    target: Path
    label: str | None
    seed: int


def drawn_from(seed: int, attempt: int) -> int:
    """The seed of an attempt; the first is the sound's own, the others are numbers that JSON holds everywhere."""
    return (seed + attempt * _NEXT_SEED) % 2**53 if attempt else seed


def best_of(
    draw: Callable[[list[Job]], Tensor],
    jobs: Sequence[Job],
    attempts: int,
    judge: "Judge | None",
    redrawn: Callable[[Job, int], Job] = lambda job, attempt: job,
) -> tuple[list[Tensor], list[Job]]:
    """Draw each sound `attempts` times, or until it can be used, and keep the one that is most of its class.

    Args:
        draw: jobs -> sounds (B, N).
        jobs: what to draw; the label is that of the model.
        attempts: draws of each sound, at least 1.
        judge: chooses among several; may be None for one.
        redrawn: (job, attempt from 1 on) -> the job in whose place it is drawn, apart from the seed.

    Returns:
        The sounds, and their jobs with the seeds that they were drawn from.

    Raises:
        SamplingError: a sound is silent again and again, or ends where it is to be a loop.
    """
    fades = False
    kept: list[tuple[float, Tensor | None, Job]] = [(-1.0, None, job) for job in jobs]
    for attempt in range(max(attempts, ATTEMPTS)):
        places = [place for place, (score, _, _) in enumerate(kept) if attempt < attempts or score < 0]
        if not places:
            break
        again = [redrawn(jobs[place], attempt) if attempt else jobs[place] for place in places]
        again = [job._replace(seed=drawn_from(job.seed, attempt)) for job in again]
        for place, job, sound in zip(places, again, _lasting(draw, again), strict=True):
            fades = fades or sound is None
            if sound is None or sound.abs().max() < SILENT_PEAK:
                continue
            score = 0.0 if judge is None else judge(sound, job)
            if score > kept[place][0]:
                kept[place] = (score, sound, job)
    silent = [jobs[place] for place, (_, sound, _) in enumerate(kept) if sound is None]
    if silent:
        what, cure = "gives silence", "choose another seed or label, or more --num-steps"
        if fades:
            what, cure = "makes what ends by itself and is no loop", LASTING
        label = f", for {silent[0].label}" if silent[0].label else ""
        raise SamplingError(f"--seed: {silent[0].seed} {what}, as do {ATTEMPTS - 1} seeds in its place{label}; {cure}")
    return [sound for _, sound, _ in kept if sound is not None], [job for _, _, job in kept]


def _lasting(draw: Callable[[list[Job]], Tensor], jobs: list[Job]) -> list[Tensor | None]:
    """The sounds; None for those that are to be loops but end by themselves."""
    try:
        return list(draw(jobs))
    except EndingError as error:
        lasting = [job for place, job in enumerate(jobs) if place not in error.places]
        sounds = iter(draw(lasting) if lasting else ())
        return [None if place in error.places else next(sounds) for place in range(len(jobs))]


class Judge:
    """How probable a classifier finds the class of a sound.

    Args:
        classifier: a `SoundClassifier`.
        sample_rate: of the sounds [Hz].
        labels: those that it will be asked about.

    Raises:
        ConfigError: it does not know one of them.
    """

    def __init__(self, classifier: Any, sample_rate: int, labels: Sequence[str | None]) -> None:
        self.classifier, self.sample_rate = classifier, sample_rate
        known = classifier.config.labels
        for label in labels:
            if label is None or label.partition("/")[0] not in known:
                raise ConfigError(
                    f"--best-of: chooses by a classifier that knows {', '.join(known)}, not {label or 'no label'}; "
                    "give --label, or --classifier FILE of these classes"
                )

    def __call__(self, sound: Tensor, job: Job) -> float:
        """Probability, 0 to 1."""
        from wavediff.audio import resample

        heard = resample(trim(sound, self.sample_rate), self.sample_rate, self.classifier.config.sample_rate)
        with torch.inference_mode():
            probabilities = self.classifier(heard[None].to("cpu"))[0].softmax(0)
        place = self.classifier.config.labels.index(str(job.label).partition("/")[0])
        return float(probabilities[place])


@dataclass(frozen=True)
class Finish:
    """From sounds as they are drawn to sounds as they are written.

    Attributes:
        drawn_at: sample rate of the model [Hz].
        extension: that brings them to another one; None where they keep theirs.
        loop: their ends continue into their beginnings.
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
        return dataclasses.replace(finish, recording=recording, span=args.span)

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
