"""Sets of labelled sounds, read and measured once: what the figures of generated sound are made from."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wavediff.audio import read_audio
from wavediff.audio.faults import find_faults
from wavediff.data.corpora.classes import ClassFolders
from wavediff.data.manifest import class_of, read_manifest
from wavediff.errors import AudioError, DataError
from wavediff.metrics.classifier import SoundClassifier
from wavediff.metrics.copies import coarse_spectrogram

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
    source = Path(source)
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
