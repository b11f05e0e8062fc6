"""Pages of other sites: whether they may ask, and what their browser is told (CORS).

Knows origins and the headers that name them; does not know routes or tokens.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from belvedere.errors import UsageError

ANY = "*"
EXPOSED = b"Retry-After, X-Request-Id"  # headers of an answer that a page of an allowed origin may read
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}
Headers = Mapping[bytes, bytes]


class Origins:
    """The origins, besides the server's own, whose pages may ask."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        """Takes origins such as https://example.com, or "*" for every one.

        Raises:
            UsageError: One is no origin.
        """
        self._allowed = frozenset(_read_origin(each) for each in allowed)

    def allows(self, headers: Headers) -> bool:
        """Whether a request names an origin that is allowed."""
        origin = headers.get(b"origin")
        return origin is not None and (ANY in self._allowed or origin.decode("latin-1").lower() in self._allowed)

    def is_foreign(self, headers: Headers) -> bool:
        """Whether a page that is not allowed to made the browser send this request.

        Browsers say so in Sec-Fetch-Site, on addresses that they trust. Elsewhere the page's origin is compared with
        the host that was asked for, or that a proxy says was: a page can set neither header.
        """
        if self.allows(headers):
            return False
        if (site := headers.get(b"sec-fetch-site")) is not None:
            return site not in (b"same-origin", b"none")
        if (origin := headers.get(b"origin")) is None:
            return False  # no browser
        asked = {headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"x-forwarded-host")}
        host = _host_of(origin.decode("latin-1").lower())
        return not host or host not in asked

    def own_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Returns the headers of an answer to such a request."""
        if not self._allowed:
            return []
        vary = (b"vary", b"Origin")
        if not self.allows(headers):
            return [vary]
        named = b"*" if ANY in self._allowed else headers[b"origin"]
        return [vary, (b"access-control-allow-origin", named), (b"access-control-expose-headers", EXPOSED)]


class Preflights:
    """Answers what a browser asks before a request of an allowed origin's page, and passes on the rest."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = dict(scope["headers"])
            if b"access-control-request-method" in headers and self._origins.allows(headers):
                await Response(status_code=204, headers=PREFLIGHT)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _read_origin(text: str) -> str:
    """Checks an origin and returns it as browsers write it."""
    origin = text.strip().lower()
    if origin == ANY:
        return origin
    if not (host := _host_of(origin)) or origin != f"{urlsplit(origin).scheme}://{host}":
        raise UsageError(
            f"An origin is a scheme and a host, without a path or a port that the scheme has anyway, such as "
            f"https://example.com; or {ANY} for every page. Received: {text!r}."
        )
    return origin


def _host_of(origin: str) -> str:
    """Returns an origin's host and port as a browser writes them in Host; empty for what is none, such as "null"."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return ""
    if not parts.scheme or not parts.hostname or "@" in parts.netloc:
        return ""
    return (
        parts.netloc.removesuffix(f":{port}") if port == {"http": 80, "https": 443}.get(parts.scheme) else parts.netloc
    )
