"""The service with small models in a process of its own, and the clients that bother it."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import originals
import torch
from services import PATIENCE, ask
from sounds import small_generator
from workers import CONTEXT, quieten

from wavediff.app.events import Studio
from wavediff.app.queue import Limits
from wavediff.app.service import listen, make_app, make_server
from wavediff.models.config import build_denoiser
from wavediff.pipelines.vocoder import Vocoder

LIMITS = Limits(upload_bytes=200_000, upload_seconds=2, audio_seconds=3, waiting=8, job_seconds=20)
PATIENT = Limits(upload_bytes=200_000, upload_seconds=60, audio_seconds=3, waiting=8, job_seconds=20)
GOOD = json.dumps({"seconds": 0.1, "steps": 2})


@dataclass
class Service:
    """A process that serves, and its port."""

    process: Any
    port: int

    def check_alive(self) -> None:
        """It runs, and makes a sound for who asks as one should."""
        assert self.process.is_alive(), f"exit status {self.process.exitcode}"
        assert ask(self.port, "GET", "/api/facts")[0] == 200
        deadline = time.monotonic() + PATIENCE
        while (status := ask(self.port, "POST", "/api/generate", GOOD)[0]) == 503:  # the last clients' work
            assert time.monotonic() < deadline, "it stays busy"
            time.sleep(0.1)
        assert status == 200


@contextlib.contextmanager
def serving(limits: Limits) -> Iterator[Service]:
    """A service until the block ends."""
    pipe, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_serve, args=(limits, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        assert pipe.poll(PATIENCE), "it does not begin"
        service = Service(process, pipe.recv())
        service.check_alive()
        yield service
    finally:
        process.kill()
        process.join()


def _serve(limits: Limits, pipe: Any) -> None:
    quieten()
    torch.manual_seed(0)
    vocoder = Vocoder(originals.CONFIG, build_denoiser(originals.CONFIG).eval().requires_grad_(False))
    app = make_app(Studio(vocoder, small_generator("unet"), limits), hosts=("localhost", "127.0.0.1"))
    server, listener = make_server(app), listen("127.0.0.1", 0)
    pipe.send(listener.getsockname()[1])
    server.run(sockets=[listener])


@contextlib.contextmanager
def slow_clients(port: int, count: int) -> Iterator[None]:
    """So many clients that send an upload a byte at a time, half of them not even whole headers."""
    over = threading.Event()
    body = b"POST /api/vocode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(count)]

    def drip() -> None:
        while not over.wait(0.2):
            for client in sockets:
                with contextlib.suppress(OSError):  # the service has sent it away
                    client.sendall(b"x")

    for number, client in enumerate(sockets):
        client.sendall(body if number % 2 else b"GET / HTTP/1.1\r\nX: ")
    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for client in sockets:
            client.close()
