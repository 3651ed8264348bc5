"""Many streams of speech, each at its own place, computed as one batch.

After its first frames a stream holds a fixed number of positions of everything, wherever it is. Streams that hold
equally much are so many rows of one batch. What a stream holds is in the attributes that classes of the engine name as
their STATE, or as STATE_OF_EACH where each item has an entry of its own.
"""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavediff.arguments import Values, whole
from wavediff.diffusion.noise import MAX_SEED
from wavediff.engine import StreamedVocoder, twin_of
from wavediff.errors import MelError, SamplingError
from wavediff.mel import MelSpec, in_dialect
from wavediff.mel.transform import as_mel
from wavediff.pipelines.chunks import Gathering, gathering_of
from wavediff.pipelines.mels import Clipping
from wavediff.pipelines.vocoder import Vocoder


class StreamPool:
    """Streams of one vocoder that begin and end when they like, and are pushed together.

    The speech of each is that of `Vocoder.stream` with `low_latency`, which computes every stream by itself; company
    changes less than 1e-4. After their first few frames, streams that receive the same number of frames are computed as
    one batch. If sampling starts from a guess, push multiples of 4 frames: then all streams stay in one batch.

    >>> from wavediff import StreamPool, Vocoder
    >>> vocoder = Vocoder.from_pretrained(device="cpu")
    >>> mel = vocoder.mel(0.1 * torch.randn(7680), 22_050)[0]
    >>> pool = StreamPool(vocoder, num_steps=1)
    >>> one, other = pool.open(seed=1), pool.open(seed=2)
    >>> pieces = [pool.push({one: frames, other: frames})[one] for frames in mel.split(10, dim=-1)]
    >>> torch.cat([*pieces, pool.close(one)]).shape
    torch.Size([7680])

    Args:
        vocoder: whose network `streams`.
        num_steps, schedule, sampler, mel_spec: as `Vocoder.decode` takes them; of all streams.

    Raises:
        ConfigError: the network does not stream, or `mel_spec` names no preset.
        MelError: the mels are of another framing than the model's.
        SamplingError: steps, schedule or sampler are not possible.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        num_steps: int | None = None,
        *,
        schedule: str | Sequence[float] | None = None,
        sampler: str | None = None,
        mel_spec: MelSpec | str | None = None,
    ) -> None:
        self.vocoder, self.plan = vocoder, vocoder.plan(num_steps, schedule, sampler, low_latency=True)
        self._joins, self._given = twin_of(vocoder.denoiser).joins, vocoder._dialect(mel_spec)
        if self._given.framing != vocoder.mel_spec.framing:
            raise MelError(
                f"mel_spec: {self._given.name} is of framing {self._given.framing}, the model of "
                f"{vocoder.mel_spec.framing}; use Vocoder.stream, which holds a frame back"
            )
        self._streams: dict[int, StreamedVocoder] = {}
        self._gathering: dict[int, Gathering] = {}
        self._clipping: dict[int, Clipping] = {}
        self._companies: dict[tuple[int, ...], Company] = {}
        self._opened = 0

    def open(self, seed: int = 0) -> int:
        """Begin a stream whose noise `seed` decides.

        Returns:
            What it is called in `push` and `close`.

        Raises:
            SamplingError: the seed is not possible.
        """
        seed = whole(seed, "seed", 0, MAX_SEED, SamplingError)
        self._opened += 1
        self._streams[self._opened] = self.vocoder._streamed(self.plan, [seed], None, True)
        self._gathering[self._opened] = gathering_of(self.vocoder.denoiser, self.vocoder.hop_length, True, 1)
        self._clipping[self._opened] = Clipping()
        return self._opened

    def push(self, mels: Mapping[int, Values]) -> dict[int, Tensor]:
        """The next frames (n_mels, n) of some of the streams -> the speech (m,) of each that is settled.

        Raises:
            MelError: there is no such stream, or its frames are no mel of the dialect; then nothing was pushed.
            SamplingError: an evaluation gave NaN.
        """
        checked = {stream: self._checked(stream, mel) for stream, mel in mels.items()}
        frames = {stream: piece for stream, mel in checked.items() for piece in self._gathering[stream].push(mel)}
        groups: dict[Hashable, list[tuple[int, ...]]] = defaultdict(list)
        for members, streamed in self._units(frames):
            sizes = [frames[stream].shape[-1] for stream in members]
            groups[(standing(streamed), sizes[0]) if self._joins else members].append(members)
        nothing = torch.empty(0, dtype=torch.float32, device=self.vocoder.device)
        speech = dict.fromkeys(mels, nothing)
        for units in groups.values():
            members, streamed = self._together(units)
            part = self.vocoder._push(streamed, torch.cat([frames[stream] for stream in members]), False)
            if part is None:
                continue
            for stream, samples in zip(members, part, strict=True):
                self._clipping[stream].count(samples)
                speech[stream] = samples
        return speech

    def close(self, stream: int) -> Tensor:
        """End a stream: the rest of its speech (n,).

        Raises:
            MelError: there is no such stream, or it had no frames.
        """
        self._known(stream)
        self._leave(stream)
        part = self.vocoder._push(self._streams.pop(stream), self._gathering.pop(stream).rest(), True)
        clipping = self._clipping.pop(stream)
        if part is None:
            raise MelError(f"stream {stream}: ended without a frame; a mel needs at least one")
        clipping.count(part)
        clipping.warn()
        return part[0]

    def _units(self, frames: Mapping[int, Tensor]) -> list[tuple[tuple[int, ...], StreamedVocoder]]:
        """The companies and single streams that are to be pushed; companies whose members are not all are parted."""
        for members in list(self._companies):
            sizes = {frames[stream].shape[-1] if stream in frames else 0 for stream in members}
            if len(sizes) > 1:
                self._leave(members[0])
        units = [(members, company.machine) for members, company in self._companies.items() if members[0] in frames]
        taken = {stream for members, _ in units for stream in members}
        return units + [((stream,), self._streams[stream]) for stream in frames if stream not in taken]

    def _together(self, units: list[tuple[int, ...]]) -> tuple[tuple[int, ...], StreamedVocoder]:
        """One company of several units, or the unit that there is."""
        if len(units) > 1:
            members = tuple(stream for unit in units for stream in unit)
            for unit in units:
                self._leave(unit[0])
            machine = self.vocoder._streamed(self.plan, [0] * len(members), None, True)
            self._companies[members] = Company(machine, [self._streams[stream] for stream in members])
        else:
            members = units[0]
        company = self._companies.get(members)
        return members, self._streams[members[0]] if company is None else company.machine

    def _leave(self, stream: int) -> None:
        """Part the company that a stream is in, if it is in one."""
        for members in [members for members in self._companies if stream in members]:
            self._companies.pop(members).part()

    def _checked(self, stream: int, mel: Values) -> Tensor:
        self._known(stream)
        frames = as_mel(mel, source=f"stream {stream}").cpu()  # looked at there, as in `Vocoder.decode`
        frames = in_dialect(frames, self._given, self.vocoder.mel_spec, source=f"stream {stream}", whole=False)
        if len(frames) != 1:
            raise MelError(f"stream {stream}: a batch of {len(frames)} mels; open a stream for each")
        return torch.clone(frames.detach())

    def _known(self, stream: int) -> None:
        if stream not in self._streams:
            raise MelError(
                f"stream {stream}: there is none of that name; take what `open` returned, before its `close`"
            )


class Company:
    """Streams that are pushed together, and hold equally much.

    Args:
        machine: a new vocoder of as many items.
        members: vocoders of one item.
    """

    def __init__(self, machine: StreamedVocoder, members: Sequence[StreamedVocoder]) -> None:
        self.machine = machine
        self._parts = list(zip(_parts(machine), *map(_parts, members), strict=True))
        for joint, *each in self._parts:
            for name in _names(joint):
                setattr(joint, name, _joined([getattr(part, name) for part in each]))
            for name in _names_of_each(joint):
                setattr(joint, name, [item for part in each for item in getattr(part, name)])

    def part(self) -> None:
        """Give every member what is its own; before one of them is pushed in other company."""
        for joint, *each in self._parts:
            for index, part in enumerate(each):
                for name in _names(joint):
                    setattr(part, name, _of(getattr(joint, name), index))
                for name in _names_of_each(joint):
                    setattr(part, name, [getattr(joint, name)[index]])


def standing(stream: StreamedVocoder) -> Hashable:
    """What streams must have in common to be pushed as one batch: how much they hold of everything."""
    return tuple(_size(getattr(part, name)) for part in _parts(stream) for name in _names(part))


def _names(part: Any) -> Sequence[str]:
    return getattr(part, "STATE", ())


def _names_of_each(part: Any) -> Sequence[str]:
    return getattr(part, "STATE_OF_EACH", ())


def _parts(stream: StreamedVocoder) -> Iterator[Any]:
    """Every object with a state, once, in the order in which any such vocoder holds them."""
    seen: set[int] = set()
    waiting: list[Any] = [stream]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, dict):
            waiting.extend(thing.values())
        elif isinstance(thing, list | tuple):
            waiting.extend(thing)
        elif type(thing).__module__.startswith("wavediff.") and not isinstance(thing, nn.Module | type):
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if _names(thing) or _names_of_each(thing):
                yield thing
            held = {*_names(thing), *_names_of_each(thing)}
            waiting.extend(value for name, value in vars(thing).items() if name not in held)


def _size(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return tuple(value.shape[1:])
    if isinstance(value, list | deque):
        return sum(piece.shape[1] for piece in value), len(value) > 0
    return value


def _joined(values: list[Any]) -> Any:
    """The states of single items as that of a batch: rows of a tensor, or of pieces along dimension 1."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, list | deque):
        return type(first)([torch.cat([torch.cat(list(pieces), 1) for pieces in values])] if first else [])
    return first


def _of(value: Any, index: int) -> Any:
    if isinstance(value, Tensor):
        return value[index : index + 1]
    if isinstance(value, list | deque):
        return type(value)(piece[index : index + 1] for piece in value)
    return value
