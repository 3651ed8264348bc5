"""Everything that needs no network, where there is none: run by test_environment in a process of its own.

python offline.py FOLDER: an audit hook refuses what is not the loopback address; it cannot be taken back.
"""

import contextlib
import fcntl
import json
import socket
import struct
import sys
from pathlib import Path

TRIED: list[str] = []
LOCAL = {"127.0.0.1", "localhost", "::1"}


def refuse(event: str, arguments: tuple) -> None:
    """Audit hook: only this machine may be named or connected to."""
    if event == "socket.getaddrinfo":
        address = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1] if isinstance(arguments[1], str | bytes) else arguments[1][0]
        if arguments[0].family == socket.AF_UNIX:
            return
    else:
        return
    if address not in LOCAL:
        TRIED.append(f"{event} {address!r}")
        raise OSError(f"no network here: {event} {address!r}")


def raise_loopback() -> None:
    """In a new network namespace it is down; elsewhere nothing changes, or nothing is allowed to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS, up and running
        except OSError:
            return


def check_the_hook() -> None:
    """It would see a connection."""
    for address in ("192.0.2.1", "example.org"):
        with contextlib.suppress(OSError):
            socket.create_connection((address, 80), timeout=1)
        assert any(address in tried for tried in TRIED), address
    TRIED.clear()


def main(folder: Path) -> None:
    """Vocode, generate, train a step, serve."""
    raise_loopback()
    sys.addaudithook(refuse)
    check_the_hook()
    from runs import arguments, recipe

    from wavediff import Generator, Vocoder
    from wavediff.cli.demo import CLIP
    from wavediff.cli.main import main as wavediff

    done = {
        "vocode": wavediff(["vocode", str(CLIP), "-o", str(folder / "speech.wav"), "--quiet"]),
        "generate": wavediff(["generate", "-o", str(folder / "sounds"), "--seconds", "0.2", "--quiet"]),
        "report": wavediff(["report", str(folder), "-o", str(folder / "page.html")]),
        "train": wavediff(arguments(recipe(folder), "--trainer.max_steps=1", "--trainer.logger=true")),
    }
    from services import ask, served

    from wavediff.app.events import Studio
    from wavediff.app.queue import Limits
    from wavediff.app.service import make_app

    with served(make_app(Studio(Vocoder.from_pretrained(), Generator.from_pretrained(), Limits()))) as port:
        status, _, body = ask(port, "POST", "/api/generate", json.dumps({"seconds": 0.1, "steps": 1}))
        done["serve"] = 0 if status == 200 and b'"error"' not in body else status
        assert ask(port, "GET", "/")[0] == 200
    print(json.dumps({"status": done, "tried": TRIED}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
