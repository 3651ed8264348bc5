"""What a run has to do, settled before any work: which input becomes which output, and what is decoded together."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from wavediff.audio import READ_SUFFIXES, iter_files, read_info
from wavediff.audio.containers import EXTENSIONS
from wavediff.errors import DataError, OutputError, WavediffError
from wavediff.files import check_output, sweep_temporaries
from wavediff.mel import MelSpec, read_mel_info
from wavediff.mel.mel_files import MEL_SUFFIXES
from wavediff.places import Address, Place, there

Answer = TypeVar("Answer")

AUDIO_SUFFIXES = tuple(suffix for suffixes in EXTENSIONS.values() for suffix in suffixes)
INPUT_SUFFIXES = (*MEL_SUFFIXES, *READ_SUFFIXES)
OTHER_AUDIO_SUFFIXES = (*(set(READ_SUFFIXES) - set(AUDIO_SUFFIXES)), ".m4a", ".aac", ".opus", ".wma")


@dataclass(frozen=True)
class Job:
    """One file to be made of another."""

    source: Place
    target: Place

    @property
    def is_mel(self) -> bool:
        """Whether the source is a mel; otherwise it is a recording."""
        return self.source.suffix.lower() in MEL_SUFFIXES


@dataclass(frozen=True)
class Fault:
    """A file that could not be vocoded; `reason` names it, the cause and the cure."""

    job: Job
    reason: str


def plan_jobs(
    inputs: Iterable[Place], output: Place, *, overwrite: bool = False, resume: bool = False, keep_folders: bool = False
) -> list[Job]:
    """The jobs of a run.

    Args:
        inputs: recordings, mels, folders of them, here or in object storage; patterns of addresses there; manifests
            (.jsonl).
        output: a file for a single input, or a folder, here or in object storage.
        overwrite: replace existing outputs.
        resume: existing outputs are no fault; they are done.
        keep_folders: mirror the tree below each input folder; otherwise all outputs lie in one folder.

    Raises:
        AudioError, DataError: a folder cannot be listed, a manifest not be read, an address is that of nothing.
        OutputError: nothing to do, two inputs would become one file, or an output exists.
    """
    sources = [pair for path in inputs for pair in _sources(path, output)]
    is_folder = not output.suffix or _asked(output, output.is_dir, OutputError)
    is_file = output.suffix.lower() in AUDIO_SUFFIXES and not is_folder
    if output == Path("-"):
        raise OutputError(f"{output}: speech is not written to standard output; name a .wav, .flac or .ogg file")
    if not sources:
        raise OutputError(f"{', '.join(map(str, inputs))}: no audio or mel file there; check the folder")
    if output.suffix.lower() in OTHER_AUDIO_SUFFIXES and not is_folder:
        raise OutputError(f"{output}: {output.suffix} is not written; choose {', '.join(AUDIO_SUFFIXES)} or a folder")
    if is_file and len(sources) > 1:
        raise OutputError(f"{output}: is one file for {len(sources)} inputs; name a folder")
    taken: dict[Place, Place] = {}
    for source, below in sources:
        folder = output / below if keep_folders else output
        target = output if is_file else folder / f"{source.stem}.wav"
        if target in taken:
            cure = "vocode them apart" if keep_folders else "vocode them apart, or pass --keep-folders"
            raise OutputError(f"{source} and {taken[target]}: would both become {target}; {cure}")
        taken[target] = source
        check_output(target, overwrite=True)
    done = set() if overwrite else _asked(output, lambda: there(taken), OutputError)
    existing = [target for target in taken if target in done]
    if existing and not resume:
        more = f", and {len(existing) - 1} more outputs" if len(existing) > 1 else ""
        raise OutputError(
            f"{existing[0]}: already exists{more}; pass --resume to go on where a run stopped, or --overwrite"
        )
    for target, source in taken.items():  # with --overwrite, too
        if source == target or (isinstance(target, Path) and _are_one(target, source)):
            raise OutputError(f"{target}: is an input and would be its own output; choose another folder")
    return [Job(source, target) for target, source in taken.items()]


def _are_one(target: Path, source: Place) -> bool:
    try:
        return isinstance(source, Path) and target.samefile(source)
    except OSError:  # one of them is not there
        return False


def sweep(jobs: Iterable[Job]) -> None:
    """Remove the halves of these outputs that a killed run has left."""
    targets: dict[Path, list[Path]] = {}
    for job in jobs:
        if isinstance(job.target, Path):  # object storage has no halves
            targets.setdefault(job.target.parent, []).append(job.target)
    for folder, of in targets.items():
        sweep_temporaries(folder, of)


def _sources(path: Place, output: Place) -> Iterator[tuple[Place, PurePath]]:
    """The files that an input stands for, each with its folder below the input."""
    if _asked(path, path.is_dir, DataError):
        own = output.absolute() if path.absolute() in output.absolute().parents else None
        for found in sorted(iter_files(path, INPUT_SUFFIXES)):
            if own is None or own not in found.absolute().parents:  # what an earlier run has made is no input
                yield found, found.parent.relative_to(path)
    elif isinstance(path, Address) and path.is_pattern:
        yield from ((found, Path()) for found in _asked(path, lambda: sorted(path.matches()), DataError))
    elif isinstance(path, Address) and path.suffix.lower() not in INPUT_SUFFIXES:
        what = "a manifest is read from a folder of this machine" if path.suffix == ".jsonl" else "nothing is there"
        raise DataError(f"{path}: {what}; name a folder, a pattern, or a file ({', '.join(INPUT_SUFFIXES)})")
    elif path.suffix.lower() == ".jsonl":
        folder = path.parent.absolute()
        from wavediff.data.manifest import read_manifest

        for utterance in read_manifest(path):
            within = utterance.path.is_relative_to(folder)
            yield utterance.path, utterance.path.parent.relative_to(folder) if within else Path()
    else:
        yield path, Path()


def _asked(path: Place, question: Callable[[], Answer], error: type[WavediffError]) -> Answer:
    try:
        return question()
    except OSError as reason:
        cure = "check the address, the keys and the bucket's policy, or the folder's permissions"
        raise error(f"{path}: cannot be listed ({reason.strerror or reason}); {cure}") from reason


LONG_SECONDS = 600.0
"""From here on a file goes alone, and through in pieces."""


@dataclass(frozen=True)
class Item:
    """A job as part of a batch.

    Attributes:
        job: what becomes what.
        seconds: of audio, from the header.
        done: its output is there already; it is decoded once more only for the sake of the others in its batch.
    """

    job: Job
    seconds: float
    done: bool = False

    @property
    def is_long(self) -> bool:
        """Whether it is too long to be held in memory whole."""
        return self.seconds >= LONG_SECONDS


Batch = tuple[Item, ...]


def measure(job: Job, spec: MelSpec, *, lenient: bool = False) -> float:
    """Seconds of audio a job makes, from the header of its source.

    Args:
        job: what becomes what.
        spec: dialect of the model.
        lenient: cut recordings will do.

    Raises:
        AudioError, MelError: the source is missing, or its header shows that it cannot be used.
    """
    if job.is_mel:
        return read_mel_info(job.source).frames * spec.hop_length / spec.sample_rate
    return read_info(job.source, lenient=lenient).seconds


def make_batches(items: Sequence[Item], max_seconds: float, max_items: int) -> list[Batch]:
    """Batches of like length, longest first, so that what memory is needed shows at once.

    Args:
        items: in any order, which does not matter.
        max_seconds: of a batch, padding included; an item beyond it is alone.
        max_items: of a batch.
    """
    rest = sorted(items, key=lambda item: (-item.seconds, str(item.job.source)))
    batches = []
    while rest:
        longest = rest[0]
        fitting = max_items if longest.seconds * max_items <= max_seconds else int(max_seconds / longest.seconds)
        count = 1 if longest.is_long else max(fitting, 1)
        batches.append(tuple(rest[:count]))
        rest = rest[count:]
    return batches


def remaining(items: Sequence[Item], max_seconds: float, max_items: int, processes: int = 1) -> list[Batch]:
    """The batches of which not all is done.

    What is in a batch shows in the last bits of its samples. So the batches are those of all items, whatever is done:
    a run that was killed comes to the same samples as one that was not. But where that would repeat more work
    than is left (new files came to many done ones), they are made of what is missing.

    Args:
        items, max_seconds, max_items: see `make_batches`.
        processes: how many share the work: each may have been killed in the middle of a batch.
    """
    unfinished = [batch for batch in make_batches(items, max_seconds, max_items) if not all(i.done for i in batch)]
    missing = [item for batch in unfinished for item in batch if not item.done]
    again = sum(item.seconds for batch in unfinished for item in batch if item.done)
    if again > sum(item.seconds for item in missing) + processes * max_seconds:
        return make_batches(missing, max_seconds, max_items)
    return unfinished


def share(batches: Sequence[Batch], processes: int) -> list[list[Batch]]:
    """The batches of each process, about equally long in all: the longest first, to whoever has least."""
    shares: list[list[Batch]] = [[] for _ in range(processes)]
    loads = [0.0] * processes
    for batch in sorted(batches, key=_cost, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(batch)
        loads[least] += _cost(batch)
    return shares


def _cost(batch: Batch) -> float:
    return batch[0].seconds * len(batch)


HEADERS = 16
"""Files whose headers are read at the same time."""


@dataclass(frozen=True)
class Work:
    """What a run has to do.

    Attributes:
        batches: of files to be made.
        faults: files whose header shows already that they cannot be used.
        done: jobs whose output is there.
    """

    batches: list[Batch]
    faults: list[Fault]
    done: list[Job]


def find_work(
    jobs: Sequence[Job],
    spec: MelSpec,
    *,
    max_seconds: float,
    max_items: int,
    resume: bool = False,
    lenient: bool = False,
    processes: int = 1,
) -> Work:
    """Look into the headers, and with `resume` at what is there: outputs are written atomically, so one there is whole.

    Args:
        jobs: of `plan_jobs`.
        spec: dialect of the model.
        max_seconds, max_items: of a batch; see `make_batches`.
        resume: leave out what is done, and remove the halves that a killed run has left.
        lenient: cut recordings will do.
        processes: how many share the work.
    """
    if resume:
        sweep(jobs)
    present = there(job.target for job in jobs) if resume else set()
    items, faults = [], []

    def measured(job: Job) -> float | str:
        try:
            return measure(job, spec, lenient=lenient)
        except WavediffError as error:
            return str(error)

    # At the same time, because storage answers each but after a while.
    with warnings.catch_warnings(), ThreadPoolExecutor(HEADERS) as threads:
        warnings.simplefilter("ignore")  # they come again when the file is read
        for job, found in zip(jobs, threads.map(measured, jobs), strict=True):
            if isinstance(found, float):
                items.append(Item(job, found, job.target in present))
            elif job.target not in present:
                faults.append(Fault(job, found))
    done = [job for job in jobs if job.target in present]
    return Work(remaining(items, max_seconds, max_items, processes), faults, done)
