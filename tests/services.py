"""A service on a port of this machine, and what is asked of it, byte by byte where that matters."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the web page's libraries are absent: pip install 'wavediff[serve]'")
pytest.importorskip("uvicorn", reason="the web page's libraries are absent: pip install 'wavediff[serve]'")

from wavediff.app.service import listen, make_server

PATIENCE = 60.0  # [s]


@contextlib.contextmanager
def served(app: Any) -> Iterator[int]:
    """The port."""
    server, listener = make_server(app), listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def ask(
    port: int, method: str, path: str, body: Any = None, begun: Callable[[], object] = lambda: None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of an answer; `begun` is called when its head is there and the body may still come."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        begun()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def events(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def error(body: bytes) -> str:
    return json.loads(body)["error"]


@contextlib.contextmanager
def raw(port: int, sent: bytes) -> Iterator[socket.socket]:
    """A connection over which something was sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        yield connection


def status_of(connection: socket.socket) -> int:
    """Of the answer."""
    answer = b""
    while b"\r\n" not in answer:
        part = connection.recv(4096)
        assert part, "the connection was closed without an answer"
        answer += part
    return int(answer.split()[1])
