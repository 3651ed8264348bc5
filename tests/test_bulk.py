"""Thousands of files: batches, reading ahead, faults of single files, going on after a kill."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader
from vocoders import untrained

import wavediff.bulk.decoding
import wavediff.bulk.jobs
import wavediff.bulk.reading
from wavediff.audio import read_audio, resample, write_audio
from wavediff.backbones import DiffWaveConfig
from wavediff.bulk.jobs import Fault, Item, Job, make_batches, measure, plan_jobs, remaining, share
from wavediff.bulk.reading import BatchDataset, Loaded, read_batches
from wavediff.cli.main import main
from wavediff.diffusion import SamplingOptions
from wavediff.errors import DataError, OutputError
from wavediff.mel import MelSpec, MelTransform, write_mel
from wavediff.models.config import ModelConfig
from wavediff.pipelines.vocoder import Vocoder

SPEC = MelSpec.preset("hifigan")
OPTIONS = ["--device", "cpu", "--num-steps", "2", "--quiet"]
ONE_STEP_OF_16_BIT = 1.5 / 2**15


def make_vocoder() -> Vocoder:
    """Untrained, but with an output that depends on everything in it."""
    config = ModelConfig(backbone=DiffWaveConfig(channels=4, layers=2, dilation_cycle=2), mel=SPEC)
    return untrained(config)


def make_mel(frames: int, seed: int = 0) -> Tensor:
    """Values that can be of any dialect in natural logarithms."""
    return torch.rand(80, frames, generator=torch.Generator().manual_seed(seed + frames)) * 9 - 9


def make_inputs(folder: Path) -> Path:
    """Seven mels of different lengths, in both formats."""
    folder.mkdir()
    for number in range(7):
        mel = make_mel(5 + 3 * number)
        if number % 2:
            np.save(folder / f"{number}.npy", mel.numpy())
        else:
            write_mel(folder / f"{number}.safetensors", mel, SPEC)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return make_vocoder()


@pytest.fixture(scope="module")
def model_file(vocoder: Vocoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    vocoder.save(path)
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return make_inputs(tmp_path / "in")


@pytest.fixture
def vocode(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `wavediff vocode` in the folder of the test; returns the exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` replaces it

    def run(*arguments: str) -> int:
        return main(["vocode", *arguments, "--checkpoint", str(model_file), *OPTIONS])

    return run


# Batches

ITEMS = st.lists(
    st.tuples(st.one_of(st.floats(0.01, 30), st.floats(500, 700)), st.booleans()), min_size=1, max_size=40
).map(lambda rows: [item(f"{number}.npy", *row) for number, row in enumerate(rows)])
TRIALS = settings(max_examples=60, deadline=None, derandomize=True, database=None)
LIMITS = {"max_seconds": st.floats(0.1, 3000), "max_items": st.integers(1, 9)}


def item(name: str, seconds: float, done: bool = False) -> Item:
    return Item(Job(Path(name), Path(name).with_suffix(".wav")), seconds, done)


def flat(batches: list[tuple[Item, ...]]) -> list[Item]:
    return [item for batch in batches for item in batch]


@TRIALS
@given(items=ITEMS, **LIMITS)
def test_each_item_is_in_one_batch_and_the_batch_within_its_limits(
    items: list[Item], max_seconds: float, max_items: int
) -> None:
    batches = make_batches(items, max_seconds, max_items)
    assert sorted(flat(batches), key=str) == sorted(items, key=str)
    for batch in batches:
        longest = max(item.seconds for item in batch)
        assert len(batch) == 1 or (longest * len(batch) <= max_seconds and not longest >= 600)
        assert len(batch) <= max_items
    lengths = [item.seconds for item in flat(batches)]
    assert lengths == sorted(lengths, reverse=True)
    assert make_batches(items[::-1], max_seconds, max_items) == batches


@TRIALS
@given(items=ITEMS, processes=st.integers(1, 4), **LIMITS)
def test_what_is_missing_is_decoded_once_and_little_is_repeated(
    items: list[Item], processes: int, max_seconds: float, max_items: int
) -> None:
    batches = remaining(items, max_seconds, max_items, processes)
    missing = [item for item in items if not item.done]
    assert sorted((item for item in flat(batches) if not item.done), key=str) == sorted(missing, key=str)
    again = sum(item.seconds for item in flat(batches) if item.done)
    assert again <= sum(item.seconds for item in missing) + processes * max_seconds + 1e-6
    assert all(any(not item.done for item in batch) for batch in batches)


@TRIALS
@given(items=ITEMS, kill=st.integers(0, 40), **LIMITS)
def test_the_batches_after_a_kill_are_those_of_an_undisturbed_run(
    items: list[Item], kill: int, max_seconds: float, max_items: int
) -> None:
    whole = make_batches([item(str(i.job.source), i.seconds) for i in items], max_seconds, max_items)
    done = {item.job for item in flat(whole)[:kill]}
    after = remaining([Item(i.job, i.seconds, i.job in done) for i in items], max_seconds, max_items)
    jobs = [[item.job for item in batch] for batch in whole]
    assert [[item.job for item in batch] for batch in after] == [row for row in jobs if not done.issuperset(row)]


@TRIALS
@given(items=ITEMS, processes=st.integers(1, 5), **LIMITS)
def test_processes_share_the_batches_evenly_and_none_twice(
    items: list[Item], processes: int, max_seconds: float, max_items: int
) -> None:
    batches = make_batches(items, max_seconds, max_items)
    shares = share(batches, processes)
    assert len(shares) == processes
    assert sorted((batch for mine in shares for batch in mine), key=str) == sorted(batches, key=str)
    costs = [sum(batch[0].seconds * len(batch) for batch in mine) for mine in shares]
    assert max(costs) <= sum(costs) / processes + max(batch[0].seconds * len(batch) for batch in batches) + 1e-6


def test_the_length_comes_from_the_header_and_is_that_of_the_speech(vocoder: Vocoder, tmp_path: Path) -> None:
    write_mel(tmp_path / "a.safetensors", make_mel(9), SPEC)
    np.save(tmp_path / "b.npy", np.asfortranarray(make_mel(9)[None].numpy()))
    write_audio(tmp_path / "c.flac", torch.rand(16000) - 0.5, 16000)
    measured = [measure(Job(tmp_path / name, Path("x.wav")), SPEC) for name in ("a.safetensors", "b.npy", "c.flac")]
    assert measured == pytest.approx([9 * 256 / 22050, 9 * 256 / 22050, 1.0])


# Jobs


def test_folders_are_kept_on_request(tmp_path: Path) -> None:
    for name in ("in/a/x.npy", "in/b/x.npy", "in/x.npy", "y.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, make_mel(2).numpy())
    manifest = tmp_path / "list" / "m.jsonl"
    manifest.parent.mkdir()
    manifest.write_text('{"path": "c/z.wav", "seconds": 1, "sample_rate": 8000}\n')
    with pytest.raises(OutputError, match=r"would both become .*out/x\.wav; .*--keep-folders"):
        plan_jobs([tmp_path / "in"], tmp_path / "out")
    jobs = plan_jobs([tmp_path / "in", tmp_path / "y.npy", manifest], tmp_path / "out", keep_folders=True)
    targets = {str(job.target.relative_to(tmp_path / "out")) for job in jobs}
    assert targets == {"a/x.wav", "b/x.wav", "x.wav", "y.wav", "c/z.wav"}


def test_a_folder_gives_every_format_that_is_read(tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number, suffix in enumerate((".mp3", ".aiff", ".W64", ".oga", ".npy"))]
    for name in (*names, "notes.txt"):
        (tmp_path / name).touch()
    assert {job.source.name for job in plan_jobs([tmp_path], tmp_path / "out")} == set(names)


def test_what_a_run_has_made_is_no_input_of_the_next(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {path.name for path in inputs.iterdir()}
    (inputs / "out").mkdir()
    write_audio(inputs / "out" / "0.wav", torch.zeros(9), 22050)
    assert {job.source.name for job in plan_jobs([inputs], inputs / "out", resume=True)} == sources
    (inputs / "out" / "0.wav").unlink()
    monkeypatch.chdir(inputs.parent)  # an output above the input hides nothing
    assert {job.source.name for job in plan_jobs([Path("in")], Path())} == sources
    write_audio(inputs / "x.wav", torch.zeros(9), 22050)
    with pytest.raises(OutputError, match=r"x\.wav: is an input and would be its own output; choose another folder"):
        plan_jobs([inputs / "x.wav"], inputs, resume=True)
    (inputs / "same.wav").hardlink_to(inputs / "x.wav")
    for output in (inputs / "x.wav", inputs / "same.wav", inputs):
        with pytest.raises(OutputError, match=r"\.wav: is an input and would be its own output"):
            plan_jobs([inputs / "x.wav"], output, overwrite=True)


def test_existing_outputs_are_refused_before_any_work(vocode: Callable, inputs: Path, capsys: Any) -> None:
    for name in ("3.wav", "4.wav"):
        write_audio(inputs.parent / "out" / name, torch.zeros(9), 22050)
    assert vocode("in", "-o", "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("wavediff vocode: out/3.wav: already exists, and 1 more outputs; pass --resume")
    assert "--overwrite" in error
    assert error.count("\n") == 1
    assert sorted(contents(inputs.parent / "out")) == ["3.wav", "4.wav"]


# From files to files


def test_batches_and_readers_change_no_file(
    vocode: Callable, vocoder: Vocoder, inputs: Path, tmp_path: Path, capsys: Any
) -> None:
    write_audio(inputs / "r.wav", torch.rand(4000, generator=torch.Generator().manual_seed(1)) - 0.5, 16000)
    assert vocode("in", "-o", "out", "--batch-size", "3", "--workers", "2", "--json", "--seed", "5") == 0
    rows = {Path(row["input"]).stem: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert set(rows) == {*"0123456r"}
    assert set(rows["0"]) == {"input", "output", "seconds", "sample_rate", "nfe", "rtf"}
    waveform, sample_rate = read_audio(inputs / "r.wav")
    mels = {str(number): make_mel(5 + 3 * number) for number in range(7)} | {"r": vocoder.mel(waveform, sample_rate)[0]}
    for name, mel in mels.items():
        written, _ = read_audio(tmp_path / "out" / f"{name}.wav")
        torch.testing.assert_close(written, vocoder.decode(mel, 2, seed=5), rtol=0, atol=ONE_STEP_OF_16_BIT)
        assert rows[name]["seconds"] == len(written) / 22050
    assert vocode("in", "-o", "again", "--batch-size", "3", "--workers", "0", "--seed", "5") == 0
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_a_fault_stays_with_its_file(vocode: Callable, inputs: Path, tmp_path: Path, capsys: Any) -> None:
    np.save(inputs / "nan.npy", np.full((80, 12), np.nan, np.float32))
    np.save(inputs / "decibels.npy", make_mel(12).numpy() * 10)
    (inputs / "cut.safetensors").write_bytes((inputs / "0.safetensors").read_bytes()[:-1])
    (inputs / "text.wav").write_text("no audio")
    assert vocode("in", "gone.npy", "-o", "out", "--batch-size", "4", "--workers", "1", "--json") == 2
    printed = capsys.readouterr()
    *causes, last = printed.err.splitlines()
    reasons = {line.split(": ")[1]: line for line in causes}
    assert set(reasons) == {"in/nan.npy", "in/decibels.npy", "in/cut.safetensors", "in/text.wav", "gone.npy"}
    assert all(line.startswith("wavediff vocode: ") and "; " in line for line in causes)
    assert last == "wavediff vocode: 5 of 12 inputs could not be vocoded, for the reasons above"
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert len({row["input"] for row in rows}) == len(rows) == 12
    assert {row["input"] for row in rows if "error" in row} == set(reasons)
    assert sorted(contents(tmp_path / "out")) == [f"{number}.wav" for number in range(7)]


def test_a_single_fault_has_a_row_too(vocode: Callable, tmp_path: Path, capsys: Any) -> None:
    assert vocode("gone.npy", "-o", "out.wav", "--json") == 2
    printed = capsys.readouterr()
    row = json.loads(printed.out)
    assert (row["input"], row["output"]) == ("gone.npy", "out.wav")
    assert printed.err == f"wavediff vocode: {row['error']}\n"


def test_the_end_tells_files_seconds_and_what_was_there(
    vocode: Callable, inputs: Path, tmp_path: Path, model_file: Path, capsys: Any
) -> None:
    vocode("in", "-o", "out")
    assert capsys.readouterr() == ("", "")
    for name in ("2.wav", "5.wav"):
        (tmp_path / "out" / name).unlink()
    loud = ["vocode", "in", "-o", "out", "--resume", "--checkpoint", str(model_file), *OPTIONS[:-1]]
    assert main(loud) == 0
    printed = capsys.readouterr()
    first, second, end = printed.out.splitlines()
    assert first.startswith("out/5.wav: 0.23 s of speech, real-time factor ")
    assert second.startswith("out/2.wav: 0.13 s of speech, real-time factor ")
    assert end.startswith("2 files, 0.4 s of speech in ")
    assert end.endswith("times as fast as it plays), 5 were there already")
    assert printed.err == ""  # no bar where standard error is no terminal
    assert vocode("in", "-o", "out", "--resume", "--json") == 0
    assert [json.loads(line).get("skipped") for line in capsys.readouterr().out.splitlines()] == [True] * 7


def test_the_progress_adds_up_to_the_audio(vocoder: Vocoder, inputs: Path, tmp_path: Path) -> None:
    jobs = plan_jobs([inputs], tmp_path / "out")
    items = [Item(job, measure(job, SPEC)) for job in jobs]
    told: list[float] = []
    decoder = wavediff.bulk.decoding.Decoder(vocoder, wavediff.bulk.decoding.Settings(SamplingOptions(2)), told.append)
    outcomes = [row for batch in read_batches(make_batches(items, 1.0, 3)) for row in decoder(batch)]
    assert len(outcomes) == 7
    assert sum(told) == pytest.approx(sum(item.seconds for item in items))


def test_memory_that_does_not_suffice_for_a_batch_suffices_for_its_files(
    vocode: Callable, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    decode = Vocoder.decode

    def short_of_memory(self: Vocoder, mel: Tensor, *args: Any, **options: Any) -> Tensor:
        if len(mel) > 1:
            raise torch.OutOfMemoryError("no memory")
        return decode(self, mel, *args, **options)

    monkeypatch.setattr(Vocoder, "decode", short_of_memory)
    assert vocode("in", "-o", "out", "--batch-size", "7") == 0
    assert "no memory for 7 files at once, they go one by one; lower --batch-seconds" in capsys.readouterr().err
    assert len(contents(tmp_path / "out")) == 7


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_protected_disk_stops_the_run(
    kind: int, vocode: Callable, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (inputs / "cut.npy").write_bytes(b"")
    written: list[Path] = []

    def full(path: Path, *args: Any, **options: Any) -> None:
        if written:
            raise OutputError(f"{path}: could not be written") from OSError(kind, "no")
        written.append(path)

    monkeypatch.setattr(wavediff.bulk.decoding, "write_audio", full)
    assert vocode("in", "-o", "out") == 2
    fault, stop = capsys.readouterr().err.splitlines()
    assert "in/cut.npy: not a .npy file" in fault  # what had been found until then
    assert stop == "wavediff vocode: out/5.wav: could not be written"


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--workers", "-1"], "--workers: -1 is below 0"),
        (["--batch-size", "0"], "--batch-size: 0 is below 1"),
        (["--batch-seconds", "nan"], "--batch-seconds: nan is not above 0"),
        (["--devices", "0"], "--devices: 0 is below 1"),
        (["--address", "localhost:1"], "--address: is that of a Ray cluster; pass --engine ray too"),
        (["--engine", "ray", "--workers", "1"], "--workers: with --engine ray each worker reads its own files"),
        (["--seed", "-1"], "seed: -1 is not a whole number"),
        (["--mel-spec", "hifi"], "no preset is named 'hifi'"),
    ],
)
def test_impossible_options_are_one_line(
    vocode: Callable, inputs: Path, arguments: list[str], cause: str, capsys: Any
) -> None:
    assert vocode("in", "-o", "out", *arguments) == 2
    error = capsys.readouterr().err
    assert cause in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_resume_and_overwrite_exclude_each_other(vocode: Callable, inputs: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        vocode("in", "-o", "out", "--resume", "--overwrite")
    assert caught.value.code == 2


# Reading ahead


def batches_of(*paths: Path) -> list[tuple[Item, ...]]:
    return [(Item(Job(path, path.with_suffix(".wav")), 1.0),) for path in paths]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_give_what_reading_here_gives(method: str, inputs: Path) -> None:  # fault 86
    (inputs / "9.npy").write_bytes(b"")
    batches = batches_of(*sorted(inputs.iterdir()))
    here = [batch[0] for batch in read_batches(batches)]
    dataset = BatchDataset(batches)
    there = [
        row for (row,) in DataLoader(dataset, None, num_workers=1, collate_fn=list, multiprocessing_context=method)
    ]
    for one, other in zip(here, there, strict=True):
        if isinstance(one, Fault):
            assert one == other
        else:
            assert (one.item, one.spec) == (other.item, other.spec)
            np.testing.assert_array_equal(one.values, other.values)
    assert [isinstance(one, Fault) for one in here] == [False] * 7 + [True]


def test_even_a_bug_in_reading_costs_one_file(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(wavediff.bulk.reading, "read_mel", broken)
    (fault,) = next(read_batches(batches_of(inputs / "1.npy"), workers=1))
    assert isinstance(fault, Fault)
    assert fault.reason == f"{inputs / '1.npy'}: ZeroDivisionError: by zero; wavediff is at fault, report it"


def test_what_reading_warns_of_is_carried_along(inputs: Path) -> None:
    write_audio(inputs / "s.wav", torch.zeros(100), 8000)
    (inputs / "s.flac").write_bytes((inputs / "s.wav").read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (loaded,) = next(read_batches(batches_of(inputs / "s.flac"), workers=1))
    assert isinstance(loaded, Loaded)
    assert [text.partition("s.flac: ")[2][:9] for text in loaded.warnings] == ["holds WAV", "is silent"]


def test_a_reader_that_dies_is_one_line(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fault 57
    monkeypatch.setattr(wavediff.bulk.reading, "read_mel", lambda path: os._exit(3))
    with pytest.raises(DataError, match=r"a process that reads files died .*--resume"):
        list(read_batches(batches_of(inputs / "1.npy"), workers=1))


def test_a_reader_that_dies_is_noticed_where_another_library_has_taken_the_signal(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wavediff.bulk.reading, "read_mel", lambda path: os._exit(3))
    monkeypatch.setattr(wavediff.bulk.reading, "LOOK", 1)
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", True)  # as after a first loader
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with pytest.raises(DataError, match=r"a process that reads files died .*exited unexpectedly.*--resume"):
            list(read_batches(batches_of(inputs / "1.npy"), workers=1))
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_reader_that_hangs_is_one_line(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wavediff.bulk.reading, "read_mel", lambda path: time.sleep(60))
    monkeypatch.setattr(wavediff.bulk.reading, "LOOK", 1)
    monkeypatch.setattr(wavediff.bulk.reading, "WORKER_TIMEOUT", 2)
    with pytest.raises(DataError, match=r"no batch for 2 seconds.*--resume"):
        list(read_batches(batches_of(inputs / "1.npy"), workers=1))


def ended(process: int) -> bool:
    """Whether a process ends within a minute."""
    for _ in range(600):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_no_reader_outlives_a_killed_run(inputs: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from test_bulk import batches_of
from wavediff.bulk.reading import read_batches
paths = [Path(sys.argv[1])] * 50
batches = read_batches(batches_of(*paths), workers=1)
next(batches)
import multiprocessing
print(multiprocessing.active_children()[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    np.save(inputs / "big.npy", make_mel(4000).numpy())  # more than a pipe holds
    done = subprocess.run(
        [sys.executable, "-c", code, str(inputs / "big.npy")],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,  # the reader holds the pipes as long as it lives
    )
    assert done.returncode == -9
    assert ended(int(done.stdout))


# Going on


KILLED_IN_THE_THIRD_FILE = """
import os, signal, sys
calls = 0
def fsync(descriptor):
    global calls
    calls += 1
    if calls == 5:  # a file is flushed, then its folder
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
from wavediff.cli.main import main
main(sys.argv[1:])
"""


def test_a_killed_run_goes_on_and_comes_to_the_same(  # fault 69
    vocode: Callable, inputs: Path, model_file: Path, tmp_path: Path, capsys: Any
) -> None:
    batches = ["--batch-size", "4", "--workers", "1"]
    assert vocode("in", "-o", "whole", *batches) == 0
    command = ["vocode", "in", "-o", "out", *batches, "--checkpoint", str(model_file), *OPTIONS]
    done = subprocess.run([sys.executable, "-c", KILLED_IN_THE_THIRD_FILE, *command], cwd=tmp_path, check=False)
    assert done.returncode == -9
    left = contents(tmp_path / "out")
    halves = [name for name in left if name.endswith(".wavediff-tmp")]
    assert sorted(set(left) - set(halves)) == ["5.wav", "6.wav"]
    assert len(halves) == 1
    (tmp_path / "out" / ".other.wav.1.wavediff-tmp").touch()  # of somebody else
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.wav")}
    assert vocode("in", "-o", "out", *batches, "--resume", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {Path(row["input"]).stem for row in rows if "skipped" in row} == {"5", "6"}
    assert contents(tmp_path / "out") == contents(tmp_path / "whole") | {".other.wav.1.wavediff-tmp": b""}
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.wav")}.items()


def test_what_is_done_is_neither_read_nor_decoded_for_a_fault(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(inputs / "nan.npy", np.full((80, 3), np.nan, np.float32))
    batch = tuple(
        Item(Job(path, Path("x.wav")), 1.0, done=path.stem != "nan") for path in (inputs / "1.npy", inputs / "nan.npy")
    )
    (fault,) = next(read_batches([batch]))
    assert isinstance(fault, Fault)


# Long files


@pytest.mark.parametrize("length", ["whole", "in pieces"])
def test_a_recording_goes_through_the_dialect_that_is_named(
    length: str, vocode: Callable, vocoder: Vocoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if length == "in pieces":
        monkeypatch.setattr(wavediff.bulk.jobs, "LONG_SECONDS", 0.1)
        monkeypatch.setattr(wavediff.bulk.reading, "PIECE_FRAMES", 37)
    sound = torch.rand(30_000, generator=torch.Generator().manual_seed(0)) - 0.5
    write_audio(tmp_path / "x.wav", sound, 16000, subtype="FLOAT")
    assert vocode("x.wav", "-o", "out.wav", "--mel-spec", "tacotron2") == 0
    spec = MelSpec.preset("tacotron2")
    mel = MelTransform(spec)(resample(sound[None], 16000, spec.sample_rate))
    expected = vocoder.decode(mel, 2, mel_spec=spec)[0]
    torch.testing.assert_close(read_audio(tmp_path / "out.wav")[0], expected, rtol=0, atol=ONE_STEP_OF_16_BIT)
    torch.testing.assert_close(vocoder(sound, 16000, "tacotron2", num_steps=2), expected)
    assert (vocoder(sound, 16000, num_steps=2)[: len(expected)] - expected).abs().max() > 1e-3


@pytest.mark.parametrize("given_as", ["npy", "fortran", "safetensors", "wav", "tacotron2"])
def test_a_long_file_goes_through_in_pieces_to_the_same_samples(
    given_as: str, vocode: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mel, options = make_mel(300), []
    if given_as == "safetensors":
        write_mel(tmp_path / "x.safetensors", mel, SPEC)
    elif given_as == "wav":
        write_audio(tmp_path / "x.wav", torch.rand(48000, generator=torch.Generator().manual_seed(0)) - 0.5, 16000)
    else:
        np.save(tmp_path / "x.npy", np.asarray(mel.numpy(), order="F" if given_as == "fortran" else "C"))
        options = ["--mel-spec", "tacotron2"] if given_as == "tacotron2" else []
    source = next(path.name for path in tmp_path.iterdir())
    assert vocode(source, "-o", "whole.wav", *options) == 0
    monkeypatch.setattr(wavediff.bulk.jobs, "LONG_SECONDS", 0.1)
    monkeypatch.setattr(wavediff.bulk.reading, "PIECE_FRAMES", 37)
    monkeypatch.setattr(Vocoder, "decode", None)
    assert vocode(source, "-o", "pieces.wav", *options) == 0
    whole, pieces = (read_audio(tmp_path / name)[0] for name in ("whole.wav", "pieces.wav"))
    assert len(pieces) == (299 if given_as == "tacotron2" else len(whole) // 256) * 256
    torch.testing.assert_close(pieces, whole, rtol=0, atol=ONE_STEP_OF_16_BIT)


def test_a_fault_in_the_middle_of_a_long_file_leaves_no_half(
    vocode: Callable, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(wavediff.bulk.jobs, "LONG_SECONDS", 0.5)
    monkeypatch.setattr(wavediff.bulk.reading, "PIECE_FRAMES", 20)
    mel = make_mel(100)
    mel[3, 70] = np.inf
    np.save(inputs / "long.npy", mel.numpy())
    assert vocode("in", "-o", "out") == 2
    assert "long.npy, from frame 60: 1 values are NaN or infinite, the first at (3, 10)" in capsys.readouterr().err
    assert sorted(contents(tmp_path / "out")) == [f"{number}.wav" for number in range(7)]


# Speed


def test_precision_is_the_vocoders(
    vocode: Callable, vocoder: Vocoder, inputs: Path, tmp_path: Path, capsys: Any
) -> None:
    assert vocode("in/1.npy", "-o", "half.wav", "--precision", "bfloat16") == 0
    mel = torch.from_numpy(np.load(inputs / "1.npy"))
    expected = [
        Vocoder(vocoder.config, vocoder.denoiser).to("cpu", precision).decode(mel, 2)
        for precision in (torch.bfloat16, torch.float32)
    ]
    written = read_audio(tmp_path / "half.wav")[0]
    errors = [float((written - speech).abs().max()) for speech in expected]
    assert errors[0] < ONE_STEP_OF_16_BIT < errors[1]
    assert vocode("in/1.npy", "-o", "fused.wav", "--fused") == 2
    assert "--fused: is for a GPU, and this runs on the CPU; drop it" in capsys.readouterr().err


# Processes


def test_one_process_does_not_load_lightning(inputs: Path, model_file: Path, tmp_path: Path) -> None:
    code = "import sys; from wavediff.cli.main import main; main(sys.argv[1:]); print('lightning' in sys.modules)"
    command = ["vocode", "in", "-o", "out", "--checkpoint", str(model_file), *OPTIONS]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
