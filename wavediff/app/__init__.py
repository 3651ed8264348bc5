"""The web page: drop a recording or a mel, hear it vocoded, watch noise become sound; by Starlette and uvicorn."""

from wavediff.app.jobs import Limits
from wavediff.app.service import make_app
from wavediff.app.serving import is_loopback, listen, make_server
from wavediff.app.work import Studio

__all__ = ["Limits", "Studio", "is_loopback", "listen", "make_app", "make_server"]
