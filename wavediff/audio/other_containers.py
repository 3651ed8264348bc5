"""Formats that are read and not written: whether what their first bytes claim can be true.

libsndfile opens an AIFF, AU, W64 or MP3 that was cut as if it had ended there.
"""

import os
from typing import BinaryIO

READ_ONLY = {
    "AIFF": (".aif", ".aiff", ".aifc"),
    "AU": (".au", ".snd"),
    "CAF": (".caf",),
    "MP3": (".mp3",),
    "W64": (".w64",),
}
"""Extensions of each format."""

_UNSET = 0xFFFF_FFFF  # what an AU says that was streamed
_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"  # the first of its identifiers of 16 bytes
_NEAR = 4096  # bytes after its tags in which an MP3 begins


def recognised(head: bytes) -> str | None:
    """Which of the formats the first bytes (16 or more) of a file are, or None."""
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[:16] == _W64:
        return "W64"
    is_frame = len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[2] & 0xF0 != 0xF0  # layer III
    if head[:3] == b"ID3" or is_frame:
        return "MP3"
    return {b".snd": "AU", b"caff": "CAF"}.get(head[:4])


def claimed(file: BinaryIO, kind: str, head: bytes) -> int | None:
    """How many bytes a file says it has; None where it does not say, or where libsndfile looks itself (CAF).

    Args:
        file: to look further into.
        kind: what `recognised` says.
        head: its first bytes.

    Raises:
        ValueError: an MP3 does not say how long it is: libsndfile would guess, and leave out what is beyond.
    """
    if kind == "AIFF":
        return 8 + int.from_bytes(head[4:8], "big") // 2 * 2  # the last byte may fill it up
    if kind == "W64":
        return int.from_bytes(head[16:24], "little")
    if kind == "AU":
        offset, size = (int.from_bytes(head[at : at + 4], "big") for at in (4, 8))
        return None if size == _UNSET else offset + size
    return _claimed_by_mp3(file, head) if kind == "MP3" else None


def _claimed_by_mp3(file: BinaryIO, head: bytes) -> int | None:
    """By the header that encoders put into the first frame: "Xing" or "Info", flags, then frames and bytes in all."""
    start = 0
    if head[:3] == b"ID3":  # a size of four times seven bits
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(start, os.SEEK_SET)
    frame = file.read(_NEAR)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags = int.from_bytes(frame[at + 4 : at + 8], "big") if at >= 0 else 0
    if not flags & 1:
        raise ValueError("does not say how long it is (streamed MP3)")
    return start + int.from_bytes(frame[at + 12 : at + 16], "big") if flags & 2 else None
