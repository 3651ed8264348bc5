"""Files in object storage: vocoded from there and to there as those of a folder, and what is refused."""

import errno
import importlib.util
import json
import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from object_storage import served
from test_bulk import OPTIONS, contents, make_inputs, make_mel, make_vocoder
from test_bulk_processes import finish, rows_of, start

from wavediff.audio import read_audio, read_info, write_audio
from wavediff.bulk import cluster
from wavediff.bulk.decoding import Blueprint, Settings
from wavediff.cli.main import main
from wavediff.errors import AudioError, ConfigError, MelError, MissingExtraError, OutputError
from wavediff.files import atomic_write
from wavediff.mel import read_mel, read_mel_pieces, write_mel
from wavediff.places import Address, place, there

pytestmark = pytest.mark.skipif(importlib.util.find_spec("obstore") is None, reason="needs the extra s3")
COMMAND = ["vocode", *OPTIONS, "--batch-size", "2", "--checkpoint", "model.safetensors"]
NAMES = [f"{number}.wav" for number in range(7)] + ["é 1#%20.wav"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model, mels and a recording in `in`, and in `whole` what one process makes of them."""
    folder = tmp_path_factory.mktemp("places")
    make_vocoder().save(folder / "model.safetensors")
    make_inputs(folder / "in")
    write_audio(folder / "in" / "below" / "é 1#%20.flac", torch.rand(9000) - 0.5, 22050)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        torch.set_num_threads(1)
        assert main([*COMMAND, "in", "-o", "whole"]) == 0
    assert sorted(contents(folder / "whole")) == NAMES
    return folder


@pytest.fixture(scope="module")
def client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Of a bucket `speech` with the inputs below `mels`."""
    with served(tmp_path_factory.mktemp("storage"), "speech"):
        import boto3

        client = boto3.client("s3")
        for name, data in contents(folder / "in").items():
            client.put_object(Bucket="speech", Key=f"mels/{PurePosixPath(name)}", Body=data)
        client.put_object(Bucket="speech", Key="mels/.hidden/x.npy", Body=b"")
        client.put_object(Bucket="speech", Key="mels/notes.txt", Body=b"")
        yield client


def objects(client: Any, prefix: str) -> dict[str, bytes]:
    """Every object below a prefix, by what is behind it."""
    rows = client.list_objects_v2(Bucket="speech", Prefix=prefix).get("Contents", [])
    body = {row["Key"]: client.get_object(Bucket="speech", Key=row["Key"])["Body"].read() for row in rows}
    return {key.removeprefix(prefix): data for key, data in body.items()}


@pytest.fixture
def vocode(folder: Path, client: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `wavediff vocode` in the folder; returns the exit status."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    torch.set_num_threads(1)
    return lambda *arguments: main([*COMMAND, *arguments])


@pytest.mark.parametrize("workers", ["0", "1"])
def test_what_is_vocoded_from_storage_to_storage_has_the_bytes_of_a_folder(
    workers: str, folder: Path, client: Any, vocode: Callable[..., int]
) -> None:
    assert vocode("s3://speech/mels/", "-o", f"s3://speech/out-{workers}/", "--workers", workers) == 0
    assert objects(client, f"out-{workers}/") == contents(folder / "whole")


def test_a_run_is_resumed_where_it_stopped(
    folder: Path, client: Any, vocode: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    client.upload_file(str(folder / "whole" / "3.wav"), "speech", "again/3.wav")
    before = client.head_object(Bucket="speech", Key="again/3.wav")["LastModified"]
    assert vocode("s3://speech/mels", "-o", "s3://speech/again") == 2
    assert "s3://speech/again/3.wav: already exists; pass --resume" in capsys.readouterr().err
    assert vocode("s3://speech/mels", "-o", "s3://speech/again", "--resume", "--json") == 0
    skipped = [row["output"] for row in rows_of(capsys.readouterr().out) if "skipped" in row]
    assert skipped == ["s3://speech/again/3.wav"]
    assert objects(client, "again/") == contents(folder / "whole")
    assert client.head_object(Bucket="speech", Key="again/3.wav")["LastModified"] == before


@pytest.mark.parametrize(("inputs", "output"), [("s3://speech/mels/[0-4].*", "here"), ("in", "s3://speech/there")])
def test_folders_and_storage_go_together(
    inputs: str, output: str, folder: Path, client: Any, vocode: Callable[..., int]
) -> None:
    assert vocode(inputs, "-o", output) == 0
    made = contents(folder / "here") if output == "here" else objects(client, "there/")
    whole = contents(folder / "whole")
    assert sorted(made) == (NAMES if output != "here" else NAMES[:5])
    assert {name: len(data) for name, data in made.items()} == {name: len(whole[name]) for name in made}


def test_processes_share_what_is_in_storage(folder: Path, client: Any) -> None:
    options = ["--devices", "2", "--workers", "0", "-o", "s3://speech/shared"]
    status, _, err = finish(start(folder, "-m", "wavediff.cli.main", *COMMAND, "s3://speech/mels", *options))
    assert status == 0, err
    assert objects(client, "shared/") == contents(folder / "whole")


@pytest.mark.long
def test_a_cluster_takes_it_from_storage_without_a_common_folder(folder: Path, client: Any, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    command = ["-m", "wavediff.cli.main", *COMMAND, "s3://speech/mels", "--engine", "ray", "--devices", "1"]
    command[command.index("model.safetensors")] = str(folder / "model.safetensors")
    status, _, err = finish(start(tmp_path, *command, "-o", "s3://speech/cluster"))
    assert status == 0, err
    assert objects(client, "cluster/") == contents(folder / "whole")
    worker = cluster.Worker(Blueprint(None, Settings()), "cpu", None)
    worker.ready()  # goes nowhere
    assert not ray.is_initialized()


def test_an_object_is_there_whole_or_not_at_all(client: Any) -> None:
    with pytest.raises(ZeroDivisionError), atomic_write(place("s3://speech/half/x.wav")) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert objects(client, "half/") == {}
    for count in (1, 2):
        write_audio("s3://speech/half/x.wav", torch.zeros(count), 8000, overwrite=count > 1)
    with pytest.raises(OutputError, match=r"s3://speech/half/x\.wav: already exists; remove it or pass --overwrite"):
        write_audio("s3://speech/half/x.wav", torch.zeros(9), 8000)
    assert read_info("s3://speech/half/x.wav").frames == 2


@pytest.mark.parametrize(
    ("inputs", "output", "cause"),
    [
        (
            "s3://nobody/mels",
            "out",
            r"s3://nobody/mels: cannot be listed \(no such bucket, nobody\); check the address",
        ),
        ("s3://speech/none", "out", r"s3://speech/none: nothing is there; name a folder, a pattern, or a file"),
        ("s3://speech/none/*", "out", r"s3://speech/none/\*: no audio or mel file there; check the folder"),
        (
            "s3://speech/mels/9.npy",
            "out",
            r"s3://speech/mels/9.npy: cannot be read \(no such object or bucket\); check",
        ),
        ("s3://speech/mels", "s3://nobody/out", r"s3://nobody/out: cannot be listed \(no such bucket, nobody\)"),
        ("s3://speech/mels", "s3://speech/a.wav", r"s3://speech/a.wav: is one file for 8 inputs; name a folder"),
        ("s3://speech/train.jsonl", "out", r"train.jsonl: a manifest is read from a folder of this machine; name a"),
        ("gs://speech/mels", "out", r"gs://speech/mels: cannot be listed \(an address is s3://bucket/name, no other"),
        ("in", "s3://", r"s3://: cannot be listed \(an address is s3://bucket/name, no other kind is kn"),
        ("s3://speech/own/1.wav", "s3://speech/own", r"s3://speech/own/1.wav: is an input and would be its own output"),
        (
            "s3://speech/locked",
            "out",
            r"s3://speech/locked/1.npy: cannot be read \(no permission: see AWS_ACCESS_KEY_ID",
        ),
        (
            "s3://speech/mels/1.npy",
            "s3://speech/locked",
            r"locked/1.wav: could not be written \(no permission: see AWS_",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    inputs: str, output: str, cause: str, client: Any, vocode: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    client.put_object(Bucket="speech", Key="own/1.wav", Body=b"")
    client.put_object(Bucket="speech", Key="locked/1.npy", Body=b"mel")
    deny = {"Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject", "s3:PutObject"]}
    policy = {"Statement": [deny | {"Resource": "arn:aws:s3:::speech/locked/*"}]}
    client.put_bucket_policy(Bucket="speech", Policy=json.dumps(policy))
    try:
        assert vocode(inputs, "-o", output, "--resume") == 2
    finally:
        client.delete_bucket_policy(Bucket="speech")
    *warned, line = capsys.readouterr().err.splitlines()
    assert re.search(cause, line)
    assert all(text.startswith("wavediff: warning: ") for text in warned)


def bad_files(folder: Path) -> Iterator[Path]:
    """What must be refused wherever it lies."""
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "cut.npy", make_mel(9).numpy())
    write_mel(folder / "cut.safetensors", make_mel(9), "hifigan")
    write_audio(folder / "cut.wav", torch.rand(900), 8000)
    write_audio(folder / "cut.ogg", torch.rand(9000), 8000)
    write_audio(folder / "cut.flac", torch.rand(9000), 8000)
    for path in folder.glob("cut.*"):
        path.write_bytes(path.read_bytes()[:-40])
    (folder / "huge.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    (folder / "empty.wav").write_bytes(b"")
    yield from folder.iterdir()


def test_what_is_hostile_is_refused_in_the_same_words(client: Any, tmp_path: Path) -> None:
    for path in bad_files(tmp_path):
        client.upload_file(str(path), "speech", f"bad/{path.name}")
        read = read_mel if path.suffix in (".npy", ".safetensors") else read_audio
        said = []
        for where in (path, f"s3://speech/bad/{path.name}"):
            with pytest.raises((AudioError, MelError)) as caught:
                read(where)
            said.append(str(caught.value).replace(str(where), "it"))
        assert said[0] == said[1]


def test_what_can_be_read_is_the_same(client: Any, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", torch.rand(90_000) - 0.5, 8000)
    unset = bytearray((tmp_path / "a.wav").read_bytes())
    unset[4:8] = unset[40:44] = bytes(4)  # as programs write that cannot go back
    (tmp_path / "unset.wav").write_bytes(unset)
    write_audio(tmp_path / "a.ogg", torch.rand(90_000) - 0.5, 8000)
    for path in tmp_path.iterdir():
        client.upload_file(str(path), "speech", f"good/{path.name}")
        for part in ({}, {"start": 70_001, "frames": 500}):
            there, here = (read_audio(where, **part)[0] for where in (f"s3://speech/good/{path.name}", path))
            assert torch.equal(there, here)
    np.save(tmp_path / "a.npy", make_mel(1000).numpy())
    client.upload_file(str(tmp_path / "a.npy"), "speech", "good/a.npy")
    pieces, _ = read_mel_pieces("s3://speech/good/a.npy", 300)
    assert torch.equal(torch.cat(list(pieces), 1), read_mel(tmp_path / "a.npy")[0])


def test_a_storage_that_fails_in_the_middle_is_no_damaged_file(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio("s3://speech/fails/a.wav", torch.rand(900_000), 8000)
    np.save(tmp_path / "a.npy", make_mel(2000).numpy())
    client.upload_file(str(tmp_path / "a.npy"), "speech", "fails/a.npy")
    part = Address.part

    def fails(self: Address, start: int, length: int) -> Any:
        if start:
            raise OSError(errno.EIO, "the storage is gone")
        return part(self, start, length)

    monkeypatch.setattr(Address, "part", fails)
    with pytest.raises(
        AudioError, match=r"s3://speech/fails/a.wav: cannot be read \(the storage is gone\); try it again"
    ):
        read_audio("s3://speech/fails/a.wav")
    with pytest.raises(MelError, match=r"s3://speech/fails/a.npy: cannot be read \(the storage is gone\); check"):
        read_mel("s3://speech/fails/a.npy")


def unknown(reason: str) -> Any:
    """What obstore says where it finds nobody who has keys."""
    raise Exception(reason)


def test_what_it_needs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    address = place("s3://speech/mels")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL: http://localhost:9000 is not encrypted; give it as https"):
        address.is_dir()
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with monkeypatch.context() as patch:
        patch.setattr("wavediff.places._store", lambda bucket: unknown("PUT http://169.254.169.254/latest/api/token"))
        with pytest.raises(PermissionError, match="no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            address.is_dir()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"s3://speech/mels: object storage needs obstore: pip install 'wavedi"):
        address.is_dir()


def test_an_address_is_taken_apart_and_joined_like_a_path() -> None:
    address = place("s3://bucket/a//b/x.tar.npy")
    assert str(address) == f"{address}" == os.fspath(address) == "s3://bucket/a/b/x.tar.npy"
    assert (address.name, address.stem, address.suffix) == ("x.tar.npy", "x.tar", ".npy")
    assert str(address.parent / "y.wav") == "s3://bucket/a/b/y.wav"
    assert address.relative_to(place("s3://bucket/a")) == PurePosixPath("b/x.tar.npy")
    assert pickle.loads(pickle.dumps(address)) == place(address) == address.absolute() == address  # noqa: S301
    assert isinstance(place("a/s3:/b"), Path)
    assert sorted([place("s3://b/b"), place("s3://b/a")])[0].name == "a"


def test_an_address_of_another_kind_is_an_error_of_its_door() -> None:
    with pytest.raises(
        AudioError, match=r"http://host/a.wav: cannot be read \(an address is s3://bucket/name, no other"
    ):
        read_audio("http://host/a.wav")
    with pytest.raises(MelError, match=r"http://host/a.npy: cannot be read \(an address is s3://bucket/name, no other"):
        read_mel("http://host/a.npy")
    with pytest.raises(OutputError, match=r"http://host/a.wav: could not be written \(an address is s3://bucket/name"):
        write_audio("http://host/a.wav", torch.zeros(9), 8000)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Address]:
    """Of what the storage was asked, and how often."""
    asked: list[Address] = []
    ask = Address._ask
    monkeypatch.setattr(Address, "_ask", lambda self, what: asked.append(self) or ask(self, what))
    return asked


def test_a_file_costs_few_requests(client: Any, vocode: Callable[..., int], asked: list[Address]) -> None:
    assert vocode("s3://speech/mels/[0-5].*", "-o", "s3://speech/few") == 0
    counts = Counter(str(address) for address in asked)
    assert counts["s3://speech/mels/1.npy"] == 3  # its header before the work and in it, and its values
    assert counts["s3://speech/few/1.wav"] == 2  # whether it is there, and that it is


def test_a_folder_of_storage_is_listed_once(client: Any, asked: list[Address]) -> None:
    wanted = [place(f"s3://speech/mels/{number}.safetensors") for number in range(9)]
    assert sorted(path.name for path in there(wanted)) == [f"{number}.safetensors" for number in (0, 2, 4, 6)]
    assert {str(address) for address in asked} == {"s3://speech/mels"}
