"""How fast the networks run: same weights, same output, less time."""

from wavediff.engine.delays import look_ahead, settled_after
from wavediff.engine.graphed_walk import GraphedWalk
from wavediff.engine.registry import Pieces, accelerate
from wavediff.engine.streaming import StreamedVocoder, frames_at_once, streams_of, twin_of

__all__ = [
    "GraphedWalk",
    "Pieces",
    "StreamedVocoder",
    "accelerate",
    "frames_at_once",
    "look_ahead",
    "settled_after",
    "streams_of",
    "twin_of",
]
