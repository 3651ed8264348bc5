"""Sets of labelled sounds, read and measured once: what the figures of generated sound are made from.

Whether a sound is a copy of another is told from their spectrograms: an embedding may hide it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.arguments import as_path
from wavediff.audio import read_audio
from wavediff.audio.finish import find_faults
from wavediff.data.corpora.classes import ClassFolders
from wavediff.data.manifest import class_of, read_manifest
from wavediff.errors import AudioError, DataError
from wavediff.metrics.classifier import SoundClassifier

UNREADABLE = "unreadable"  # a fault besides those of `find_faults`: damaged, empty, NaN or infinite samples


@dataclass(frozen=True)
class ClipSet:
    """Sounds of one set, n of them that can be read.

    Attributes:
        paths: of the n clips.
        labels: what each is meant to be, an index of the classifier's labels (n,).
        embeddings: (n, width), float64.
        probabilities: of each class (n, n_classes).
        spectrograms: n of (bands, steps), for `best_matches`.
        faults: path -> its faults, of the clips that have some; also of those that cannot be read.
    """

    paths: tuple[Path, ...]
    labels: Tensor
    embeddings: Tensor
    probabilities: Tensor
    spectrograms: tuple[Tensor, ...]
    faults: dict[Path, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.paths)


def labelled_clips(source: str | os.PathLike[str]) -> list[tuple[Path, str]]:
    """Path and class of each clip of a manifest (`.jsonl`), or of a folder of class folders.

    Raises:
        DataError: there is no such file or folder, it names no clip, or a clip has no label.
    """
    source = as_path(source, "source", DataError)
    if source.is_dir():
        return [(clip.path, str(clip.label)) for clip in ClassFolders(source, 0.0, 0.0).clips()]
    if not source.is_file() or source.suffix != ".jsonl":
        raise DataError(f"{source}: is no folder of class folders and no manifest (.jsonl); give one of them")
    clips = []
    for utterance in read_manifest(source):
        if utterance.label is None:
            raise DataError(f"{source}: {utterance.path} has no label; `wavediff prepare classes` writes them")
        clips.append((utterance.path, str(class_of(utterance.label))))
    return clips


def measure_clips(
    clips: Sequence[tuple[Path, str]],
    classifier: SoundClassifier,
    *,
    lenient: bool = False,
    on_clip: Callable[[], None] | None = None,
) -> ClipSet:
    """Read the clips, resampled to the classifier's rate, and show them to it.

    Args:
        clips: path and label of each; the label is one of the classifier's.
        classifier: in evaluation mode.
        lenient: count a clip that cannot be read among the faults, where it would be an error.
        on_clip: called after each.

    Raises:
        AudioError: a clip cannot be read.
        DataError: fewer than two can.
    """
    labels = classifier.config.labels
    paths, indices, embeddings, logits, spectrograms = [], [], [], [], []
    faults: dict[Path, tuple[str, ...]] = {}
    for path, label in clips:
        try:
            waveform, _ = read_audio(path, classifier.config.sample_rate)
        except AudioError:
            if not lenient:
                raise
            faults[path] = (UNREADABLE,)
        else:
            with torch.inference_mode():
                features = classifier.features(waveform[None])
                embedding = classifier.embed_features(features)
                logits.append(classifier.output(embedding)[0])
            embeddings.append(embedding[0].double())
            spectrograms.append(coarse_spectrogram(features.bands[0]))
            paths.append(path)
            indices.append(labels.index(label))
            if found := find_faults(waveform):
                faults[path] = found
        if on_clip is not None:
            on_clip()
    if len(paths) < 2:
        what = f"{len(paths)} of {len(clips)} clips can be read, 2 or more are needed"
        raise DataError(f"{clips[0][0].parent}: {what}; check the files")
    return ClipSet(
        tuple(paths),
        torch.tensor(indices, device="cpu"),
        torch.stack(embeddings),
        torch.stack(logits).softmax(1),
        tuple(spectrograms),
        faults,
    )


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
