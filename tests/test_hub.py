"""Models in folders and on the Hugging Face Hub: no network, but stand-ins with the signatures of its library."""

import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import wavediff
from wavediff.cli.main import main
from wavediff.errors import CheckpointError, ConfigError, MissingExtraError, OutputError
from wavediff.models.hub import is_hub_id, model_card
from wavediff.pipelines.pipeline import Pipeline

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BOTH = [wavediff.Vocoder, wavediff.Generator]


@pytest.fixture(scope="module", params=BOTH, ids=["vocoder", "generator"])
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    loaded: Pipeline = request.param.from_pretrained(device="cpu")
    return loaded


def same_weights(one: Pipeline, other: Pipeline) -> bool:
    mine, theirs = one.denoiser.state_dict(), other.denoiser.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def front_matter(card: str) -> dict[str, Any]:
    import yaml

    parsed: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return parsed


def cached(home: Path, vocoder: Pipeline, repo_id: str = "someone/vocoder") -> Path:
    """A model as huggingface_hub keeps it after it was fetched."""
    folder = home / "hub" / f"models--{repo_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    vocoder.save(folder / "snapshots" / COMMIT / "model.safetensors")
    return folder


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_folder_is_read_as_it_was_written(pipeline: Pipeline, tmp_path: Path, no_network: None) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["README.md", "model.safetensors"]
    again = type(pipeline).from_pretrained(tmp_path / "model", "cpu")
    assert same_weights(pipeline, again)
    assert (again.config, again.facts) == (pipeline.config, pipeline.facts)


@pytest.mark.parametrize("existing", ["README.md", "model.safetensors"])
def test_nothing_in_a_folder_is_replaced_unasked(pipeline: Pipeline, tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    with pytest.raises(OutputError, match=existing):
        pipeline.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"
    pipeline.save_pretrained(tmp_path, overwrite=True)
    assert same_weights(pipeline, type(pipeline).from_pretrained(tmp_path, "cpu"))


def test_half_precision_is_half_the_size(tmp_path: Path) -> None:
    vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
    vocoder.save_pretrained(tmp_path / "half", half=True)
    vocoder.save_pretrained(tmp_path / "full")
    half, full = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full"))
    assert half < 0.6 * full


# --- the card ----------------------------------------------------------------------------------------------------


def test_the_card_says_what_the_model_file_knows(pipeline: Pipeline) -> None:
    facts = {"train_manifest": ["a/train.jsonl"], "steps": 12000, "evaluation": {"pesq": 3.1}, "license": "cc0-1.0"}
    card = model_card(pipeline.config, facts)
    front = front_matter(card)
    vocoder = isinstance(pipeline, wavediff.Vocoder)
    assert front["library_name"] == "wavediff"
    assert front["pipeline_tag"] == ("text-to-speech" if vocoder else "text-to-audio")
    assert "diffusion" in front["tags"]
    assert front["license"] == "cc0-1.0"
    for said in ("a/train.jsonl", "12000", '"pesq": 3.1', f"{pipeline.sample_rate} Hz"):
        assert said in card
    assert ("hifigan" in card) if vocoder else ("glass" in card), card
    assert front_matter(model_card(pipeline.config, facts, "mit"))["license"] == "mit"
    assert "license" not in front_matter(model_card(pipeline.config, {}))


def test_facts_cannot_leave_their_cell(pipeline: Pipeline) -> None:
    hostile = {"note": "a | b\n---\n# heading <script> [x](http://y) `c`", "license": "mit\nlibrary_name: evil"}
    card = model_card(pipeline.config, hostile)
    assert front_matter(card)["library_name"] == "wavediff"
    row = next(line for line in card.splitlines() if line.startswith("| note"))
    assert row.count("|") == 3
    assert "<script" not in card
    assert "# heading" not in card.splitlines()


# --- fetching ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | Exception], list[dict[str, Any]]]:
    """Replaces the download by a file or an error; gives the calls, bound to the real signature."""
    real = inspect.signature(huggingface_hub.hf_hub_download)

    def install(result: Path | Exception) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def stand_in(*args: Any, **options: Any) -> str:
            calls.append(dict(real.bind(*args, **options).arguments))
            if isinstance(result, Exception):
                logging.getLogger("huggingface_hub.utils._http").warning("%s: I try again", result)
                raise result
            return str(result)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", stand_in)
        return calls

    return install


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("someone/vocoder", True),
        (Path("someone/vocoder"), True),
        ("some.one/a_b-c.d", True),
        ("vocoder", False),
        ("a/b/c", False),
        ("/someone/vocoder", False),
        ("./vocoder", False),
        ("../vocoder", False),
        ("runs/last.safetensors", False),
        ("runs/last.ckpt", False),
        ("here/typo", False),
        ("here/there", False),
        ("a b/c", False),
    ],
)
def test_only_a_name_that_is_nothing_here_is_looked_for_on_the_hub(
    source: str | Path, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "there").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_hub_id(source) is expected


def test_a_model_is_fetched_by_name_and_revision(
    pipeline: Pipeline, tmp_path: Path, download: Callable[..., list[dict[str, Any]]]
) -> None:
    pipeline.save(tmp_path / "blob.safetensors")
    calls = download(tmp_path / "blob.safetensors")
    fetched = type(pipeline).from_pretrained("someone/model", "cpu", revision="v1")
    assert same_weights(pipeline, fetched)
    (call,) = calls
    assert (call["repo_id"], call["filename"], call["revision"]) == ("someone/model", "model.safetensors", "v1")


def test_what_was_fetched_is_loaded_as_strictly_as_any_file(
    tmp_path: Path, download: Callable[..., list[dict[str, Any]]]
) -> None:
    vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
    vocoder.save(tmp_path / "a.safetensors")
    damaged = bytearray((tmp_path / "a.safetensors").read_bytes())
    damaged[-3] ^= 1
    (tmp_path / "a.safetensors").write_bytes(damaged)
    download(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="SHA-256"):
        wavediff.Vocoder.from_pretrained("someone/model", "cpu")
    (tmp_path / "b.bin").write_bytes(b"PK\x03\x04" + bytes(100))
    download(tmp_path / "b.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        wavediff.Vocoder.from_pretrained("someone/model", "cpu")


def test_a_revision_of_a_local_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="revision"):
        wavediff.Vocoder.from_pretrained(tmp_path, revision="v1")
    with pytest.raises(ConfigError, match="bundled"):
        wavediff.Vocoder.from_pretrained(revision="v1")


RESPONSE = SimpleNamespace(headers={}, request=None)  # of whichever HTTP library it uses
FAILURES = {
    "LocalEntryNotFoundError": "not in the local cache.*cannot be reached.*give a file or folder",
    "RepositoryNotFoundError": "is not on the Hub, or is private; check the name",
    "GatedRepoError": "ask for access",
    "RevisionNotFoundError": "no such revision",
    "RemoteEntryNotFoundError": "holds no model.safetensors",
    "HFValidationError": "names are user/model",
    "ConnectionError": "ConnectionError: unplugged.*check connection",
}


@pytest.mark.filterwarnings("ignore:.*the Hugging Face Hub does not answer")
@pytest.mark.parametrize("kind", FAILURES)
def test_what_goes_wrong_is_one_error_with_cause_and_cure(
    kind: str,
    download: Callable[..., list[dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fault 82
    error = getattr(huggingface_hub.errors, kind, ConnectionError)
    needs_response = issubclass(error, huggingface_hub.errors.HfHubHTTPError)
    download(error("un\nplugged", response=RESPONSE) if needs_response else error("unplugged"))
    with pytest.raises(CheckpointError, match=rf"^someone/model, revision v1: .*{FAILURES[kind]}") as caught:
        wavediff.Generator.from_pretrained("someone/model", "cpu", revision="v1")
    assert "\n" not in str(caught.value)
    assert main(["generate", "--checkpoint", "someone/model", "-o", "never.wav"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert caplog.text == ""  # of what the library says of each attempt


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # fault 84
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"someone/model: .*pip install 'wavediff\[hub\]'"):
        wavediff.Vocoder.from_pretrained("someone/model", "cpu")
    vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
    with pytest.raises(MissingExtraError, match=r"wavediff\[hub\]"):
        vocoder.push_to_hub("someone/model")
    vocoder.save_pretrained(tmp_path / "model")  # needs none


def _offline(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with its own cache; no address but this machine's can be resolved."""
    variables = {**os.environ, "HF_HOME": str(home), **environment}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
        variables.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, cwd=home, timeout=300
    )


NO_NETWORK = (
    "import socket\n"
    "def refuse(*a, **k): raise OSError('no network')\n"
    "socket.getaddrinfo = refuse\n"
    "socket.socket.connect = refuse\n"
)
LOAD = (
    "import wavediff, wavediff.cli.main as cli\n"
    "print(wavediff.Vocoder.from_pretrained('someone/vocoder', 'cpu').sample_rate)\n"
)


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {}], ids=["offline mode", "no network"])
def test_a_model_in_the_cache_is_loaded_offline(tmp_path: Path, environment: dict[str, str]) -> None:  # fault 82
    vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
    cached(tmp_path, vocoder)
    done = _offline(NO_NETWORK + LOAD, tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(vocoder.sample_rate)]


def test_a_model_that_is_not_cached_is_one_error_offline(tmp_path: Path) -> None:  # fault 82
    code = "import sys, wavediff.cli.main as cli\nsys.exit(cli.main(['bench', '--checkpoint', 'someone/vocoder']))"
    code = code.replace("'bench'", "'vocode', 'a.wav', '-o', 'b.wav'")
    (tmp_path / "a.wav").write_bytes(b"")
    done = _offline(NO_NETWORK + code, tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "someone/vocoder: is not in the local cache" in done.stderr
    assert "HF_HUB_OFFLINE is set; unset it" in done.stderr
    assert done.stderr.count("\n") == 1


def test_that_the_hub_is_tried_again_is_said_before_the_waiting(tmp_path: Path) -> None:
    waiting = (
        "import huggingface_hub.utils._http as http\nhttp.time.sleep = lambda s: print('waits', file=sys.stderr)\n"
    )
    code = "import sys, wavediff.cli.main as cli\n" + waiting
    code += "sys.exit(cli.main(['vocode', 'a.wav', '-o', 'b.wav', '--checkpoint', 'someone/vocoder']))"
    (tmp_path / "a.wav").write_bytes(b"")
    done = _offline(NO_NETWORK + code, tmp_path)
    assert done.returncode == 2
    first, *waits, last = done.stderr.splitlines()
    assert "someone/vocoder: the Hugging Face Hub does not answer, it is tried again" in first
    assert set(waits) == {"waits"}
    assert "the Hub cannot be reached; check the connection" in last


def test_a_library_that_does_not_load_is_one_error(tmp_path: Path) -> None:
    code = "import sys, wavediff.cli.main as cli\n"
    code += "sys.exit(cli.main(['vocode', 'a.wav', '-o', 'b.wav', '--checkpoint', 'someone/vocoder']))"
    (tmp_path / "a.wav").write_bytes(b"")
    done = _offline(NO_NETWORK + code, tmp_path, HF_HUB_ETAG_TIMEOUT="soon")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "huggingface_hub does not load (ValueError: " in done.stderr
    assert "check the variables HF_HUB_*" in done.stderr


# --- pushing -----------------------------------------------------------------------------------------------------


class FakeApi:
    """The part of HfApi that is used; each call is bound to the real signature."""

    def __init__(self, **options: Any) -> None:
        inspect.signature(huggingface_hub.HfApi).bind(**options)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.holds: set[str] = set()
        self.uploaded: dict[str, bytes] = {}

    def __call__(self, **options: Any) -> "FakeApi":
        inspect.signature(huggingface_hub.HfApi).bind(**options)
        return self

    def _call(self, name: str, *args: Any, **options: Any) -> dict[str, Any]:
        real = inspect.signature(getattr(REAL_API, name))
        arguments = dict(real.bind(None, *args, **options).arguments)
        self.calls.append((name, arguments))
        return arguments

    def create_repo(self, *args: Any, **options: Any) -> None:
        self._call("create_repo", *args, **options)

    def create_branch(self, *args: Any, **options: Any) -> None:
        self._call("create_branch", *args, **options)

    def file_exists(self, *args: Any, **options: Any) -> bool:
        return self._call("file_exists", *args, **options)["filename"] in self.holds

    def upload_folder(self, *args: Any, **options: Any) -> SimpleNamespace:
        folder = Path(self._call("upload_folder", *args, **options)["folder_path"])
        self.uploaded = {path.name: path.read_bytes() for path in folder.iterdir()}
        return SimpleNamespace(commit_url="https://huggingface.co/someone/model/commit/1")


REAL_API = huggingface_hub.HfApi


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    return fake


def test_a_push_uploads_the_folder_in_one_commit(pipeline: Pipeline, api: FakeApi, tmp_path: Path) -> None:
    assert pipeline.push_to_hub("someone/model", private=True, license="mit").endswith("/commit/1")
    assert [name for name, _ in api.calls] == ["create_repo", "file_exists", "upload_folder"]
    assert api.calls[0][1]["private"] is True
    assert api.calls[0][1]["exist_ok"] is True
    assert sorted(api.uploaded) == ["README.md", "model.safetensors"]
    assert front_matter(api.uploaded["README.md"].decode())["license"] == "mit"
    (tmp_path / "model.safetensors").write_bytes(api.uploaded["model.safetensors"])
    assert same_weights(pipeline, type(pipeline).from_pretrained(tmp_path, "cpu"))


def test_a_push_replaces_no_model_unasked(api: FakeApi) -> None:
    vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
    api.holds = {"model.safetensors"}
    with pytest.raises(OutputError, match=r"someone/model: holds a model already; pass overwrite=True"):
        vocoder.push_to_hub("someone/model")
    assert api.uploaded == {}
    vocoder.push_to_hub("someone/model", overwrite=True)
    assert api.uploaded


def test_a_push_to_a_revision_makes_its_branch(api: FakeApi) -> None:
    wavediff.Vocoder.from_pretrained(device="cpu").push_to_hub("someone/model", revision="v2")
    calls = dict(api.calls)
    assert calls["create_branch"]["branch"] == "v2"
    assert calls["file_exists"]["revision"] == calls["upload_folder"]["revision"] == "v2"


def test_a_push_that_fails_is_an_error_of_ours(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise ConnectionError("unplugged")

    monkeypatch.setattr(FakeApi, "create_repo", refuse)
    with pytest.raises(OutputError, match=r"someone/model: .*unplugged.*hf auth login"):
        wavediff.Vocoder.from_pretrained(device="cpu").push_to_hub("someone/model")
