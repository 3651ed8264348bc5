"""The web page: drop a recording or a mel, hear it vocoded, watch noise become sound; by Starlette and uvicorn."""

from wavediff.app.events import Studio
from wavediff.app.queue import Limits
from wavediff.app.service import make_app
from wavediff.app.serving import is_loopback, listen, make_server

__all__ = ["Limits", "Studio", "is_loopback", "listen", "make_app", "make_server"]
