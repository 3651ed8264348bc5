"""Several draws of one sound, of which the best is kept; a silent one never is, nor a loop of what ends by itself."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wavediff.cli.jobs import Job
from wavediff.errors import ConfigError, EndingError, SamplingError
from wavediff.pipelines.sounds import LASTING

ATTEMPTS = 4  # at a sound that is silent, or a loop of what ends
SILENT_PEAK = 10 ** (-50 / 20)
_NEXT_SEED = 0x9E3779B97F4A7C15  # odd, and far from what people add to a seed


def drawn_from(seed: int, attempt: int) -> int:
    """The seed of an attempt; the first is the sound's own."""
    return (seed + attempt * _NEXT_SEED) % 2**63


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
    ended = False
    kept: list[tuple[float, Tensor | None, Job]] = [(-1.0, None, job) for job in jobs]
    for attempt in range(max(attempts, ATTEMPTS)):
        places = [place for place, (score, _, _) in enumerate(kept) if attempt < attempts or score < 0]
        if not places:
            break
        again = [redrawn(jobs[place], attempt) if attempt else jobs[place] for place in places]
        again = [job._replace(seed=drawn_from(job.seed, attempt)) for job in again]
        for place, job, sound in zip(places, again, _lasting(draw, again), strict=True):
            ended = ended or sound is None
            if sound is None or sound.abs().max() < SILENT_PEAK:
                continue
            score = 0.0 if judge is None else judge(sound, job)
            if score > kept[place][0]:
                kept[place] = (score, sound, job)
    silent = [jobs[place] for place, (_, sound, _) in enumerate(kept) if sound is None]
    if silent:
        what, cure = "gives silence", "choose another seed or label, or more --num-steps"
        if ended:
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
        from wavediff.audio import resample, trim

        heard = resample(trim(sound, self.sample_rate), self.sample_rate, self.classifier.config.sample_rate)
        with torch.inference_mode():
            probabilities = self.classifier(heard[None].to("cpu"))[0].softmax(0)
        place = self.classifier.config.labels.index(str(job.label).partition("/")[0])
        return float(probabilities[place])
