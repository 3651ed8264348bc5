"""Who may talk to the service: checks that stand before every request, and headers on every answer."""

import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "wavediff_token"
MAX_QUERY_BYTES = 4096
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware.

    A page of another site that is open in the same browser can send requests here too: the host it names is checked
    against those that are known, which a name made to point here (DNS rebinding) is not, and the origin that it comes
    from against the host.

    Args:
        app: what is guarded.
        hosts: names under which the service is reached, without port; empty for any.
        token: what a client has to show, as `Authorization: Bearer`, cookie or, once, `?token=`; None for nothing.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = (), token: str | None = None) -> None:
        self.app, self.hosts, self.token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # a websocket that nobody answers is refused by the server

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._refusal(scope)
        await (self.app if answer is None else answer)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, query = Headers(scope=scope), scope.get("query_string", b"")
        if len(query) > MAX_QUERY_BYTES:
            return refuse(414, f"the address has {len(query)} bytes of query, {MAX_QUERY_BYTES} are the most")
        path: str = scope["path"]
        if "\0" in path or "\\" in path or ".." in path.split("/") or path.startswith("//"):
            return refuse(400, "the address is not one of this service's; open /")
        host = headers.get("host", "")
        if self.hosts and _name(host) not in self.hosts:
            return refuse(
                421, f"the host {host[:100]!r} is not served here; use the address that `wavediff serve` printed"
            )
        origin = headers.get("origin")
        if origin is not None and _authority(origin) != host:
            return refuse(403, "requests from pages of other sites are refused; open this service's own page")
        return None if self.token is None else self._unknown(self.token, scope, headers, query)

    @staticmethod
    def _unknown(token: str, scope: Scope, headers: Headers, query: bytes) -> Response | None:
        def known(shown: str) -> bool:
            return hmac.compare_digest(shown.encode(), token.encode())

        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and known(bearer.strip()):
            return None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and known(cookie.value):
            return None
        given = parse_qs(query.decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and known(given):
            answer = RedirectResponse(scope["path"], 303)  # or it would stay in the address and the history
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        return refuse(401, "this service wants a token; open the address that `wavediff serve` printed")


def refuse(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error as every answer of the service gives it."""
    return JSONResponse({"error": message}, status, headers)


def _authority(origin: str) -> str | None:
    """Host and port; None of what is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _name(host: str) -> str:
    """Without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
