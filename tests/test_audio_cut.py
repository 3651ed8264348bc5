"""Audio files that are empty, cut, streamed or trailed by junk."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from handmade import RATE, SAMPLES, refused, saved, wav

from wavediff.audio import read_audio, read_info, write_audio
from wavediff.errors import AudioError

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.fixture(scope="module")
def speech(ljspeech: Path) -> torch.Tensor:
    return read_audio(ljspeech / "wavs" / "LJ001-0002.wav")[0]


def test_the_wav_built_by_hand_is_good(tmp_path: Path) -> None:
    waveform, rate = read_audio(saved(tmp_path, wav()))
    assert rate == RATE
    np.testing.assert_array_equal(waveform.numpy() * 32768, SAMPLES)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:  # fault 1
    refused(saved(tmp_path, b""), "is empty")


@pytest.mark.parametrize("length", [1, 4, 11, 12, 20, 30, 36, 43])
def test_a_cut_header_is_refused(tmp_path: Path, length: int) -> None:  # fault 2
    refused(saved(tmp_path, wav()[:length]), "header is cut" if length >= 12 else "cut|text")


@pytest.mark.parametrize("extension", ["flac", "ogg"])
def test_a_cut_flac_or_ogg_header_is_refused(tmp_path: Path, extension: str) -> None:
    write_audio(tmp_path / f"good.{extension}", torch.zeros(1000), RATE)
    whole = (tmp_path / f"good.{extension}").read_bytes()
    for length in (3, 4, 20, 60):
        refused(saved(tmp_path, whole[:length], f"a.{extension}"), "cut|text|decoded")  # fault 2


def test_zero_samples_are_refused(tmp_path: Path) -> None:  # fault 3
    refused(saved(tmp_path, wav(b"")), "holds no samples")
    with pytest.raises(AudioError, match=r"a\.wav: holds no samples"):
        read_info(saved(tmp_path, wav(b"", after=struct.pack("<4sI4s", b"LIST", 4, b"INFO"))))
    odd = struct.pack("<4sI3s", b"note", 3, b"odd")  # whether or not it is filled up to an even length
    refused(saved(tmp_path, wav(b"", after=odd)), "holds no samples")
    refused(saved(tmp_path, wav(b"", after=odd + b"\0" + odd + b"\0")), "holds no samples")


def test_a_cut_wav_is_refused_or_read_leniently(tmp_path: Path) -> None:  # fault 4
    path = saved(tmp_path, wav()[:-501])
    refused(path, "is cut, the last 251 of 1000 samples are missing")
    with pytest.raises(AudioError, match=r"a\.wav: is cut"):
        read_info(path)
    with pytest.warns(UserWarning, match=r"a\.wav: is cut, the last 251 of 1000 samples are missing"):
        waveform, _ = read_audio(path, lenient=True)
    np.testing.assert_array_equal(waveform.numpy() * 32768, SAMPLES[:749])


def test_a_cut_rf64_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "b.wav", SAMPLES, RATE, format="RF64")
    whole = (tmp_path / "b.wav").read_bytes()
    assert len(read_audio(tmp_path / "b.wav")[0]) == 1000
    refused(saved(tmp_path, whole[:-100]), "the last 50 of 1000 samples are missing")  # fault 4


@pytest.mark.parametrize("extension", ["flac", "ogg"])
def test_a_cut_flac_or_ogg_is_refused_or_read_leniently(
    tmp_path: Path, speech: torch.Tensor, extension: str
) -> None:  # fault 4
    write_audio(tmp_path / f"good.{extension}", speech, 22_050)
    good, _ = read_audio(tmp_path / f"good.{extension}")
    whole = (tmp_path / f"good.{extension}").read_bytes()
    refused(saved(tmp_path, whole[:-10], f"a.{extension}"), "is cut")
    path = saved(tmp_path, whole[: len(whole) // 2], f"a.{extension}")
    refused(path, "is cut")
    with pytest.warns(UserWarning, match=f"a.{extension}: is cut"):
        kept, _ = read_audio(path, lenient=True)
    assert len(good) * 0.3 < len(kept) < len(good) * 0.7
    torch.testing.assert_close(kept[:-2048], good[: len(kept) - 2048])  # the last block of Vorbis lacks its overlap


def test_a_flipped_bit_in_flac_is_noticed(tmp_path: Path, speech: torch.Tensor) -> None:
    write_audio(tmp_path / "good.flac", speech, 22_050)
    damaged = bytearray((tmp_path / "good.flac").read_bytes())
    damaged[len(damaged) // 2] ^= 4
    refused(saved(tmp_path, bytes(damaged), "a.flac"), "is cut or damaged")


@pytest.mark.parametrize(
    ("content", "warning"),
    [
        (wav() + b"\0", "header says 2044 bytes, it has 2045"),
        (wav(SAMPLES.tobytes() + b"\1"), "1 odd bytes after the last whole sample"),
        (wav(riff_size=9999), "header says 10007 bytes, it has 2044"),
    ],
)
def test_odd_bytes_are_warned_of(tmp_path: Path, content: bytes, warning: str) -> None:  # fault 5
    with pytest.warns(UserWarning, match=f"a.wav: {warning}"):
        waveform, _ = read_audio(saved(tmp_path, content))
    np.testing.assert_array_equal(waveform.numpy() * 32768, SAMPLES)


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [
        (0xFFFFFFFF, 0xFFFFFFF0),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFF024, 0x7FFFF000),
        (0, 0),
        (36, 0),
        (0xFFFFFFFF, 0),
        (0xFFFFFFFF, 2000),
        (36 + 2000, 0),  # closed, but for the size of the samples
    ],
)
def test_streamed_wav_is_read_to_its_end(tmp_path: Path, riff_size: int, data_size: int) -> None:  # fault 6
    path = saved(tmp_path, wav(riff_size=riff_size, data_size=data_size))
    assert read_info(path).frames == 1000
    np.testing.assert_array_equal(read_audio(path)[0].numpy() * 32768, SAMPLES)
    np.testing.assert_array_equal(read_audio(path, start=7, frames=90)[0].numpy() * 32768, SAMPLES[7:97])
