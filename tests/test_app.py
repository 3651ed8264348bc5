"""The service behind the web page: what it makes is what the library makes, and no client breaks it."""

import base64
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from services import ask, error, events, raw, served, status_of, wait_for
from sounds import LABELS, small_generator

from wavediff.app.events import Studio
from wavediff.app.queue import Job, Limits
from wavediff.app.service import make_app
from wavediff.audio import read_audio, write_audio
from wavediff.cli.main import main
from wavediff.errors import SamplingError
from wavediff.mel import MelSpec, convert, write_mel
from wavediff.models import WEIGHTS
from wavediff.pipelines.generator import Generator
from wavediff.pipelines.vocoder import Vocoder

CLIP = WEIGHTS / "clip.flac"
LIMITS = Limits(upload_bytes=1_000_000, upload_seconds=20, audio_seconds=10, waiting=2, job_seconds=50)


class Slow(Studio):
    """Its jobs go on, step by step, until they are let go or stopped."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.go, self.begun, self.steps, self.stopped = limits, threading.Event(), 0, 0, 0
        self.generator = type("", (), {"labels": ()})()

    def vocode(self, body: bytes | None, options: dict[str, Any]) -> Callable[[Job], None]:
        def work(job: Job) -> None:
            self.begun += 1
            try:
                job.tell({"event": "before"})
                while not self.go.wait(0.01):
                    self.steps += 1
                    job.check()
                job.tell({"event": "after"})
            except BaseException:
                self.stopped += 1
                raise

        return work


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(Vocoder.from_pretrained(None, "cpu"), small_generator("unet"), LIMITS)


@pytest.fixture(scope="module")
def port(studio: Studio) -> Iterator[int]:
    with served(make_app(studio, hosts=("localhost", "127.0.0.1"))) as port:
        yield port


@pytest.fixture
def slow() -> Iterator[tuple[Slow, int]]:
    studio = Slow(LIMITS)
    with served(make_app(studio)) as port:
        yield studio, port
        studio.go.set()


def sound_of(event: dict[str, Any]) -> torch.Tensor:
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(event["audio"])), dtype="float32")
    assert rate == event["sample_rate"]
    return torch.from_numpy(samples)


# What it makes


@pytest.mark.parametrize("steps", [None, 1])
def test_a_recording_comes_back_as_the_vocoder_makes_it(studio: Studio, port: int, steps: int | None) -> None:
    query = "?seed=3" + (f"&steps={steps}" if steps else "")
    status, headers, body = ask(port, "POST", f"/api/vocode{query}", CLIP.read_bytes())
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    told = events(body)
    waveform, rate = read_audio(CLIP)
    plan = studio.vocoder.plan(steps)
    names = ["noise", "guess", *(f"step {number + 1}" for number in range(len(plan.times) - 1))]
    assert [event["event"] for event in told] == ["before", *["step"] * len(names), "after"]
    assert [event["name"] for event in told[1:-1]] == names
    torch.testing.assert_close(sound_of(told[0]), waveform, rtol=0, atol=2**-15)
    expected = studio.vocoder(waveform, rate, num_steps=steps, seed=3)
    torch.testing.assert_close(sound_of(told[-1]), expected, rtol=0, atol=2**-15)
    assert told[-1]["evaluations"] == plan.evaluations
    assert all(base64.b64decode(event["picture"])[8:12] == b"WEBP" for event in told)
    assert len({event["picture"] for event in told[1:-1]}) == len(names)


def test_an_mp3_meets_the_checks_of_the_command_line(port: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, *soundfile.read(CLIP, frames=22_050), format="MP3")
    told = events(ask(port, "POST", "/api/vocode?steps=1", file.getvalue())[2])
    assert len(sound_of(told[0])) == 22_050
    assert told[-1]["notes"] == []
    status, _, cut = ask(port, "POST", "/api/vocode", file.getvalue()[:-2000])
    assert (status, "the file: is cut, 2000 of" in error(cut)) == (422, True)


def test_the_example_is_the_bundled_clip_and_json_is_everything_at_once(port: int) -> None:
    status, _, whole = ask(port, "POST", "/api/vocode?example=1", Accept="application/json")
    assert status == 200
    told = events(ask(port, "POST", "/api/vocode", CLIP.read_bytes())[2])
    for one, other in zip(json.loads(whole)["events"], told, strict=True):
        assert one | {"elapsed": 0} == other | {"elapsed": 0}


@pytest.mark.parametrize("kind", ["npy", "safetensors", "tacotron2"])
def test_a_mel_comes_back_as_speech(studio: Studio, port: int, tmp_path: Path, kind: str) -> None:
    own = studio.vocoder.mel_spec
    mel = studio.vocoder.mel(*read_audio(CLIP))[0, :, :100]
    given = MelSpec.preset("tacotron2") if kind == "tacotron2" else own
    if kind == "safetensors":
        write_mel(tmp_path / "mel.safetensors", mel, own)
        data = (tmp_path / "mel.safetensors").read_bytes()
    else:
        np.save(tmp_path / "mel.npy", mel.numpy())
        data = (tmp_path / "mel.npy").read_bytes()
    query = "?mel_spec=tacotron2" if kind == "tacotron2" else ""
    status, _, body = ask(port, "POST", f"/api/vocode{query}", data)
    told = events(body)
    assert (status, told[0]["event"]) == (200, "step")  # there is no sound before
    converted = mel if given == own else convert(mel[None], given, own)[0]
    torch.testing.assert_close(sound_of(told[-1]), studio.vocoder.decode(converted), rtol=0, atol=2**-15)


def test_a_sound_is_the_generators(studio: Studio, port: int) -> None:
    wanted = {"label": LABELS[0], "seconds": 0.1, "steps": 12, "guidance": 1.5, "seed": 9}
    status, _, body = ask(port, "POST", "/api/generate", json.dumps(wanted))
    told = events(body)
    assert (status, told[-1]["event"]) == (200, "after")
    expected = studio.generator.generate(seconds=0.1, label=LABELS[0], guidance=1.5, num_steps=12, seed=9)[0]
    torch.testing.assert_close(sound_of(told[-1]), expected, rtol=0, atol=2**-15)
    assert [event["done"] for event in told if event["event"] == "progress"] == list(range(1, 13))
    shown = [event["number"] for event in told if event["event"] == "step"]
    assert (len(shown), shown[0], shown[-1]) == (10, 0, 12)


def test_a_variation_and_a_new_end_are_the_generators(studio: Studio, port: int) -> None:
    wanted = {"seconds": 0.3, "steps": 4, "vary": 3, "strength": 0.4, "seed": 9}
    told = events(ask(port, "POST", "/api/generate", json.dumps(wanted))[2])
    varied = studio.generator.vary(3, None, 0.4, seconds=0.3, num_steps=4, seed=9)[0]
    torch.testing.assert_close(sound_of(told[-1]), varied, rtol=0, atol=2**-15)
    told = events(ask(port, "POST", "/api/generate", json.dumps(wanted | {"fill_from": 0.1, "fill_seed": 7}))[2])
    rate = studio.generator.sample_rate
    expected = studio.generator.inpaint(varied, rate, 0.1, len(varied) / rate, num_steps=4, seed=7)[0]
    torch.testing.assert_close(sound_of(told[-1]), expected.clamp(-1, 1), rtol=0, atol=2**-14)
    assert {event["event"] for event in told} == {"progress", "after"}


def test_a_loop_that_has_nothing_to_loop_is_said(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: object) -> None:
        raise SamplingError("loop: what seed 0 makes ends by itself")

    wanted = json.dumps({"seconds": 0.1, "steps": 2, "loop": True})
    assert events(ask(port, "POST", "/api/generate", wanted)[2])[-1]["event"] == "after"
    monkeypatch.setattr(Generator, "_check_sustained", ends)
    status, _, body = ask(port, "POST", "/api/generate", wanted)
    assert (status, "ends by itself" in error(body)) == (422, True)


def test_the_page_offers_what_the_models_can(studio: Studio, port: int) -> None:
    facts = json.loads(ask(port, "GET", "/api/facts")[2])
    assert facts["generator"]["labels"] == list(LABELS)
    assert set(facts["mel_specs"]) == {"hifigan", "tacotron2", "nemo-hifigan", "coqui"}
    assert facts["max_bytes"] == LIMITS.upload_bytes


# What it refuses


def flac_of_zeros(seconds: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(seconds * 8000, np.int16), 8000, format="FLAC")
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "status", "cause"),
    [
        (b"", 400, "the request holds no file; send its bytes as the body"),
        (b"hello", 422, "the file: is text, not audio"),
        (CLIP.read_bytes()[:4000], 422, "the file: "),
        (flac_of_zeros(11), 413, "11 s of sound, 10 s are the most here"),  # fault 75
        (flac_of_zeros(3600), 413, "3600 s of sound, 10 s are the most here"),
        (b"x" * 1_000_001, 413, "more than 1 MB; send less"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_cause(port: int, body: bytes, status: int, cause: str) -> None:
    got, _, answer = ask(port, "POST", "/api/vocode", body)
    assert (got, error(answer)[: len(cause)]) == (status, cause)
    assert "/tmp" not in error(answer)  # noqa: S108


def test_a_mel_that_cannot_be_used_is_refused_with_the_cause(port: int) -> None:
    def sent(mel: np.ndarray) -> tuple[int, str]:
        file = io.BytesIO()
        np.save(file, mel)
        status, _, answer = ask(port, "POST", "/api/vocode", file.getvalue())
        return status, error(answer)

    mel = np.random.default_rng(0).uniform(-9, 0, (80, 20)).astype(np.float32)
    assert sent(mel.T)[0] == 422
    assert "looks transposed" in sent(mel.T)[1]
    mel[3, 4] = np.nan
    status, cause = sent(mel)
    assert (status, cause[:43]) == (422, "the file: 1 values are NaN or infinite, the")
    assert sent(np.zeros((80, 5000), np.float16)) == (
        413,
        "58 s of sound, 10 s are the most here; use the command line for it",
    )
    assert sent(np.array([{}]))[0] == 422  # fault 35


def test_an_upload_is_counted_while_it_comes(port: int) -> None:  # fault 70
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 100_000
            yield b"x" * 100_000

    try:
        status, _, answer = ask(port, "POST", "/api/vocode", parts())
        assert (status, error(answer)) == (413, "more than 1 MB; send less")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the service did not wait for the rest
    assert sent < 100_000_000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/vocode?" + "&".join(f"a{number}=1" for number in range(10_000)), 414),  # fault 71
        ("/api/vocode?" + "&".join(f"{number}=" for number in range(30)), 400),
        ("/api/vocode?name=" + "x" * 300, 400),
        ("/api/vocode?example=1&checkpoint=x", 400),
        ("/api/vocode?example=1&steps=0", 400),
        ("/api/vocode?example=1&steps=101", 400),
        ("/api/vocode?example=1&steps=two", 400),
        ("/api/vocode?example=1&steps=%D9%A1", 400),
        ("/api/vocode?example=1&seed=-1", 400),
        ("/api/vocode?example=1&seed=" + "9" * 40, 400),
        ("/api/vocode?example=1&mel_spec=../../etc/passwd", 400),
        ("/api/vocode?example=1&mel_spec=lmnt", 400),
    ],
)
def test_options_that_are_not_possible_are_refused(port: int, path: str, status: int) -> None:
    assert ask(port, "POST", path)[0] == status


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/static/../app.js", "/%2e%2e/app.js", "/%00", "//app.js", "/..%5capp.js"]
)
def test_addresses_outside_are_refused(port: int, path: str) -> None:  # fault 74
    assert ask(port, "GET", path)[0] == 400


def test_other_addresses_are_not_found_and_other_methods_not_allowed(port: int) -> None:
    assert ask(port, "GET", "/app/app.js")[0] == 404
    assert ask(port, "GET", "/api/vocode")[0] == 405
    assert ask(port, "PUT", "/api/facts", b"")[0] == 405


def test_headers_without_end_are_refused(port: int) -> None:  # fault 71
    with raw(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000) as connection:
        assert status_of(connection) in (400, 431)
    with raw(port, b"NONSENSE\r\n\r\n") as connection:
        assert status_of(connection) == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"{",
        b'{"seconds": NaN}',
        b'{"seconds": Infinity}',
        b'{"seconds": 1e999}',
        b'{"seconds": 1' + b"0" * 400 + b"}",
        b'{"seconds": "\\ud800"}',
        b'{"steps": "\\ud800"}',
        b'{"seconds": "1"}',
        b'{"seconds": true}',
        b'{"seconds": 0}',
        b'{"seconds": 11}',
        b'{"steps": 1.5}',
        b'{"guidance": -1}',
        b'{"label": "moo"}',
        b'{"label": {}}',
        b'{"label": ["a"]}',
        b'{"seed": 1e3}',
        b'{"loop": 1}',
        b'{"vary": -1}',
        b'{"strength": 2}',
        b'{"fill_from": "now"}',
        b'{"fill_seed": 0.5}',
        b'{"checkpoint": "/etc/passwd"}',
        b"[" * 5000,
        b'{"a":' * 1900,
        b"\xff\xfe{}",
    ],
)
def test_json_that_is_not_possible_is_refused(port: int, body: bytes) -> None:  # fault 77
    status, _, answer = ask(port, "POST", "/api/generate", body)
    assert status == 400
    assert error(answer)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_know_is_refused_as_such(port: int, constant: str) -> None:  # fault 77
    status, _, answer = ask(port, "POST", "/api/generate", f'{{"seconds": {constant}}}'.encode())
    assert (status, f"({constant} is no number)" in error(answer)) == (400, True)


def test_json_is_limited_too(port: int) -> None:
    assert ask(port, "POST", "/api/generate", b'{"label": "' + b"x" * 20_000 + b'"}')[0] == 413


# Clients that are slow, many, or gone


def test_a_body_that_does_not_come_is_not_waited_for() -> None:  # fault 72
    studio = Slow(dataclasses.replace(LIMITS, upload_seconds=0.3))
    head = b"POST /api/vocode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"
    with served(make_app(studio)) as port, raw(port, head) as connection:
        assert status_of(connection) == 408
    assert not studio.begun


def test_many_clients_wait_in_a_queue_that_ends(slow: tuple[Slow, int]) -> None:  # fault 73
    studio, port = slow
    with ThreadPoolExecutor(100) as pool:
        answers = [pool.submit(ask, port, "POST", "/api/vocode?example=1") for _ in range(100)]
        wait_for(lambda: sum(answer.done() for answer in answers) == 97)
        refused = [answer.result() for answer in answers if answer.done()]
        assert {status for status, _, _ in refused} == {503}
        assert all(int(headers["retry-after"]) > 0 for _, headers, _ in refused)
        assert ask(port, "GET", "/api/example")[0] == 404  # it still answers
        studio.go.set()
        assert sorted(answer.result()[0] for answer in answers) == [200] * 3 + [503] * 97
    assert ask(port, "POST", "/api/vocode?example=1")[0] == 200


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
def test_work_ends_when_its_client_goes(slow: tuple[Slow, int], accept: str) -> None:  # fault 76
    studio, port = slow
    head = f"POST /api/vocode?example=1 HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nContent-Length: 0\r\n\r\n".encode()
    with raw(port, head):
        with raw(port, head):  # waits and never begins
            wait_for(lambda: studio.steps > 2)
        noticed = studio.steps + 20  # of .01 s at least: the service sees it go before the first makes room
        wait_for(lambda: studio.steps > noticed)
    wait_for(lambda: studio.stopped == 1)
    steps = studio.steps
    time.sleep(0.1)
    assert studio.steps == steps
    assert studio.begun == 1
    studio.go.set()
    wait_for(lambda: ask(port, "POST", "/api/vocode?example=1")[0] == 200)


def test_work_ends_when_its_time_is_over() -> None:  # fault 78
    studio = Slow(dataclasses.replace(LIMITS, job_seconds=0.3))
    with served(make_app(studio)) as port:
        status, _, answer = ask(port, "POST", "/api/vocode?example=1", Accept="application/json")
        assert (status, error(answer)) == (504, "this took too long; send less, or take fewer steps")
        wait_for(lambda: studio.stopped == 1)
        status, _, answer = ask(port, "POST", "/api/vocode?example=1")  # its first event has come: the status is out
        assert (status, events(answer)[-1]["status"]) == (200, 504)
        wait_for(lambda: studio.stopped == 2)


def test_a_bug_is_an_answer_and_not_the_end(slow: tuple[Slow, int], monkeypatch: pytest.MonkeyPatch) -> None:
    studio, port = slow

    def broken(job: Job) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(studio, "vocode", lambda body, options: broken)
    status, _, answer = ask(port, "POST", "/api/vocode?example=1")
    assert (status, error(answer)) == (500, "ZeroDivisionError: by zero; wavediff is at fault, report it")
    monkeypatch.undo()
    studio.go.set()
    assert ask(port, "POST", "/api/vocode?example=1")[0] == 200


# Who may ask


def test_hosts_and_origins_that_are_not_its_own_are_refused(port: int) -> None:  # fault 80
    own = f"127.0.0.1:{port}"
    assert ask(port, "GET", "/")[0] == 200
    assert ask(port, "GET", "/", Host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "", "[", "127.0.0.1.evil.example"):
        assert ask(port, "GET", "/api/facts", Host=host)[0] in (400, 421), host
    assert ask(port, "POST", "/api/generate", b"{}", Host=own, Origin="http://evil.example")[0] == 403
    for origin in ("null", "http://[", f"http://[{own}"):
        assert ask(port, "POST", "/api/generate", b"{}", Host=own, Origin=origin)[0] == 403
    assert ask(port, "POST", "/api/generate", b'{"steps": 0}', Host=own, Origin=f"http://{own}")[0] == 400  # heard


def test_a_token_is_asked_for_by_header_cookie_or_once_in_the_address() -> None:  # fault 80
    with served(make_app(Slow(LIMITS), token="s3cret")) as port:  # noqa: S106
        for shown in (
            {},
            {"Authorization": "Bearer other"},
            {"Authorization": "s3cret"},
            {"Cookie": "wavediff_token=x"},
        ):
            status, _, answer = ask(port, "GET", "/", **shown)
            assert (status, error(answer)[:26]) == (401, "this service wants a token")
        assert ask(port, "GET", "/?token=other")[0] == 401
        assert ask(port, "POST", "/api/vocode?example=1&token=s3cret")[0] == 401
        assert ask(port, "GET", "/", Authorization="Bearer s3cret")[0] == 200
        status, headers, _ = ask(port, "GET", "/?token=s3cret")
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert ask(port, "GET", "/", Cookie=cookie.partition(";")[0])[0] == 200


def test_every_answer_forbids_what_the_page_does_not_need(port: int) -> None:
    for path in ("/", "/app.js", "/nowhere", "/api/facts"):
        headers = ask(port, "GET", path)[1]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


# The command


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """The command, once it serves, and the address it printed."""
    command = [sys.executable, "-m", "wavediff.cli.main", "serve", "--port", "0", "--device", "cpu", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def test_sigterm_lets_what_is_being_served_end(tmp_path: Path) -> None:  # fault 79
    write_audio(tmp_path / "long.wav", torch.rand(8 * 22050) - 0.5, 22050)
    process, line = start()
    try:
        port = int(line.split(":")[2].split("/")[0])
        sound = (tmp_path / "long.wav").read_bytes()
        status, _, body = ask(
            port, "POST", "/api/vocode?steps=8", sound, begun=lambda: process.send_signal(signal.SIGTERM)
        )
        assert (status, events(body)[-1]["event"]) == (200, "after")
        assert process.wait(30) in (0, -signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()  # type: ignore[union-attr]
    finally:
        process.kill()
        process.communicate()


def test_beyond_this_machine_a_token_is_made() -> None:
    process, line = start("--host", "0.0.0.0")  # noqa: S104
    try:
        address = line.split()[3]
        port, token = int(address.split(":")[2].split("/")[0]), address.partition("?token=")[2]
        assert len(token) >= 32
        assert ask(port, "GET", "/")[0] == 401
        assert ask(port, "GET", "/", Authorization=f"Bearer {token}")[0] == 200
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--host", "203.0.113.1"], "--host 203.0.113.1 --port 8000: cannot be listened at"),
        (["--max-seconds", "0"], "--max-seconds: 0.0 is not a number above 0"),
        (["--waiting", "-1"], "--waiting: -1 is not a whole number of at least 0"),
        (["--max-megabytes", "inf"], "--max-megabytes: inf is not a number above 0"),
        (["--deadline", "nan"], "--deadline: nan is not a number above 0"),
        (["--port", "99999"], "--port: 99999 is not a whole number from 0 to 65535"),
        (["--token", ""], "--token: holds other characters than letters"),
        (["--token", "ü"], "--token: holds other characters than letters"),
        (["--checkpoint", "nowhere.safetensors", "--port", "0"], "nowhere.safetensors: "),
    ],
)
def test_what_cannot_be_served_is_one_line(arguments: list[str], cause: str, capsys: Any) -> None:
    assert main(["serve", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"wavediff serve: {cause}")
    assert message.count("\n") == 1
