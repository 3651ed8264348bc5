"""Pickles that are hostile, compressed, cut or changed."""

import copy
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_files import author_state, lmnt_state, refused, saved

from wavediff.errors import CheckpointError
from wavediff.models.torch_load import load_restricted
from wavediff.training.guards import load_training_checkpoint


class Hostile:
    """Unpickled without restriction, it creates the canary."""

    def __init__(self, canary: Path, way: str) -> None:
        self.canary, self.way = str(canary), way

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.canary}",)) if self.way == "system" else (open, (self.canary, "w"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("way", ["system", "open"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, way: str, zipped: bool) -> None:
    canary = tmp_path / "canary"
    for key, inner in (("model", "input_projection.bias"), ("params", "sample_rate"), ("optimizer", "state")):
        state = lmnt_state()
        state[key][inner] = Hostile(canary, way)
        path = saved(tmp_path, state, zipped=zipped)
        refused(path, "asks to run")  # faults 38, 48
        with pytest.raises(CheckpointError, match="asks to run"):
            load_training_checkpoint(path)
        assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists()  # the pickle was live


def test_a_compressed_file_is_refused(tmp_path: Path) -> None:
    path, packed = saved(tmp_path, author_state()), tmp_path / "packed.pkl"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry))
    torch.load(packed, weights_only=True)  # torch has no objection
    refused(packed, "is compressed")  # fault 39
    with pytest.raises(CheckpointError, match="is compressed"):
        load_training_checkpoint(packed)


def test_a_file_that_unpacks_to_more_than_itself_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": torch.ones(1000)})
    with zipfile.ZipFile(path, "a") as archive:
        for index in range(1000):  # all on the same bytes
            entry = copy.copy(max(archive.filelist, key=lambda entry: entry.file_size))
            entry.filename = f"{index}"
            archive.filelist.append(entry)
        archive.writestr("last", b"")
    refused(path, "more than its own size")  # fault 39


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path, {"model": {"a": torch.arange(8.0)}}, zipped=zipped)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):  # fault 36
            load_restricted(path, "test")


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    weights = torch.arange(64.0)
    path = saved(tmp_path, {"model": weights})
    content, caught = path.read_bytes(), 0
    at = content.index(weights.numpy().tobytes())
    for position in (*range(at, at + 256), *range(0, len(content), 5)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        try:
            assert torch.equal(load_restricted(path, "test")["model"], weights)
        except CheckpointError:
            caught += 1
    assert caught >= 256  # fault 37
