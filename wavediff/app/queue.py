"""One job at a time, a few that wait, and an end to each: when its client goes, when its time is over."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from wavediff.errors import WavediffError

Event = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        upload_bytes: of a file.
        upload_seconds: that sending it may take [s].
        audio_seconds: of a recording, mel or sound [s].
        waiting: jobs beside the one that runs.
        job_seconds: from the request to the last event [s].
    """

    upload_bytes: int = 32_000_000
    upload_seconds: float = 30.0
    audio_seconds: float = 60.0
    waiting: int = 8
    job_seconds: float = 120.0


class RequestError(WavediffError):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        headers: that go with it.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class Stopped(Exception):  # noqa: N818  # nothing went wrong
    """Nobody waits for a job any longer."""


class Job:
    """What a piece of work tells its client, and whether it should go on."""

    def __init__(self, deadline: float) -> None:
        self._deadline, self._stopped = deadline, threading.Event()
        self._loop, self._events = asyncio.get_running_loop(), asyncio.Queue[Event | None]()
        self.future: Future[None] | None = None

    def tell(self, event: Event) -> None:
        """Called by the work: hand an event to the client.

        Raises:
            Stopped: nobody listens.
        """
        self.check()
        self._put(event)

    def check(self) -> None:
        """Called by the work between steps.

        Raises:
            Stopped: nobody listens.
        """
        if self._stopped.is_set():
            raise Stopped

    def stop(self) -> None:
        """The work ends at its next `check`, or never begins."""
        self._stopped.set()
        if self.future is not None:
            self.future.cancel()

    async def events(self) -> AsyncIterator[Event]:
        """What the work tells, the last of all an error if it failed.

        Raises:
            RequestError: its time is over.
        """
        try:
            while True:
                left = self._deadline - time.monotonic()
                try:
                    event = await asyncio.wait_for(self._events.get(), max(left, 0))
                except TimeoutError:
                    raise RequestError(504, "this took too long; send less, or take fewer steps") from None
                if event is None:
                    return
                yield event
        finally:
            self.stop()

    def run(self, work: Callable[["Job"], None]) -> None:
        """Called by the worker: everything that can happen becomes an event."""
        try:
            self.check()
            work(self)
        except Stopped:
            return
        except RequestError as error:
            self._put({"event": "error", "status": error.status, "message": str(error)})
        except WavediffError as error:
            self._put({"event": "error", "status": 422, "message": str(error)})
        except Exception as error:
            message = f"{type(error).__name__}: {error}; wavediff is at fault, report it"
            self._put({"event": "error", "status": 500, "message": message})
        finally:
            self._put(None)

    def _put(self, event: Event | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Worker:
    """Runs jobs one after the other in a thread of its own: the cores are busy with one.

    Args:
        limits: `waiting`, `job_seconds`.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._pending = limits, 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job")

    def submit(self, work: Callable[[Job], None]) -> Job:
        """Begin a job, or have it wait.

        Raises:
            RequestError: too many wait already.
        """
        if self._pending > self._limits.waiting:
            message = f"{self._pending} requests are being served already; try again in a few seconds"
            raise RequestError(503, message, {"Retry-After": "5"})
        job, loop = Job(time.monotonic() + self._limits.job_seconds), asyncio.get_running_loop()
        self._pending += 1
        job.future = self._thread.submit(job.run, work)

        def ended(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._forget)

        job.future.add_done_callback(ended)
        return job

    def _forget(self) -> None:
        self._pending -= 1

    def close(self) -> None:
        """No job begins any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
