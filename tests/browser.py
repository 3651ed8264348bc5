"""A headless Chromium for the tests of pages, driven over its DevTools pipe (JSON messages, each ended by a NUL)."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

AXE = Path(sys.prefix) / "npm" / "node_modules" / "axe-core" / "axe.min.js"  # npm install --prefix .venv/npm axe-core
NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120  # [s]; a browser that hangs is ended, and the test with it
# --no-sandbox: without it Chromium refuses to be run by root, as it is in containers.
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")


class Browser:
    """One page of a browser; `complaints` is what it logged: failed scripts, forbidden loads, `console` calls."""

    def __init__(self, commands: BinaryIO, messages: BinaryIO) -> None:
        self.complaints: list[str] = []
        self._commands, self._messages, self._number, self._session = commands, messages, 0, {}
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Log", "Runtime", "Page"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a DevTools command; what the browser logs meanwhile is kept."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters} | self._session
        self._commands.write(json.dumps(command).encode() + b"\0")
        self._commands.flush()
        return self._wait(lambda message: message.get("id") == self._number)["result"]

    def open(self, page: Path | str, width: int, height: int, *, dark: bool = False) -> None:
        """Load a file or an address and wait for it."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self._wait(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression, as a user's click would run it; of a promise, what it gives."""
        wanted = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.send("Runtime.evaluate", expression=script, **wanted)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def axe(self) -> list[str]:
        """What axe-core finds wrong for those who cannot see or use a mouse."""
        self.run(AXE.read_text(encoding="utf-8"))
        return self.run(
            "axe.run(document).then((results) => results.violations.map((fault) => "
            "[fault.id, ...fault.nodes.map((node) => node.html)].join(' | ')))"
        )

    def screenshot(self) -> bytes:
        """A PNG of what shows."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])

    def _wait(self, wanted: Any) -> dict[str, Any]:
        while True:
            message = self._receive()
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.complaints.append(json.dumps(message["params"]))
            if wanted(message):
                assert "error" not in message, message
                return message

    def _receive(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._messages.read(1)) != b"\0":
            assert byte, "the browser went away"
            text += byte
        return json.loads(text)


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser that keeps its things in `folder`; the test is skipped, visibly, where none is installed."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no browser: install chromium")
    pipes = [folder / "commands", folder / "messages"]
    for pipe in pipes:
        os.mkfifo(pipe)
    command = [program, *OPTIONS, f"--user-data-dir={folder / 'profile'}"]
    shell = ["sh", "-c", 'commands=$1 messages=$2; shift 2; exec "$@" 3<"$commands" 4>"$messages"', "sh"]
    process = subprocess.Popen([*shell, *map(str, pipes), *command], stderr=subprocess.DEVNULL)
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        with pipes[0].open("wb") as commands, pipes[1].open("rb") as messages:
            yield Browser(commands, messages)
    finally:
        timer.cancel()
        process.kill()
        process.wait()
