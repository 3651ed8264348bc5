"""Signals that arrive in pieces: what a layer needs to go on where the last piece ended."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Literal

import torch
from torch import Tensor

from wavediff.mel.stft import overlap_add

_MASKS = 32  # kept: more than the kinds that one piece asks for


class DelayLine:
    """Holds pieces (B, n, ...) until they are taken, in other lengths, along dimension 1."""

    STATE = ("_pieces", "held")

    def __init__(self) -> None:
        self._pieces: deque[Tensor] = deque()
        self.held = 0

    def push(self, piece: Tensor | None) -> None:
        """Append a piece; None is no piece."""
        if piece is not None and piece.shape[1]:
            self._pieces.append(piece)
            self.held += piece.shape[1]

    def take(self, count: int) -> Tensor:
        """The oldest `count` positions, which must be held, removed."""
        taken: list[Tensor] = []
        self.held -= count
        while count:
            piece = self._pieces.popleft()
            if piece.shape[1] > count:
                self._pieces.appendleft(piece[:, count:])
                piece = piece[:, :count]
            taken.append(piece)
            count -= piece.shape[1]
        return taken[0] if len(taken) == 1 else torch.cat(taken, 1)


class Window:
    """Pieces (B, n, ...) that several look at, each at its own place, along dimension 1; places count what is held."""

    STATE = ("_held",)

    def __init__(self) -> None:
        self._held: list[Tensor] = []  # one, or none before the first

    @property
    def held(self) -> int:
        """How many positions."""
        return self._held[0].shape[1] if self._held else 0

    def push(self, piece: Tensor | None) -> None:
        """Append a piece; None is no piece."""
        if piece is not None:
            self._held = [torch.cat([*self._held, piece], 1)]

    def look(self, first: int, count: int) -> Tensor:
        """`count` positions from `first` on, which must be held."""
        return self._held[0].narrow(1, first, count)

    def forget(self, count: int) -> None:
        """Let go of the first `count` positions; what lay behind them lies so many before."""
        self._held = [held[:, count:] for held in self._held]


class Ends:
    """Where the items of a batch end: what lies beyond is padding, and must look like silence to every layer.

    Args:
        lengths: (B,), in frames of the mel.
        device: of the signals; that of the lengths by default.
        shortest: what no length is below, for whom cannot look at them.
    """

    def __init__(self, lengths: Tensor, device: torch.device | None = None, *, shortest: int | None = None) -> None:
        self._shortest = int(lengths.min()) if shortest is None else shortest
        self.lengths = lengths.to(device, non_blocking=True)
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def of_shorter(self, count: int) -> "Ends":
        """The same, in frames of which `count` fit into one."""
        return Ends(self.lengths * count, shortest=self._shortest * count)

    def once(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What `make` returns, kept for the next who asks for the same: every iteration of a guess does."""
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > _MASKS:
                self._kept.popitem(last=False)
        return self._kept[key]

    def mask(self, start: int, count: int, unit: int = 1, offset: int = 0) -> Tensor | None:
        """(B, count): which of the positions from `start` on lie before their item's end.

        Args:
            start, count: positions.
            unit: positions a frame takes.
            offset: position of the first frame.

        Returns:
            None where all do.
        """
        if offset <= start and start + count <= self._shortest * unit + offset:
            return None
        return self.once((start, count, unit, offset), lambda: self._mask(start, count, unit, offset))

    def _mask(self, start: int, count: int, unit: int, offset: int) -> Tensor:
        positions = torch.arange(start, start + count, device=self.lengths.device)
        return (positions >= offset) & (positions < self.lengths[:, None] * unit + offset)

    def clear(self, piece: Tensor, start: int, unit: int = 1, offset: int = 0) -> Tensor:
        """A piece (B, n, ...) from position `start` on, with zeros in the padding."""
        mask = self.mask(start, piece.shape[1], unit, offset)
        return piece if mask is None else piece * mask.reshape(*mask.shape, *[1] * (piece.ndim - 2)).to(piece.dtype)


class Context:
    """Pieces (B, n, ...) -> windows of the same signal with neighbours on both sides, along dimension 1.

    Args:
        left, right: neighbours a position needs.
        mode: what lies beyond the ends of the signal: zeros, or its outermost value repeated.
        ends: of the items, beyond which lie zeros.
        frame: positions that a frame of the ends takes.
        unit: positions that become complete together; those of a unit that is not are in the window too, behind it.
    """

    STATE = ("_kept",)

    def __init__(
        self,
        left: int,
        right: int,
        mode: Literal["zeros", "replicate"] = "zeros",
        *,
        ends: Ends | None = None,
        frame: int = 1,
        unit: int = 1,
    ) -> None:
        self.left, self.right, self.mode, self.ends, self.frame, self.unit = left, right, mode, ends, frame, unit
        self.taken = 0
        self._kept: Tensor | None = None

    def push(self, piece: Tensor | None, last: bool) -> Tensor | None:
        """The next piece -> left + n + right positions around the n that have become complete; None for n = 0."""
        if piece is not None and self.ends is not None:
            piece = self.ends.clear(piece, self.taken, self.frame)
        self.taken += positions(piece)
        parts = [part for part in (self._kept, piece) if part is not None]
        if self._kept is None:
            if piece is None:
                return None
            parts.insert(0, self._beyond(piece, 0, self.left))
        if last and self.right:
            parts.append(self._beyond(parts[-1], -1, self.right))
        window = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        done = (window.shape[1] - self.left - self.right) // self.unit * self.unit
        # A copy, or a few positions would keep the whole window in memory.
        self._kept = window[:, max(done, 0) :].clone()
        return window if done > 0 else None

    def _beyond(self, signal: Tensor, index: int, count: int) -> Tensor:
        edge = signal[:, index].unsqueeze(1).expand(-1, count, *signal.shape[2:])
        return edge if self.mode == "replicate" else torch.zeros_like(edge)


def each_padded(
    mel: Tensor, lengths: Tensor, changed: Callable[[Tensor], Tensor] = lambda item: item
) -> tuple[Tensor, Tensor]:
    """A batch whose items were changed one by one, since a change of framing concerns the end of each.

    Args:
        mel: (B, n_mels, frames)
        lengths: frames (B,) of each item; what is beyond them is not looked at.
        changed: (n_mels, n) -> (n_mels, m), m - n the same for all.

    Returns:
        (B, n_mels, frames), the last frame of each item repeated over its padding, as beyond the end of a signal; and
        the lengths.
    """
    items = [changed(item[:, :length]) for item, length in zip(mel, lengths.tolist(), strict=True)]
    change = items[0].shape[1] - int(lengths[0])
    padded = [torch.cat([item, item[:, -1:].expand(-1, mel.shape[2] + change - item.shape[1])], 1) for item in items]
    return torch.stack(padded), lengths + change


def positions(piece: Tensor | None) -> int:
    """How many a piece (B, n, ...) holds."""
    return 0 if piece is None else piece.shape[1]


def settled(frames: Tensor, hop_length: int) -> Tensor:
    """Frames (B, overlap - 1 + n, n_fft), contiguous -> the hops (B, n, hop_length) that no other frame reaches, in the
    order of `overlap_add`."""
    overlap = -(-frames.shape[2] // hop_length)
    count = frames.shape[1] - overlap + 1
    if frames.shape[2] % hop_length:
        hops = overlap_add(frames, hop_length).narrow(1, (overlap - 1) * hop_length, count * hop_length)
        return hops.unflatten(1, (count, hop_length))
    items, held, n_fft = frames.shape
    parts = frames.as_strided(
        (items, overlap, count, hop_length), (held * n_fft, n_fft - hop_length, n_fft, 1), n_fft - hop_length
    )
    total = parts[:, -1] + parts[:, -2]
    for index in range(overlap - 3, -1, -1):
        total += parts[:, index]
    return total
