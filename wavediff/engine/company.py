"""Many streams of unlike progress computed as one batch.

After its first frames a stream holds a fixed number of positions of everything, wherever it is. Streams that hold
equally much are so many rows of one batch. What a stream holds is in the attributes that classes of the engine name as
their STATE, or as STATE_OF_EACH where each item has an entry of its own.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavediff.engine.streaming import StreamedVocoder


class Company:
    """Streams that are pushed together, and hold equally much.

    Args:
        machine: a new vocoder of as many items.
        members: vocoders of one item.
    """

    def __init__(self, machine: StreamedVocoder, members: Sequence[StreamedVocoder]) -> None:
        self.machine = machine
        self._parts = list(zip(_parts(machine), *map(_parts, members), strict=True))
        for whole, *each in self._parts:
            for name in _names(whole):
                setattr(whole, name, _joined([getattr(part, name) for part in each]))
            for name in _names_of_each(whole):
                setattr(whole, name, [item for part in each for item in getattr(part, name)])

    def part(self) -> None:
        """Give every member what is its own; before one of them is pushed in other company."""
        for whole, *each in self._parts:
            for index, part in enumerate(each):
                for name in _names(whole):
                    setattr(part, name, _of(getattr(whole, name), index))
                for name in _names_of_each(whole):
                    setattr(part, name, [getattr(whole, name)[index]])


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
