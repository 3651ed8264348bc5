"""From an application to a port."""

import ipaddress
import socket

import uvicorn
from starlette.types import ASGIApp

from wavediff.errors import ConfigError

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
