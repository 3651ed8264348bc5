"""From a seed to one damaged input, and what may become of it: refused in one line, or taken for what it says."""

import contextlib
import io
import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import originals
import torch
import yaml
from mutations import mutant, text_mutant, tree_mutant, with_checksums, zip_mutant
from workers import Case

from wavediff.app.queue import RequestError
from wavediff.app.requests import generate_options, parse_object
from wavediff.audio import read_audio, read_info
from wavediff.data.manifest import read_manifest
from wavediff.errors import AudioError, CheckpointError, DataError, WavediffError
from wavediff.mel import check_mel, read_mel, read_mel_info
from wavediff.mel.mel_files import read_mel_pieces
from wavediff.models.checkpoint import load_checkpoint
from wavediff.models.file import digest
from wavediff.models.importing import import_checkpoint
from wavediff.models.torch_load import load_restricted
from wavediff.training.guards import trained_model


def one_line(error: WavediffError, name: str) -> str:
    """An error that is as it should be."""
    message = str(error)
    assert message.isprintable() or "\n" not in message, f"more than one line: {message!r}"
    assert name in message, f"does not name {name}: {message!r}"
    return "refused"


@contextlib.contextmanager
def no_canary(folder: Path) -> Iterator[None]:
    """Whatever is loaded in it runs nothing."""
    os.chdir(folder)
    yield
    canary = folder / "canary"
    if canary.exists():
        canary.unlink()
        raise AssertionError("the canary was created: something in the file was run")


def audio(seed: int, folder: Path) -> str:
    """A recording, read whole or in part, strictly or not, with or without resampling."""
    chance = random.Random(seed)
    name, content = chance.choice(originals.audio())
    damaged = mutant(content, chance)
    if name.endswith(".ogg") and chance.random() < 0.5:
        damaged = with_checksums(damaged)
    path, lenient = folder / name, chance.random() < 0.5
    path.write_bytes(damaged)
    try:
        info, start, frames = read_info(path, lenient=lenient), 0, None
        if chance.random() < 0.3:
            start = chance.randrange(min(info.frames, 2000))
            frames = chance.randrange(1, min(info.frames - start, 2000) + 1)
        rate = chance.choice([None, None, 22_050])
        waveform, got = read_audio(path, rate, start=start, frames=frames, lenient=lenient)
    except AudioError as error:
        return one_line(error, name)
    assert waveform.ndim == 1, "not one channel"
    assert len(waveform) > 0, "no samples"
    assert got == (rate or info.sample_rate), "another rate than was asked for"
    assert waveform.isfinite().all(), "samples that are not finite"
    return "read"


def _mel(path: Path) -> str:
    try:
        info = read_mel_info(path)
        mel, spec = read_mel(path)
        pieces, _ = read_mel_pieces(path, 5)
        assert torch.cat(list(pieces), -1).nan_to_num().equal(mel.nan_to_num()), "other values piece by piece"
        assert (info.n_mels, info.frames, info.spec) == (*mel.shape, spec), "the header says something else"
        mel = check_mel(mel, spec or originals.HIFIGAN, source=str(path))
    except WavediffError as error:
        return one_line(error, path.name)
    assert mel.isfinite().all(), "values that are not finite"
    return "read"


def npy(seed: int, folder: Path) -> str:
    """A mel, or an array of pickles."""
    chance = random.Random(seed)
    path = folder / "mel.npy"
    path.write_bytes(mutant(chance.choice(originals.npy()), chance))
    with no_canary(folder):
        return _mel(path)


def pt(seed: int, folder: Path) -> str:
    """A foreign or training checkpoint; half of the zips have checksums that hold."""
    chance = random.Random(seed)
    content = chance.choice(originals.checkpoints())
    rebuilt = content.startswith(b"PK") and chance.random() < 0.5
    path = folder / "x.pt"
    path.write_bytes(zip_mutant(content, chance) if rebuilt else mutant(content, chance))
    readers: list[Callable[[Path], Any]] = [import_checkpoint, trained_model]
    outcome = "refused"
    with no_canary(folder):
        try:
            load_restricted(path, "test")
            outcome = "read"
        except CheckpointError as error:
            one_line(error, path.name)
        for reader in readers:
            try:
                reader(path)
            except CheckpointError as error:
                one_line(error, path.name)
    return outcome


def safetensors(seed: int, folder: Path) -> str:
    """A model file or a mel: bytes damaged, or its header changed by one who knows the format and the hash."""
    chance = random.Random(seed)
    is_mel = chance.random() < 0.4
    content = originals.mel_file() if is_mel else originals.model()
    way, path = chance.randrange(3), folder / "x.safetensors"
    if way == 0:
        path.write_bytes(mutant(content, chance))
    else:
        header, data = _split(content)
        key = "mel_spec" if is_mel else "model"
        if way == 1:
            header = tree_mutant(header, chance)
        elif chance.random() < 0.5:
            header["__metadata__"][key] = json.dumps(tree_mutant(json.loads(header["__metadata__"][key]), chance))
        else:
            damaged = text_mutant(header["__metadata__"][key].encode(), chance)
            header["__metadata__"][key] = damaged.decode("utf-8", "replace")
        _forge(path, header, data)
    with no_canary(folder):
        if is_mel:
            return _mel(path)
        try:
            load_checkpoint(path).build()
        except CheckpointError as error:
            return one_line(error, path.name)
    return "read"


def _split(content: bytes) -> tuple[Any, bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _forge(path: Path, header: Any, data: bytes) -> None:
    """Write it, with the hash that belongs to it where it still has tensors."""
    from safetensors.torch import load

    def content() -> bytes:
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict) and "sha256" in metadata:
        with contextlib.suppress(Exception):  # else it is refused before its hash is looked at
            metadata["sha256"] = digest(load(content()), metadata)
    path.write_bytes(content())


def json_(seed: int, folder: Path) -> str:
    """A manifest, or what a client of the service sends."""
    chance = random.Random(seed)
    rows = originals.MANIFEST if chance.random() < 0.5 else originals.REQUEST
    tree = tree_mutant(rows, chance) if chance.random() < 0.6 else rows
    lines = tree if isinstance(tree, list) and rows is originals.MANIFEST else [tree]
    content = originals.manifest_lines(lines)
    if tree is rows or chance.random() < 0.2:
        content = text_mutant(content, chance)
    return _manifest(content, folder) if rows is originals.MANIFEST else _request(content)


def _manifest(content: bytes, folder: Path) -> str:
    path = folder / "m.jsonl"
    path.write_bytes(content)
    try:
        utterances = read_manifest(path)
    except DataError as error:
        return one_line(error, path.name)
    for utterance in utterances:
        assert utterance.path.is_absolute(), "a path that depends on the working folder"
        assert 0 < utterance.seconds < 1e9, "an impossible duration"
    return "read"


def _request(content: bytes) -> str:
    try:
        options = generate_options(parse_object(content), ("glass", "wood"), 10.0)
    except RequestError as refusal:
        status, message = refusal.status, one_line(refusal, "") and str(refusal)
    else:
        assert options["seconds"] is None or 0.05 <= options["seconds"] <= 10, "an impossible duration"
        return "read"
    assert status == 400, f"status {status}"
    message.encode()  # it is sent as UTF-8
    return "refused"


class Built(Exception):  # noqa: N818  # nothing went wrong
    """A recipe from which everything could be built; its training is not begun."""


def yaml_(seed: int, folder: Path) -> str:
    """A recipe, read by the command up to where the training would begin."""
    from wavediff.cli.main import main

    _build_only()
    chance = random.Random(seed)
    content = chance.choice(originals.recipes())
    if chance.random() < 0.5:
        content = text_mutant(content, chance)
    else:
        tree = tree_mutant(yaml.safe_load(content), chance)
        content = yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace")
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    os.chdir(folder)
    said, status = io.StringIO(), None
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main(["train", "--config", str(path)])
    except SystemExit as error:
        status = error.code
    except Built:
        return "read"
    last = said.getvalue().rstrip().splitlines()[-1:]
    assert status == 2, f"status {status}: {last}"
    assert last, "no word of what is wrong"
    assert "Traceback" not in said.getvalue(), "a traceback"
    return "refused"


def _build_only() -> None:
    """Make the parser once, for it takes most of the time, and stop before the training."""
    from wavediff.cli.train import TrainingCLI
    from wavediff.data.datamodule import AudioDataModule

    if hasattr(TrainingCLI, "kept"):
        return
    setup = TrainingCLI.setup_parser
    TrainingCLI.kept = {}  # type: ignore[attr-defined]

    def setup_once(self: Any, *args: Any) -> None:
        if not self.kept:
            setup(self, *args)
            self.kept.update({key: vars(self)[key] for key in vars(self) if "pars" in key or "method" in key})
        vars(self).update(self.kept)

    def stop(self: Any, subcommand: str) -> None:
        raise Built

    AudioDataModule.open = lambda self: None  # type: ignore[method-assign]  # a recipe is read without its data
    TrainingCLI.setup_parser = setup_once  # type: ignore[method-assign]
    TrainingCLI._run_subcommand = stop  # type: ignore[method-assign]


CASES: dict[str, Case] = {
    "audio": audio,
    "npy": npy,
    "pt": pt,
    "safetensors": safetensors,
    "json": json_,
    "yaml": yaml_,
}
