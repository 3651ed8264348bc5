"""Audio files built by hand, so that their headers can lie."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavediff.audio import read_audio
from wavediff.errors import AudioError

RATE = 16_000
SAMPLES = (8000 * np.sin(np.arange(1000) / 9)).astype("<i2")
PCM, FLOAT = (1, 16), (3, 32)  # format tag, bits


def wav(
    data: bytes = SAMPLES.tobytes(),
    *,
    riff_size: int | None = None,
    data_size: int | None = None,
    encoding: tuple[int, int] = PCM,
    channels: int = 1,
    rate: int = RATE,
    after: bytes = b"",
) -> bytes:
    """A WAV file; the sizes default to the true ones."""
    tag, bits = encoding
    frame = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * frame, frame, bits)
    body = b"WAVE" + fmt + struct.pack("<4sI", b"data", len(data) if data_size is None else data_size) + data + after
    return struct.pack("<4sI", b"RIFF", len(body) if riff_size is None else riff_size) + body


def refused(path: Path, reason: str, **options: Any) -> None:
    """Assert that `path` cannot be read, for `reason`, in one line that names it."""
    with pytest.raises(AudioError, match=reason) as caught:
        read_audio(path, **options)
    message = str(caught.value)
    assert path.name in message
    assert "; " in message  # the cure
    assert "\n" not in message


def saved(folder: Path, content: bytes, name: str = "a.wav") -> Path:
    """Write `content` and return its path."""
    (folder / name).write_bytes(content)
    return folder / name
