"""Taking a mel that comes in pieces from one dialect to another, without a seam between the pieces."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from wavediff.arguments import Values
from wavediff.mel.check import in_dialect
from wavediff.mel.shape import check_shape
from wavediff.mel.spec import MelSpec, as_spec


def in_dialect_pieces(
    pieces: Iterable[Values], given: MelSpec | str, wanted: MelSpec | str, *, source: str = "mel"
) -> Iterator[Tensor]:
    """Pieces of one mel of dialect `given` as pieces of what `in_dialect` makes of the whole.

    A change of framing drops or repeats the last frame of a mel. Only the end of the last piece is such a frame, so
    from "center" to "same" one frame is held back until the next piece comes, or the end.

    Args:
        pieces: (n_mels, n) or (B, n_mels, n), of any lengths but 0.
        given: the mel's dialect.
        wanted: the dialect to give.
        source: what to call the mel in messages.

    Yields:
        (B, n_mels, m) in float32, m >= 1, each checked; a piece may be too short to warn of its values.

    Raises:
        MelError: as `in_dialect`, when the piece is reached.
    """

    given, wanted = as_spec(given, "given"), as_spec(wanted, "wanted")

    def converted(piece: Values) -> Tensor:
        return in_dialect(piece, given, wanted, source=source, warn=False)

    drops, repeats = given.framing == "center" != wanted.framing, wanted.framing == "center" != given.framing
    held: Tensor | None = None
    ready = False
    for piece in pieces:
        if drops:
            frames = check_shape(piece, given, source=source)
            frames = frames if held is None else torch.cat([held, frames], -1)
            held = frames[..., -1:].clone()
            if frames.shape[-1] > 1:
                yield converted(frames)
                ready = True
        elif repeats:
            longer = converted(piece)
            held = longer[..., -1:].clone()
            yield longer[..., :-1]
        else:
            yield converted(piece)
    if held is not None and repeats:
        yield held
    elif held is not None and not ready:
        converted(held)  # a single frame, which is refused
