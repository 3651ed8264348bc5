"""Formats that are read and not written: the same samples, the same faults, on the command line and on the page."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from handmade import RATE, SAMPLES, refused

from wavediff.audio import iter_audio_files, read_audio, read_info

WAVEFORM = np.tile(SAMPLES / 32768, 40)  # 2.5 s
KINDS = {
    "aiff": ("AIFF", "PCM_16"),
    "aifc": ("AIFF", "FLOAT"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "ALAC_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "w64": ("W64", "PCM_24"),
}
NEW_TAG = b"ID3\4\0\0\0\0\1\0" + bytes(128)


def encoded(name: str) -> bytes:
    kind, subtype = KINDS[name]
    file = io.BytesIO()
    soundfile.write(file, WAVEFORM, RATE, format=kind, subtype=subtype)
    return file.getvalue()


def saved(folder: Path, name: str, content: bytes) -> Path:
    path = folder / f"a.{name}"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_it_is_read_whole_and_in_part(tmp_path: Path, name: str) -> None:  # fault 10
    path = saved(tmp_path, name, encoded(name))
    assert (read_info(path).format, read_info(path).frames) == (KINDS[name][0], len(WAVEFORM))
    waveform, rate = read_audio(path)
    assert rate == RATE
    expected = soundfile.read(io.BytesIO(path.read_bytes()), dtype="float32")[0] if name == "mp3" else WAVEFORM
    np.testing.assert_allclose(waveform.numpy(), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(read_audio(path, start=17_001, frames=500)[0], waveform[17_001:17_501])
    assert list(iter_audio_files(tmp_path)) == [path]


@pytest.mark.parametrize("name", KINDS)
def test_one_that_is_cut_is_refused(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:  # fault 4
    content = encoded(name)
    path = saved(tmp_path, name, content[: len(content) * 2 // 3])
    refused(path, "is cut, .* bytes are missing; restore it" if name != "caf" else "cannot be decoded")
    assert capfd.readouterr().err == ""  # nor do libraries say anything
    if name != "caf":
        with pytest.warns(UserWarning, match=r"is cut, .*; the rest is kept|samples are lost"):
            assert 0 < len(read_audio(path, lenient=True)[0]) < len(WAVEFORM)
    refused(saved(tmp_path, name, content[:60]), "cut|cannot be decoded")  # the header


def test_an_mp3_says_how_long_it_is_or_is_refused(tmp_path: Path) -> None:  # fault 18
    content = encoded("mp3")
    assert len(read_audio(saved(tmp_path, "mp3", NEW_TAG + content))[0]) == len(WAVEFORM)
    refused(saved(tmp_path, "mp3", NEW_TAG + content[:-500]), "is cut")
    refused(saved(tmp_path, "mp3", content.replace(b"Xing", b"Ping")), r"does not say how long it is \(streamed MP3\)")
    place = content.index(b"Xing") + 8
    endless = content[:place] + b"\x7f\xff\xff\xff" + content[place + 4 :]
    refused(saved(tmp_path, "mp3", endless), "s to read, the limit is max_seconds=3600")


def test_an_au_that_was_streamed_is_read_to_its_end(tmp_path: Path) -> None:  # fault 6
    content = encoded("au")
    path = saved(tmp_path, "au", content[:8] + b"\xff\xff\xff\xff" + content[12:])
    assert len(read_audio(path)[0]) == len(WAVEFORM)
