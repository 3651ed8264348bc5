"""The service: one page, its few files, and two ways to make sound; and the port where it is reached.

`POST /api/vocode` takes a file as its body, `POST /api/generate` a JSON object; both answer with events, one JSON
object a line as they come, or with `Accept: application/json` with all of them at the end. What goes wrong before the
first event is an HTTP status with `{"error": ...}`, later an event "error".
"""

import asyncio
import contextlib
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from wavediff.app.events import Studio
from wavediff.app.guard import Guard, refuse
from wavediff.app.queue import Event, Job, Limits, RequestError, Worker
from wavediff.app.requests import generate_options, parse_object, vocode_options
from wavediff.errors import ConfigError
from wavediff.report.markup import THEME

STATIC = Path(__file__).resolve().parent / "static"
FILES = {
    "/": STATIC / "index.html",
    "/theme.css": THEME,
    **{f"/{name}": STATIC / name for name in ("app.css", "app.js", "recording.js", "icon.svg")},
}
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MAX_JSON_BYTES = 10_000


def make_app(studio: Studio, *, hosts: tuple[str, ...] = (), token: str | None = None) -> Starlette:
    """The service as an ASGI application.

    Args:
        studio: models and limits.
        hosts, token: as of `Guard`.
    """
    limits, worker = studio.limits, Worker(studio.limits)

    async def facts(request: Request) -> Response:
        return JSONResponse(studio.facts())

    async def vocode(request: Request) -> Response:
        options = vocode_options(request.query_params)
        if request.query_params.get("example"):
            return await _answer(request, worker, studio.vocode(None, options))
        body = await _body(request, limits.upload_bytes, limits)
        if not body:
            raise RequestError(400, "the request holds no file; send its bytes as the body")
        return await _answer(request, worker, studio.vocode(body, options))

    async def generate(request: Request) -> Response:
        given = parse_object(await _body(request, MAX_JSON_BYTES, limits))
        options = generate_options(given, studio.generator.labels, limits.audio_seconds)
        return await _answer(request, worker, studio.generate(options))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        worker.close()

    return Starlette(
        routes=[
            *(Route(path, _static(file), methods=["GET"]) for path, file in FILES.items()),
            Route("/api/facts", facts, methods=["GET"]),
            Route("/api/vocode", vocode, methods=["POST"]),
            Route("/api/generate", generate, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={RequestError: _refused, 404: _unknown, 405: _unknown, ClientDisconnect: _gone},
        lifespan=lifespan,
    )


def _static(path: Path) -> Callable[[Request], Any]:
    content, kind = path.read_bytes(), KINDS.get(path.suffix, "application/octet-stream")

    async def file(request: Request) -> Response:
        return Response(content, media_type=kind)

    return file


async def _body(request: Request, most: int, limits: Limits) -> bytes:
    """The body, counted while it comes.

    Raises:
        RequestError: it is too large, or does not come.
    """
    too_large = RequestError(413, f"more than {most / 1e6:g} MB; send less", {"Connection": "close"})
    # A little more is let come, and thrown away: who is cut off while sending does not read the answer.
    patience = 4 * most
    claimed = request.headers.get("content-length", "0")
    if claimed.isdecimal() and int(claimed) > patience:
        raise too_large
    body, count = bytearray(), 0
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for part in request.stream():
                count += len(part)
                if count <= most:
                    body += part
                elif count > patience:
                    raise too_large
    except TimeoutError:
        message = f"the request did not arrive within {limits.upload_seconds:g} s; send it again"
        raise RequestError(408, message, {"Connection": "close"}) from None
    if count > most:
        raise too_large
    return bytes(body)


async def _answer(request: Request, worker: Worker, work: Callable[[Job], None]) -> Response:
    """Have the work done; its first event decides the status."""
    events = worker.submit(work).events()
    first = await _while_connected(request, anext(events))
    if first["event"] == "error":
        await events.aclose()  # type: ignore[attr-defined]
        return refuse(first["status"], first["message"])
    if "application/json" in request.headers.get("accept", ""):

        async def all_of_them() -> list[Event]:
            return [first, *[event async for event in events]]

        collected = await _while_connected(request, all_of_them())
        if collected[-1]["event"] == "error":
            return refuse(collected[-1]["status"], collected[-1]["message"])
        return JSONResponse({"events": collected})
    return StreamingResponse(_lines(first, events), media_type="application/x-ndjson")


async def _while_connected(request: Request, waiting: Any) -> Any:
    """What `waiting` gives; given up, and so the job that it waits for, once the client is gone.

    Raises:
        ClientDisconnect: it is.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(waiting), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for unfinished in (task, watch):
            unfinished.cancel()


async def _lines(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[str]:
    try:
        yield json.dumps(first) + "\n"
        async for event in events:
            yield json.dumps(event) + "\n"
    except RequestError as error:
        yield json.dumps({"event": "error", "status": error.status, "message": str(error)}) + "\n"
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101  # for the type checker
    return refuse(error.status, str(error), error.headers)


async def _unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return refuse(status, "nothing is served under this address in this way; open /")


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


DRAIN_SECONDS = 30  # after SIGTERM or Ctrl-C, for requests that are being served
MAX_CONNECTIONS = 256


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service at that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    Raises:
        ConfigError: the address is not this machine's, or in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--host {host} --port {port}: cannot be listened at ({reason}); choose another") from error


def make_server(app: ASGIApp) -> uvicorn.Server:
    """What serves an application: `run(sockets=[listener])`, until SIGTERM, Ctrl-C or `should_exit`; requests that are
    being served by then are finished."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        h11_max_incomplete_event_size=16_384,
    )
    return uvicorn.Server(config)
