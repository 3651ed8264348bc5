"""Mel files: what is written is read again, and what is hostile or damaged is refused."""

import json
import math
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wavediff.errors import MelError, OutputError
from wavediff.mel import PRESETS, MelSpec, read_mel, write_mel
from wavediff.mel.mel_files import read_mel_pieces

HIFIGAN, T2 = MelSpec(), PRESETS["tacotron2"]


@pytest.fixture
def mel() -> Tensor:
    return torch.linspace(-11, 1, 80 * 6).reshape(6, 80).T.contiguous()


@pytest.mark.parametrize("extension", ["npy", "safetensors", "NPY"])
def test_a_mel_survives_its_file(extension: str, mel: Tensor, tmp_path: Path) -> None:
    path = tmp_path / f"-ünïcode name.{extension}"
    write_mel(path, mel[None], T2)
    back, spec = read_mel(path)
    assert torch.equal(back, mel)
    assert spec == (T2 if extension == "safetensors" else None)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_arrays_of_other_projects_are_read(order: str, dtype: str, mel: Tensor, tmp_path: Path) -> None:
    array = np.array(mel.numpy()[None], dtype=dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "mel.npy", array)
    back, spec = read_mel(tmp_path / "mel.npy")
    assert spec is None
    np.testing.assert_array_equal(back.numpy(), array[0].astype(np.float32))


def test_a_file_is_not_overwritten_unless_asked(mel: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "mel.npy"
    write_mel(path, mel, T2)
    with pytest.raises(OutputError, match="already exists"):
        write_mel(path, mel + 1, T2)
    assert torch.equal(read_mel(path)[0], mel)
    write_mel(path, mel + 1, T2, overwrite=True)
    assert torch.equal(read_mel(path)[0], mel + 1)


@pytest.mark.parametrize("wrong", [torch.zeros(100, 4), torch.zeros(2, 80, 4), torch.full((80, 4), math.nan)])
def test_what_could_not_be_read_again_is_not_written(wrong: Tensor, tmp_path: Path) -> None:
    with pytest.raises(MelError):
        write_mel(tmp_path / "mel.safetensors", wrong, T2)
    assert not list(tmp_path.iterdir())


def npy(shape: str, body: bytes, descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("(80, 1000000000)", b"\0" * 400), "claims 320000000000 bytes"),  # fault 34
        (npy("(80, 2)", b"\0" * 639), "claims 640 bytes .* holds 639"),
        (npy("(80, 1)", b"\0" * 640), "claims 320 bytes .* holds 640"),
        (npy("(-80, -2)", b"\0" * 640), "shape"),
        (npy("(80, 0)", b""), "no frames"),
        (npy("()", b"\0" * 4), "shape"),
        (npy("(80, 1)", b"\0" * 640, "'<i8'"), "int64"),
        (npy("(80, 1)", b"\0" * 640, "[('a', '<f8')]"), "holds"),
        (npy("(80, 1)", b"\0" * 640, "'|O'"), "object"),
        (npy("__import__('os')", b""), "not a .npy file"),
        (npy("(" * 300 + ")" * 300, b""), "not a .npy file"),
        (b"\x93NUMPY\x03\x00" + b"\xff" * 40, "not a .npy file"),
        (b"RIFF....WAVE", "not a .npy file"),
        (b"", "not a .npy file"),
    ],
)
def test_a_hostile_or_damaged_npy_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mel.npy"
    path.write_bytes(content)
    with pytest.raises(MelError, match=message) as caught:
        read_mel(path)
    assert str(path) in str(caught.value)


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickled_npy_is_refused_unopened(tmp_path: Path) -> None:  # fault 35
    canary = tmp_path / "canary"
    np.save(tmp_path / "mel.npy", np.array([Canary(canary)], dtype=object), allow_pickle=True)
    with pytest.raises(MelError, match="never pickles"):
        read_mel(tmp_path / "mel.npy")
    assert not canary.exists()


def safetensors(mel: Tensor, path: Path, spec: str | None = None, key: str = "mel") -> Path:
    save_file({key: mel}, path, metadata=None if spec is None else {"mel_spec": spec})
    return path


def test_a_safetensors_file_without_a_dialect_is_read(mel: Tensor, tmp_path: Path) -> None:
    back, spec = read_mel(safetensors(mel.half(), tmp_path / "mel.safetensors"))
    assert torch.equal(back, mel.half().float())
    assert spec is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_width_of_float_in_safetensors_is_read_whole_and_in_pieces(
    dtype: torch.dtype, mel: Tensor, tmp_path: Path
) -> None:
    path, expected = safetensors(mel.to(dtype), tmp_path / "mel.safetensors"), mel.to(dtype).float()
    assert torch.equal(read_mel(path)[0], expected)
    assert torch.equal(torch.cat(list(read_mel_pieces(path, 4)[0]), -1), expected)


@pytest.mark.parametrize("extension", ["npy", "safetensors"])
def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(extension: str, mel: Tensor, tmp_path: Path) -> None:
    """Of a memory map it would be the end of the process."""
    path = tmp_path / f"mel.{extension}"
    write_mel(path, mel, T2)
    pieces, _ = read_mel_pieces(path, 1)
    next(pieces)
    os.truncate(path, path.stat().st_size - mel.shape[1] * 4)
    with pytest.raises(MelError, match="has become shorter"):
        list(pieces)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("[" * 100_000, "not JSON"),
        ("{", "not JSON"),
        ("{}", "missing"),
        (json.dumps({**HIFIGAN.to_dict(), "floor": math.nan}), "floor"),
        (json.dumps({**HIFIGAN.to_dict(), "n_fft": 10**9}), "n_fft"),
        (json.dumps(PRESETS["vocos-24k"].to_dict()), "expected 100 bands"),
    ],
)
def test_a_safetensors_file_with_a_bad_dialect_is_refused(spec: str, message: str, mel: Tensor, tmp_path: Path) -> None:
    with pytest.raises(MelError, match=message):
        read_mel(safetensors(mel, tmp_path / "mel.safetensors", spec))


def test_safetensors_that_hold_no_mel_are_refused(mel: Tensor, tmp_path: Path) -> None:
    with pytest.raises(MelError, match="one tensor named 'mel'"):
        read_mel(safetensors(mel, tmp_path / "a.safetensors", key="weight"))
    with pytest.raises(MelError, match="I64"):
        read_mel(safetensors(mel.long(), tmp_path / "b.safetensors"))  # fault 31
    with pytest.raises(MelError, match="batch of 2"):
        read_mel(safetensors(mel.repeat(2, 1, 1), tmp_path / "c.safetensors"))
    header = tmp_path / "d.safetensors"
    header.write_bytes(struct.pack("<Q", 12 << 20) + b" " * (12 << 20))
    with pytest.raises(MelError, match="header claims"):
        read_mel(header)


def test_other_names_and_things_that_are_no_files_are_refused(mel: Tensor, tmp_path: Path) -> None:
    with pytest.raises(MelError, match=r"\.npy or \.safetensors"):
        read_mel(tmp_path / "mel.pt")
    with pytest.raises(MelError, match=r"\.npy or \.safetensors"):
        write_mel(tmp_path / "mel.pt", mel, T2)
    with pytest.raises(MelError, match="no such file"):
        read_mel(tmp_path / "absent.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(MelError, match="no such file"):
        read_mel(tmp_path / "folder.npy")


@pytest.mark.parametrize("extension", ["npy", "safetensors"])
def test_a_mutated_file_is_refused_or_read_never_anything_else(extension: str, mel: Tensor, tmp_path: Path) -> None:
    path = tmp_path / f"mel.{extension}"
    write_mel(path, mel, T2)
    whole = path.read_bytes()
    dice = random.Random(0)
    for trial in range(300):
        mutant = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            mutant[dice.randrange(min(len(mutant), 1200))] = dice.randrange(256)
        if trial % 3 == 0:
            mutant = mutant[: dice.randrange(len(mutant))]
        path.write_bytes(mutant)
        try:
            read, _ = read_mel(path)
        except MelError:
            continue
        assert trial % 3  # a truncated file never reads
        assert read.isfinite().all()
