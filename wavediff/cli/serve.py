"""A web page on this machine: drop a recording or a mel and hear it vocoded, see noise become speech step by step, make
sound effects by class. Nothing leaves the machine; anything but the loopback address wants a token.
"""

import argparse
import os
import re
import secrets
import sys
from pathlib import Path

from wavediff.arguments import real, whole
from wavediff.cli.parser import add_number, add_options
from wavediff.errors import ConfigError, require_packages

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0 takes any that is free")
    add_options(parser, checkpoint="the bundled vocoder")
    parser.add_argument(
        "--generator", type=Path, metavar="MODEL", help="as --checkpoint, for sounds (default: the bundled generator)"
    )
    add_options(parser, "device")
    shown_help = "what clients must show (default: none on the loopback address, else a new one; or $WAVEDIFF_TOKEN)"
    parser.add_argument("--token", help=shown_help)
    limits = parser.add_argument_group("limits of a request")
    add_number(limits, "--max-seconds", 60.0, "S", "of sound")
    add_number(limits, "--max-megabytes", 32.0, "M", "of a file")
    add_number(limits, "--waiting", 8, "N", "requests beside the one served")
    add_number(limits, "--deadline", 120.0, "S", "until its sound is there")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(args: argparse.Namespace) -> None:
    """Serve until interrupted."""
    require_packages(("starlette", "uvicorn"), "serve", "wavediff serve")
    from wavediff.app.events import Studio
    from wavediff.app.queue import Limits
    from wavediff.app.service import is_loopback, listen, make_app, make_server
    from wavediff.pipelines.generator import Generator
    from wavediff.pipelines.vocoder import Vocoder

    for name in ("max_seconds", "max_megabytes", "deadline"):
        real(getattr(args, name), f"--{name.replace('_', '-')}", "above 0", lambda value: value > 0, ConfigError)
    whole(args.waiting, "--waiting", 0, None, ConfigError)
    whole(args.port, "--port", 0, 65_535, ConfigError)
    token = (os.environ.get("WAVEDIFF_TOKEN") or None) if args.token is None else args.token
    if token is not None and not re.fullmatch(r"[\w.~-]+", token, re.ASCII):  # it goes into an address and a cookie
        raise ConfigError("--token: holds other characters than letters, digits and - . _ ~, or none; choose another")
    if token is None and not is_loopback(args.host):
        token = secrets.token_urlsafe(24)
    with listen(args.host, args.port) as listener:
        port = listener.getsockname()[1]
        limits = Limits(
            upload_bytes=int(args.max_megabytes * 1e6),
            audio_seconds=args.max_seconds,
            waiting=args.waiting,
            job_seconds=args.deadline,
        )
        studio = Studio(
            Vocoder.from_pretrained(args.checkpoint, args.device),
            Generator.from_pretrained(args.generator, args.device),
            limits,
        )
        # Under which names others reach this machine is not known here; there, the token stands in for the check.
        hosts = ("localhost", "127.0.0.1", "::1", args.host) if args.host not in EVERYWHERE else ()
        app = make_app(studio, hosts=hosts, token=token)
        shown = f"[{args.host}]" if ":" in args.host else args.host
        address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
        print(f"wavediff serves at {address} (Ctrl-C ends it)", flush=True)
        if args.open:
            import webbrowser

            webbrowser.open(address)
        make_server(app).run(sockets=[listener])
    print("wavediff serve: ended", file=sys.stderr)
