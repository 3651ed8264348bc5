"""Homes that cannot be written, no network, other locales, other masks of permissions."""

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY

from wavediff import Vocoder
from wavediff.audio import read_audio, write_audio
from wavediff.cli.demo import CLIP
from wavediff.data.manifest import Utterance, write_manifest
from wavediff.files import TEMPORARY_SUFFIX, atomic_write, sweep_temporaries
from wavediff.mel import MelSpec, write_mel
from wavediff.training.guards import AtomicCheckpointIO

CACHES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "HF_HOME")


def variables(**changed: str) -> dict[str, str]:
    """The environment without what would lead around the home folder."""
    return {name: value for name, value in os.environ.items() if name not in CACHES} | changed


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    """What tests/offline.py says without network and home, what it wrote to standard error, and where."""
    pytest.importorskip("uvicorn", reason="the web page's libraries are absent: pip install 'wavediff[serve]'")
    folder = tmp_path_factory.mktemp("alone")
    prefix = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]  # a namespace with no interface but lo
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        prefix = []  # what the audit hook sees must do
    done = subprocess.run(
        [*prefix, sys.executable, str(Path(__file__).with_name("offline.py")), str(folder)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=variables(HOME="/dev/null"),  # no folder at all, so that not even root can write there
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr, folder


def test_without_a_home_that_can_be_written_everything_works(  # fault 81
    alone: tuple[dict[str, Any], str, Path],
) -> None:
    said, errors, folder = alone
    assert said["status"] == dict.fromkeys(("vocode", "generate", "report", "train", "serve"), 0), errors
    assert (folder / "speech.wav").is_file()
    assert (folder / "run" / "last.ckpt").is_file()


def test_what_is_done_on_this_machine_uses_no_network(alone: tuple[dict[str, Any], str, Path]) -> None:  # fault 82
    assert alone[0]["tried"] == []


# Locales

SPEAK = """
import json, locale, os, sys
locale.setlocale(locale.LC_ALL, "")
from wavediff.cli.main import main
source, folder = sys.argv[1:]
assert main(["vocode", source, "-o", folder + "/speech.wav", "--num-steps", "1", "--seed", "7", "--quiet"]) == 0
assert main(["info", source, "--json"]) == 0
assert main(["doctor", os.path.dirname(source) + "/mel.npy"]) == 0
print(1.5, locale.localeconv()["decimal_point"], "I".lower(), file=sys.stderr)
"""


def test_in_other_locales_the_output_is_the_same(tmp_path: Path) -> None:  # fault 85
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/tr_TR").exists():
        pytest.skip("locales cannot be made here (localedef, /usr/share/i18n)")
    for name in ("tr_TR", "de_DE"):  # whose i has another capital; whose decimals have a comma
        subprocess.run(["localedef", "-i", name, "-f", "UTF-8", str(tmp_path / f"{name}.UTF-8")], capture_output=True)
    recording = read_audio(CLIP, frames=22_050)
    source = tmp_path / "aufnahme ıİß.wav"
    write_audio(source, *recording)
    vocoder = Vocoder.from_pretrained(device="cpu")
    write_mel(tmp_path / "mel.npy", vocoder.mel(*recording)[0], vocoder.mel_spec)
    started = {}
    for locale in ("C", "tr_TR.UTF-8", "de_DE.UTF-8"):
        folder = tmp_path / locale.replace(".", "_")
        folder.mkdir()
        environment = variables(LC_ALL=locale, LANG=locale, LOCPATH=str(tmp_path), OMP_NUM_THREADS="1")
        if locale == "C":  # in earnest, and not as UTF-8
            environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        started[folder] = subprocess.Popen(
            [sys.executable, "-c", SPEAK, str(source), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
            env=environment,
        )
    said, points = [], set()
    for folder, process in started.items():
        output, errors = process.communicate()
        assert process.returncode == 0, errors.decode(errors="replace")
        points.add(errors.split()[-2])
        facts = [line for line in output.splitlines() if b"aufnahme" not in line or line.startswith(b"{")]
        facts = [{k: v for k, v in json.loads(x).items() if k != "path"} if x[:1] == b"{" else x for x in facts]
        said.append((facts, (folder / "speech.wav").read_bytes()))
    assert points == {b".", b","}
    assert said[0] == said[1] == said[2]


# Permissions


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_are_allowed_what_the_mask_leaves_and_never_more(tmp_path: Path, mask: int, expected: int) -> None:
    before = os.umask(mask)
    try:
        write_audio(tmp_path / "new" / "a.wav", torch.zeros(100), 16_000)
        write_mel(tmp_path / "a.safetensors", torch.zeros(80, 3), MelSpec())
        write_mel(tmp_path / "a.npy", torch.zeros(80, 3), MelSpec())
        write_manifest(tmp_path / "a.jsonl", [Utterance(tmp_path / "a.wav", 1.0, 16_000)])
        Vocoder.from_pretrained(device="cpu").save(tmp_path / "model.safetensors", half=True)
        AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
        with atomic_write(tmp_path / "own.txt") as temporary:
            temporary.write_text("x")
            assert temporary.stat().st_mode & 0o777 & mask == 0  # not even while it is written
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == dict.fromkeys(modes, expected)
    assert len(modes) == 7
    assert (tmp_path / "new").stat().st_mode & mask == 0


def test_the_mask_of_the_process_is_never_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("other threads would create files under this mask"))
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a").read_text() == "x"


def test_threads_write_files_whose_names_begin_alike(tmp_path: Path) -> None:
    paths = [tmp_path / f"{'long ' * 20}{index}.txt" for index in range(16)]
    together = threading.Barrier(len(paths))

    def write(path: Path) -> None:
        with atomic_write(path) as temporary:
            together.wait(30)
            temporary.write_text(path.name)
            together.wait(30)

    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(write, paths))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {path.name: path.name for path in paths}


def test_a_sweep_leaves_what_is_being_written(tmp_path: Path) -> None:
    stale = tmp_path / f".a.txt.12{TEMPORARY_SUFFIX}"
    stale.touch()
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
        assert sweep_temporaries(tmp_path) == 1
        assert sweep_temporaries(tmp_path, of=[tmp_path / "a.txt"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


# Libraries


def test_a_torchaudio_for_another_torch_is_one_error_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "torchaudio").mkdir()
    reason = "libtorchaudio.so: undefined symbol: of_another_torch"
    (tmp_path / "torchaudio" / "__init__.py").write_text(f"raise OSError({reason!r})")
    command = [sys.executable, "-m", "wavediff.cli.main", "vocode", str(CLIP), "-o", str(tmp_path / "speech.wav")]
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("wavediff vocode: "))
    assert reason in line
    assert f"does not load beside torch {version('torch')}" in line
    assert "torch 2.11 and 2.12 take torchaudio 2.11.0" in line
    assert "Traceback" not in done.stderr
