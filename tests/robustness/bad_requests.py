"""From a seed to one bad request, byte by byte, and the answer that it gets."""

import json
import random
import socket
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

import originals
from mutations import mutant, text_mutant, tree_mutant

PATIENCE = 60.0  # [s]
PATHS = ("/", "/api/vocode", "/api/generate", "/api/facts", "/app.js", "/nowhere", "/api/vocode?example=1")
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "G\tET")
HOSTS = ("localhost", "127.0.0.1", "evil.example", "", "[", "localhost:99999", "ü", "localhost, localhost")


@dataclass(frozen=True)
class Bad:
    """What is sent, and whether the client stays to hear the answer."""

    kind: str
    content: bytes
    stays: bool = True


@dataclass(frozen=True)
class Answer:
    """A status, or None where the connection was closed without one; the errors that its events tell of."""

    status: int | None
    told: tuple[int, ...] = ()


def request(method: str, path: str, body: bytes = b"", host: str = "localhost", *more: str) -> bytes:
    """A whole request, after which the connection is closed."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", "Connection: close", *more]
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body


def bad_request(seed: int) -> Bad:
    """One of ten kinds."""
    chance = random.Random(seed)
    kind = chance.choice(list(KINDS))
    content = KINDS[kind](chance)
    return Bad(kind, content, stays=chance.random() < 0.9)


def _garbage(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1, 3000)) + b"\r\n\r\n"


def _damaged_request(chance: random.Random) -> bytes:
    return mutant(request("POST", chance.choice(PATHS), b"{}"), chance)


def _json(chance: random.Random) -> bytes:
    body = json.dumps(tree_mutant(originals.REQUEST, chance)).encode()
    if chance.random() < 0.4:
        body = text_mutant(body, chance)
    return request("POST", "/api/generate", body, "localhost", *_accept(chance))


def _recording(chance: random.Random) -> bytes:
    body = mutant(chance.choice(originals.audio())[1], chance)
    return request("POST", "/api/vocode?steps=1", body, "localhost", *_accept(chance))


def _mel(chance: random.Random) -> bytes:
    body = mutant(chance.choice([*originals.npy(), originals.mel_file(), originals.model()]), chance)
    return request("POST", f"/api/vocode?steps=1&mel_spec={chance.choice(['', 'hifigan', 'x'])}", body)


def _address(chance: random.Random) -> bytes:
    path = chance.choice(PATHS) + chance.choice(["?", "/", "%", "/../", "?steps=", "?example=1&seed="])
    noise = chance.randbytes(chance.choice([1, 5, 300, 8000]))
    return request(chance.choice(METHODS), path + quote_from_bytes(noise))


def _headers(chance: random.Random) -> bytes:
    more = chance.choice([["X: " + "x" * 70_000], [f"X{number}: 1" for number in range(500)], ["X\0: \x7f"], [": x"]])
    return request("GET", "/", b"", "localhost", *more)


def _who(chance: random.Random) -> bytes:
    origin = f"Origin: {chance.choice(['null', 'http://evil.example', 'http://[', 'x'])}"
    more = [origin] if chance.random() < 0.5 else ["Authorization: Bearer x", "Cookie: =;=\x01; wavediff_token=\xff"]
    return request(chance.choice(METHODS), chance.choice(PATHS), b"", chance.choice(HOSTS), *more)


def _length(chance: random.Random) -> bytes:
    """The length of the body is a lie, or says nothing."""
    said = chance.choice(["-1", "1e3", "9" * 30, "0x10", "", "10, 20", "١"])
    framing = chance.choice(
        [f"Content-Length: {said}", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Expect: x"]
    )
    body = chance.choice([b"", b"{}", b"zz\r\n{}\r\n0\r\n\r\n", b"ffffffffff\r\nx", b"2\r\n{}\r\n0\r\nX: y\r\n\r\n"])
    return f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode() + body


def _too_much(chance: random.Random) -> bytes:
    path = chance.choice(["/api/generate", "/api/vocode"])
    return request("POST", path, bytes([chance.randrange(256)]) * chance.choice([11_000, 250_000, 1_000_000]))


def _accept(chance: random.Random) -> list[str]:
    return ["Accept: application/json"] if chance.random() < 0.5 else []


KINDS = {
    "garbage": _garbage,
    "damaged request": _damaged_request,
    "JSON": _json,
    "recording": _recording,
    "mel": _mel,
    "address": _address,
    "headers": _headers,
    "who": _who,
    "length": _length,
    "too much": _too_much,
}


def answer_to(port: int, bad: Bad) -> Answer:
    """Send it and hear what comes back; who has nothing left to send says so, or the service would wait."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        try:
            client.sendall(bad.content)
            if not bad.stays:
                return Answer(None)
            if bad.kind in ("garbage", "damaged request", "length", "headers"):
                client.shutdown(socket.SHUT_WR)
            while part := client.recv(65_536):
                received += part
        except (BrokenPipeError, ConnectionResetError):
            pass  # it did not wait for the rest
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):
        return Answer(None)
    return Answer(int(head.split()[1]), tuple(_told(body)))


def _told(body: bytes) -> list[int]:
    """Statuses of events that are errors, whether they come one a line or all at once, between the marks of chunks."""
    found = []
    for piece in body.split(b'"status":')[1:]:
        digits = piece.strip()[:3]
        found += [int(digits)] if digits.isdigit() else []
    return found
