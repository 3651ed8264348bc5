"""Cut at every byte or changed in one bit, a file is refused; what may be kept of a recording is what was there."""

import random
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import originals
import pytest
import torch
from handmade import SAMPLES, wav
from torch import Tensor
from workers import closing_line

from wavediff.audio import read_audio
from wavediff.errors import AudioError, CheckpointError, MelError, WavediffError
from wavediff.mel import read_mel, read_mel_info
from wavediff.models.checkpoint import load_checkpoint

# Every 61st byte of the first 4 KiB and 20 places beyond, or every one and 500.
EFFORT = pytest.mark.parametrize(("step", "places"), [(61, 20), pytest.param(1, 500, marks=pytest.mark.long)])
HEADER = 44  # bytes before the samples of the WAV made by hand
STREAMED = {
    "sizes of zero": wav(riff_size=0, data_size=0),
    "sizes left open": wav(riff_size=0xFFFFFFFF, data_size=0xFFFFFFF0),
}


def cuts(content: bytes, step: int, places: int) -> Iterable[int]:
    """Lengths to cut a file to: in steps up to 4 KiB, at random anywhere, and at the last byte."""
    chance, size = random.Random(0), len(content)
    return sorted({*range(0, min(4096, size), step), *(chance.randrange(size) for _ in range(places)), size - 1})


def heard(path: Path, **options: bool) -> tuple[Tensor | None, list[str]]:
    """The samples of a recording, or None if it is refused in one line that names it, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            waveform, _ = read_audio(path, **options)
        except AudioError as error:
            waveform, refusal = None, str(error)
    if waveform is None:
        assert path.name in refusal
        assert "\n" not in refusal
        return None, []
    return waveform, [str(warning.message) for warning in caught]


@EFFORT
def test_a_model_file_cut_anywhere_is_refused(step: int, places: int, tmp_path: Path) -> None:  # fault 36
    start, path, content = time.monotonic(), tmp_path / "model.safetensors", originals.model()
    lengths = list(cuts(content, step, places))
    for length in lengths:
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=path.name):
            load_checkpoint(path)
    closing_line(f"cut model files: {len(lengths)} of {len(lengths)} refused", start)


@EFFORT
@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_mel_cut_anywhere_is_refused(kind: str, step: int, places: int, tmp_path: Path) -> None:
    start, path = time.monotonic(), tmp_path / f"mel.{kind}"
    content = originals.npy()[0] if kind == "npy" else originals.mel_file()
    lengths = list(cuts(content, step, places))
    for length in lengths:
        path.write_bytes(content[:length])
        for reader in (read_mel, read_mel_info):
            with pytest.raises(MelError, match=path.name):
                reader(path)
    closing_line(f"cut mels, .{kind}: {len(lengths)} of {len(lengths)} refused", start)


@EFFORT
def test_a_recording_cut_anywhere_is_refused_or_if_asked_kept_as_far_as_it_goes(  # fault 4
    step: int, places: int, tmp_path: Path
) -> None:
    start, refused, kept = time.monotonic(), 0, 0
    for format_, subtypes in originals.SUBTYPES.items():
        for subtype in subtypes:
            path = tmp_path / f"a.{format_.lower() if format_ in ('FLAC', 'OGG') else 'wav'}"
            content = originals.encoded(SAMPLES / 32768, format_, subtype)
            path.write_bytes(content)
            whole, _ = heard(path)
            assert whole is not None
            for length in cuts(content, step, places):
                path.write_bytes(content[:length])
                assert heard(path)[0] is None, f"{format_} {subtype} cut to {length} of {len(content)} bytes"
                refused += 1
                rest, told = heard(path, lenient=True)
                if rest is not None:
                    kept += 1
                    assert any("is cut" in warning for warning in told), f"{format_} {subtype}: no warning at {length}"
                    assert len(rest) <= len(whole)
                    if format_ != "OGG":  # which overlaps its blocks
                        assert torch.equal(rest, whole[: len(rest)]), f"{format_} {subtype}: other samples at {length}"
    assert kept > 0
    closing_line(f"cut recordings: {refused} of {refused} refused; lenient, {kept} kept in part with a warning", start)


@EFFORT
@pytest.mark.parametrize("name", STREAMED)
def test_a_streamed_recording_is_read_to_where_it_ends(  # fault 6
    name: str, step: int, places: int, tmp_path: Path
) -> None:
    start, path, content = time.monotonic(), tmp_path / "a.wav", STREAMED[name]
    lengths = list(cuts(content, step, places))
    for length in lengths:
        path.write_bytes(content[:length])
        waveform, _ = heard(path)
        frames = max(0, length - HEADER) // 2
        expected = torch.from_numpy(SAMPLES[:frames].astype("f4") / 32768) if frames else None
        assert (waveform is None) == (expected is None), f"cut to {length} bytes"
        if waveform is not None and expected is not None:
            assert torch.equal(waveform, expected), f"cut to {length} bytes"
    closing_line(f"streamed recordings, {name}: {len(lengths)} lengths read to their ends", start)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_every_flipped_bit_of_a_model_file_is_noticed(count: int, tmp_path: Path) -> None:  # fault 37
    start, chance, path = time.monotonic(), random.Random(0), tmp_path / "model.safetensors"
    whole = bytearray(originals.model())
    for number in range(count):
        # Half of them in the header, which is a small part of the file.
        place = chance.randrange(len(whole) if number % 2 else 2048)
        bit = 1 << chance.randrange(8)
        whole[place] ^= bit
        path.write_bytes(whole)
        with pytest.raises(WavediffError, match=path.name):
            load_checkpoint(path).build()
        whole[place] ^= bit
    path.write_bytes(whole)
    load_checkpoint(path).build()
    closing_line(f"flipped bits of a model file: {count} of {count} noticed", start)
