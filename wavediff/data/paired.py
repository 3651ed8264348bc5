"""Mels from files beside their recordings, such as an acoustic model predicts: a vocoder trained on them learns its
faults, too.
"""

import dataclasses
import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from wavediff.arguments import as_path
from wavediff.data.manifest import Skipped, Utterance
from wavediff.data.packed import DecodedCorpus
from wavediff.errors import DataError, MelError
from wavediff.files import is_leftover
from wavediff.mel import MelSpec, MelTransform, check_mel, read_mel, read_mel_info
from wavediff.mel.mel_files import MEL_SUFFIXES

FRAME_TOLERANCE = 4
"""Frames by which a mel may be longer or shorter than its recording's own. Both are then cut to the shorter: more than
that is another clip, or another hop; less is how frameworks frame and round."""


class Mels(ABC):
    """Mels of the utterances of a corpus, of which any part can be read.

    Attributes:
        spec: dialect of all of them.
        frames: how many of each can be used.
        example: where the first lies, for messages.
    """

    spec: MelSpec
    frames: Sequence[int]
    example: Path | str

    @functools.cached_property
    def silence(self) -> Tensor:
        """A frame of silence, (n_mels, 1)."""
        silence = torch.zeros(1, self.spec.min_samples + 2 * self.spec.n_fft)
        return MelTransform(self.spec)(silence)[0, :, :1]

    def read(self, index: int, start: int, frames: int) -> Tensor:
        """Frames `start` to `start + frames` of one mel, (n_mels, frames) in float32, silence where it ends.

        Raises:
            AudioError, MelError: it cannot be read, or holds values that are not of the dialect.
        """
        mel = self._part(index, start, min(start + frames, self.frames[index]))
        return torch.cat([mel, self.silence.expand(-1, frames - mel.shape[-1])], dim=-1)

    @abstractmethod
    def _part(self, index: int, start: int, stop: int) -> Tensor:
        """Frames `start` to `stop` of one mel."""


class DecodedMels(Mels):
    """The mels that a decoded corpus holds beside its samples.

    Raises:
        DataError: they are of another dialect than `spec`.
    """

    def __init__(self, corpus: DecodedCorpus, spec: MelSpec) -> None:
        if corpus.mel_spec is not None and corpus.mel_spec != spec:
            what = f"its mels are {corpus.mel_spec.describe()}, needed is {spec.describe()}"
            raise DataError(f"{corpus.path}: {what}; compute them in that, and prepare again")
        self.corpus, self.spec, self.example = corpus, spec, corpus.path
        self.frames = [corpus.frames(index) // spec.hop_length for index in range(len(corpus))]

    def _part(self, index: int, start: int, stop: int) -> Tensor:
        return self.corpus.read_mel(index, start, stop - start)


class PairedMels(Mels):
    """The mels that the rows of a manifest name.

    Args:
        utterances: each with a `mel`.
        spec: the dialect of all of them.

    Raises:
        DataError: an utterance names no mel, or one that is missing, damaged, of another dialect as far as its header
            and the values of the first tell, or of another length than its recording.
    """

    def __init__(self, utterances: Sequence[Utterance], spec: MelSpec) -> None:
        self.spec = spec
        self.paths = [_path_of(utterance) for utterance in utterances]
        self.example = self.paths[0]
        try:
            self.frames = [check_length(utterance, spec) for utterance in utterances]
            self._part(0, 0, 1)
        except MelError as error:
            raise DataError(str(error)) from error

    def whole(self, index: int) -> Tensor:
        """What can be used of one mel, (n_mels, frames) in float32; errors as of `read`."""
        return self._part(index, 0, self.frames[index])

    def _part(self, index: int, start: int, stop: int) -> Tensor:
        path = self.paths[index]
        mel = check_mel(read_mel(path)[0], self.spec, source=str(path), warn=False)[0]
        if mel.shape[-1] < stop:
            held = mel.shape[-1]
            raise MelError(f"{path}: has become shorter, {held} frames where {stop} are needed; prepare again")
        return mel[:, start:stop]


def check_length(utterance: Utterance, spec: MelSpec) -> int:
    """How many frames of an utterance can be used: those which both its recording and its mel have.

    Only headers are read.

    Raises:
        MelError: the mel is missing, damaged, or says another dialect.
        DataError: its length is more than `FRAME_TOLERANCE` frames from the recording's.
    """
    path = _path_of(utterance)
    info = read_mel_info(path)
    if info.spec not in (None, spec):
        raise MelError(f"{path}: is {info.spec.describe()}, needed is {spec.describe()}; compute it in that")
    if info.n_mels != spec.n_mels:
        raise MelError(f"{path}: has {info.n_mels} bands, {spec.name} has {spec.n_mels}; compute it in {spec.name}")
    samples = -(-utterance.frames * spec.sample_rate // utterance.sample_rate)
    whole = samples // spec.hop_length
    expected = whole + (spec.framing == "center")
    if abs(info.frames - expected) > FRAME_TOLERANCE or not whole:
        raise DataError(
            f"{path}: has {info.frames} frames, {utterance.path} of {samples} samples at {spec.sample_rate} Hz has "
            f"{expected} of hop {spec.hop_length}, more than {FRAME_TOLERANCE} apart; pair the right files, or "
            "compute the mel from this recording's length"
        )
    return min(whole, info.frames)


def pair(
    splits: Mapping[str, Sequence[Utterance]],
    root: str | os.PathLike[str],
    mels: str | os.PathLike[str],
    spec: MelSpec | None = None,
) -> tuple[dict[str, list[Utterance]], list[Skipped]]:
    """Give the utterances their mels: `mels/a/x.npy` (or `.safetensors`) is that of `root/a/x.wav`.

    Args:
        splits: utterances by split, all below `root`.
        root: folder of the recordings.
        mels: folder of the mels, hidden files and folders left out.
        spec: the dialect that they must be of; by default the one that the first of them says.

    Returns:
        The utterances that have a mel, by split, and what has no counterpart: recordings and mels.

    Raises:
        DataError: nothing pairs, no dialect is known, a recording has two mels, or a mel cannot be that of its
            recording; the first is named, the others are counted.
    """
    found = _mels_below(as_path(mels, "mels", DataError))
    spec = spec or stated_spec(found.values())
    paired: dict[str, list[Utterance]] = {split: [] for split in splits}
    skipped: list[Skipped] = []
    faults: list[str] = []
    for split, utterances in splits.items():
        for utterance in utterances:
            stem = utterance.path.relative_to(root).with_suffix("")
            path = found.pop(stem, None)
            if path is None:
                skipped.append(Skipped(utterance.path, f"no mel: {Path(mels) / stem}.npy (or .safetensors) is missing"))
                continue
            paired[split].append(dataclasses.replace(utterance, mel=path))
            try:
                check_length(paired[split][-1], spec)
                check_mel(read_mel(path)[0], spec, source=str(path), warn=False)
            except (DataError, MelError) as error:
                faults.append(str(error))
    skipped += [Skipped(path, f"no recording: none below {root} is named {stem}") for stem, path in found.items()]
    if faults:
        more = f" (and {len(faults) - 1} more mels like it)" if len(faults) > 1 else ""
        raise DataError(faults[0] + more)
    if not any(paired.values()):
        example = f"; the first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"{mels}: no mel in it pairs with a recording below {root}{example}; give both the same names")
    return paired, skipped


def mels_of(sources: Iterable[Sequence[Utterance]]) -> bool:
    """Whether the utterances name mels.

    Raises:
        DataError: some do and others do not.
    """
    utterances = [utterance for source in sources for utterance in source]
    with_mel = sum(utterance.mel is not None for utterance in utterances)
    if 0 < with_mel < len(utterances):
        lacking = next(utterance.path for utterance in utterances if utterance.mel is None)
        raise DataError(
            f"{lacking}: names no mel in its manifest, {with_mel} of {len(utterances)} utterances to train and "
            "validate on do; prepare all of them with --mels, or none"
        )
    return with_mel > 0


def _path_of(utterance: Utterance) -> Path:
    if utterance.mel is None:
        raise DataError(f"{utterance.path}: names no mel in its manifest; prepare it with --mels")
    return utterance.mel


def stated_spec(mels: Iterable[Path | None]) -> MelSpec:
    """The dialect that the first of some mel files says.

    Raises:
        DataError: there is none, it cannot be read, or it says none.
    """
    first = next((path for path in mels if path is not None), None)
    if first is None:
        raise DataError("no utterance names a mel; prepare the corpus with --mels")
    try:
        spec = read_mel_info(first).spec
    except MelError as error:
        raise DataError(str(error)) from error
    if spec is None:
        raise DataError(f"{first}: does not say its dialect; pass --mel-spec")
    return spec


def _mels_below(folder: Path) -> dict[Path, Path]:
    """Path below the folder without its suffix -> file."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder; name the one that holds the mels (.npy, .safetensors)")
    found: dict[Path, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in MEL_SUFFIXES and path.is_file()):
        below = path.relative_to(folder)
        if is_leftover(below):
            continue
        stem = below.with_suffix("")
        if stem in found:
            raise DataError(f"{path}: same name as {found[stem]}; keep one mel for each recording")
        found[stem] = path
    if not found:
        raise DataError(f"{folder}: holds no mel (.npy, .safetensors); check the folder")
    return found
