"""How good generated sounds are: of the class that was asked for, like real ones, varied, no copies, without faults.

Every figure stands beside the same one of real sounds alone: what a perfect generator would get.
"""

import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wavediff.audio.finish import FAULTS
from wavediff.errors import DataError
from wavediff.metrics.classifier import SoundClassifier, load_classifier
from wavediff.metrics.clip_sets import UNREADABLE, ClipSet, best_matches, labelled_clips, measure_clips
from wavediff.metrics.distribution import (
    frechet_distance,
    kernel_distance,
    nearest_distances,
    overlap,
    pairwise_diversity,
)

SPLITS = 20  # random halves of the real set that the distances are averaged over
NEAR_QUANTILE = 0.05  # of the real clips' nearest distances; what is generated nearer than that may be a copy
COPY_CORRELATION = 0.92  # of spectrograms; vocoded copies have .97 in the median, a tenth of real clips have more


@dataclass(frozen=True)
class Both:
    """One figure of the generated sounds, and of real ones beside each other; None where there are too few."""

    generated: float | None
    real: float | None


@dataclass(frozen=True)
class ClassFigures:
    """One class.

    Attributes:
        clips: how many.
        accuracy: share that the classifier takes for this class.
        confidence: mean probability that it gives this class.
        diversity: mean distance of two different clips.
    """

    clips: Both
    accuracy: Both
    confidence: Both
    diversity: Both


@dataclass(frozen=True)
class GeneratedReport:
    """What `evaluate_generated` finds. Distances are in standard deviations of the real clips' embeddings.

    Attributes:
        classes: label -> its figures.
        accuracy: share of all clips that the classifier takes for what they are meant to be; silent clips are wrong.
        confidence: mean probability that it gives that class.
        distance_size: clips on each side of the two distances that follow, as many of each class on both.
        frechet: squared Frechet distance to real clips, of generated ones and of other real ones.
        kernel: kernel distance likewise.
        precision, recall, coverage: how far the sets overlap, likewise; see `overlap`.
        nearest: median distance to the nearest real clip, another one for real clips.
        nearest_ratio: generated over real; far below 1, the generator copies, far above, it strays.
        near: share of clips nearer to a real one than `NEAR_QUANTILE` of the real clips are.
        correlation: median of the highest correlation of spectrograms with a real clip, another one for real clips.
        copies: share of clips for which it is `COPY_CORRELATION` or more.
        suspected: generated clip -> the real one it may be a copy of, and their correlation.
        faults: fault -> number of clips that have it.
        faulty: generated clip -> its faults.
        left_out: real classes that were not generated, and so not compared with.
    """

    classes: dict[str, ClassFigures]
    accuracy: Both
    confidence: Both
    distance_size: int
    frechet: Both
    kernel: Both
    precision: Both
    recall: Both
    coverage: Both
    nearest: Both
    nearest_ratio: float | None
    near: Both
    correlation: Both
    copies: Both
    suspected: dict[str, tuple[str, float]]
    faults: dict[str, Both]
    faulty: dict[str, tuple[str, ...]]
    left_out: tuple[str, ...]


def evaluate_generated(
    generated: str | os.PathLike[str],
    real: str | os.PathLike[str],
    classifier: SoundClassifier | None = None,
    *,
    seed: int = 0,
    on_clip: Callable[[int, int], None] | None = None,
) -> GeneratedReport:
    """Compare generated sounds with real ones.

    Args:
        generated: folder of class folders, or manifest (`.jsonl`) with labels; a clip's label is what was asked for.
        real: likewise; for copies to be found, what the generator was trained on.
        classifier: of these classes; the bundled one by default.
        seed: decides the random halves.
        on_clip: told after each clip how many are done, and of how many.

    Raises:
        DataError: a set is missing, too small, without labels, or of classes that the other one or the classifier
            lacks.
        AudioError: a real clip cannot be read.
    """
    classifier = load_classifier().classifier if classifier is None else classifier
    made, recorded = labelled_clips(generated), labelled_clips(real)
    left_out = _check(os.fspath(generated), made, os.fspath(real), recorded, classifier.config.labels)
    recorded = [(path, label) for path, label in recorded if label not in left_out]
    done, total = 0, len(made) + len(recorded)

    def count() -> None:
        nonlocal done
        done += 1
        if on_clip is not None:
            on_clip(done, total)

    ours = measure_clips(made, classifier, lenient=True, on_clip=count)
    theirs = measure_clips(recorded, classifier, on_clip=count)
    return compare_sets(ours, theirs, classifier.config.labels, seed=seed, left_out=left_out)


def compare_sets(
    generated: ClipSet, real: ClipSet, labels: tuple[str, ...], *, seed: int = 0, left_out: tuple[str, ...] = ()
) -> GeneratedReport:
    """The figures of two measured sets; see `evaluate_generated`."""
    centre, spread = real.embeddings.mean(0), real.embeddings.std(0).clamp(min=1e-6)
    ours, theirs = (generated.embeddings - centre) / spread, (real.embeddings - centre) / spread
    size, distances = _distances(ours, generated.labels, theirs, real.labels, seed)
    nearest, nearest_real = nearest_distances(ours, theirs), nearest_distances(theirs)
    near = nearest_real.quantile(NEAR_QUANTILE)
    match, match_real = best_matches(generated.spectrograms, real.spectrograms), best_matches(real.spectrograms)
    suspected = {
        str(generated.paths[clip]): (str(real.paths[int(match.place[clip])]), match.correlation[clip].item())
        for clip in match.correlation.argsort(descending=True).tolist()
        if match.correlation[clip] >= COPY_CORRELATION
    }
    median, median_real = nearest.median().item(), nearest_real.median().item()
    return GeneratedReport(
        classes=_by_class(generated, ours, real, theirs, labels),
        accuracy=Both(_mean(_right(generated)), _mean(_right(real))),
        confidence=Both(_mean(_confidence(generated)), _mean(_confidence(real))),
        distance_size=size,
        **distances,
        nearest=Both(median, median_real),
        nearest_ratio=median / median_real if median_real > 0 else None,
        near=Both(_mean(nearest <= near), _mean(nearest_real <= near)),
        correlation=Both(match.correlation.median().item(), match_real.correlation.median().item()),
        copies=Both(_mean(match.correlation >= COPY_CORRELATION), _mean(match_real.correlation >= COPY_CORRELATION)),
        suspected=suspected,
        faults=_faults(generated, real),
        faulty={str(path): faults for path, faults in generated.faults.items()},
        left_out=left_out,
    )


def _check(
    generated: str, made: list[tuple[Path, str]], real: str, recorded: list[tuple[Path, str]], known: tuple[str, ...]
) -> tuple[str, ...]:
    """The labels of real clips that were not generated; what is wrong with the sets is said before they are read."""
    counts, real_counts = Counter(label for _, label in made), Counter(label for _, label in recorded)
    if unknown := sorted(counts.keys() - set(known)):
        raise DataError(
            f"{generated}: has the class {unknown[0]!r}, the classifier knows {', '.join(known[:20])}; give "
            "--classifier FILE, one trained on these classes (recipes/*/classifier.yaml)"
        )
    if alien := sorted(counts.keys() - real_counts.keys()):
        raise DataError(
            f"{generated}: has the class {alien[0]!r}, {real} only {', '.join(sorted(real_counts)[:20])}; "
            "compare sets of the same classes"
        )
    if sum(min(count, real_counts[label] // 2) for label, count in counts.items()) < 2:  # on each side of a distance
        beside = sum(real_counts[label] for label in counts)
        raise DataError(
            f"{generated}: {len(made)} clips beside {beside} in {real} are too few to compare; give 2 or more, "
            "and twice as many real ones of the same classes"
        )
    return tuple(sorted(real_counts.keys() - counts.keys()))


def _distances(
    ours: Tensor, labels: Tensor, theirs: Tensor, real_labels: Tensor, seed: int
) -> tuple[int, dict[str, Both]]:
    """Size of the sets; name -> figure: of random halves of the real set, and of generated clips to the same halves.
    Sets of one size and one mixture of classes, because both move the distances.
    """
    generator = torch.Generator().manual_seed(seed)
    figures = []
    size = 0
    for _ in range(SPLITS):
        chosen: list[tuple[Tensor, Tensor, Tensor]] = []
        for label in labels.unique():
            made, recorded = _shuffled(labels == label, generator), _shuffled(real_labels == label, generator)
            count = min(len(made), len(recorded) // 2)
            chosen.append((made[:count], recorded[:count], recorded[count : 2 * count]))
        clips, half, other = (torch.cat(parts) for parts in zip(*chosen, strict=True))
        size = len(clips)
        a, b, c = ours[clips], theirs[half], theirs[other]
        figures.append([(frechet_distance(x, b), kernel_distance(x, b), *overlap(x, b)) for x in (a, c)])
    names = ("frechet", "kernel", "precision", "recall", "coverage")
    columns = zip(*(zip(*pair, strict=True) for pair in figures), strict=True)  # of one figure, pairs of each split
    means = [[math.fsum(values) / SPLITS for values in zip(*column, strict=True)] for column in columns]
    return size, {name: Both(*pair) for name, pair in zip(names, means, strict=True)}


def _shuffled(mask: Tensor, generator: torch.Generator) -> Tensor:
    places = mask.nonzero()[:, 0]
    return places[torch.randperm(len(places), generator=generator)]


def _by_class(
    generated: ClipSet, ours: Tensor, real: ClipSet, theirs: Tensor, labels: tuple[str, ...]
) -> dict[str, ClassFigures]:
    classes = {}
    for index in sorted(set(generated.labels.tolist()) | set(real.labels.tolist())):
        figures: list[list[float | None]] = []
        for clips, embeddings in ((generated, ours), (real, theirs)):
            own = clips.labels == index
            count = int(own.sum())
            diversity = pairwise_diversity(embeddings[own]) if count > 1 else None
            figures.append([count, _mean(_right(clips)[own]), _mean(_confidence(clips)[own]), diversity])
        classes[labels[index]] = ClassFigures(*(Both(*pair) for pair in zip(*figures, strict=True)))
    return classes


def _right(clips: ClipSet) -> Tensor:
    """(n,): whether the classifier agrees; a silent clip is of no class."""
    silent = torch.tensor(["silent" in clips.faults.get(path, ()) for path in clips.paths], device="cpu")
    return (clips.probabilities.argmax(1) == clips.labels) & ~silent


def _confidence(clips: ClipSet) -> Tensor:
    """(n,): probability of the class that was meant."""
    return clips.probabilities.gather(1, clips.labels[:, None])[:, 0]


def _mean(values: Tensor) -> float | None:
    return values.double().mean().item() if len(values) else None


def _faults(generated: ClipSet, real: ClipSet) -> dict[str, Both]:
    counts = [Counter(fault for faults in clips.faults.values() for fault in faults) for clips in (generated, real)]
    return {fault: Both(*(float(count[fault]) for count in counts)) for fault in (*FAULTS[1:], UNREADABLE)}
