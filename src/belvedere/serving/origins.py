"""Cross-origin requests: which web pages may send requests (CSRF), and which may read responses (CORS)."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from belvedere.errors import UsageError
from belvedere.serving.kserve.protocol import HEADER_LENGTH

ANY = "*"


class Origins:
    """The origins whose pages may send requests, besides the server's own."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        """Check the origins.

        Args:
            allowed: Origins such as "https://example.com", or "*" for every one.

        Raises:
            UsageError: One of them is not an origin.
        """
        self._allowed = frozenset(_read_origin(each) for each in allowed)

    def add_cors(self, app: ASGIApp) -> ASGIApp:
        """Return the application with CORS headers and preflight responses for the allowed origins."""
        if not self._allowed:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self._allowed,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Authorization", "Content-Type", HEADER_LENGTH),
            expose_headers=("Retry-After", "X-Request-Id", HEADER_LENGTH),
        )

    def is_allowed(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether the page that sent a request may do so; true for programs, which are no browsers.

        Browsers send Sec-Fetch-Site to addresses that they trust. Elsewhere the Origin must match the Host, or the
        X-Forwarded-Host of a proxy; a page can set none of these headers.
        """
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if b"origin" in headers and not self._allowed.isdisjoint((ANY, origin)):
            return True
        if (site := headers.get(b"sec-fetch-site")) is not None:
            return site in (b"same-origin", b"none")
        if b"origin" not in headers:
            return True
        hosts = {headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"x-forwarded-host")}
        host = _host_of(origin)
        return host != "" and host in hosts


def _read_origin(text: str) -> str:
    """Check an origin and return it as browsers write it."""
    origin = text.strip().lower()
    host = _host_of(origin)
    if origin != ANY and (not host or origin != f"{urlsplit(origin).scheme}://{host}"):
        raise UsageError(
            f"Not an origin: {text!r}. Give a scheme and a host without path or default port, such as "
            f"https://example.com; or {ANY} for every origin."
        )
    return origin


def _host_of(origin: str) -> str:
    """Return host and port of an origin as in the Host header; empty if it is no origin, such as "null"."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return ""
    if not parts.scheme or not parts.hostname or "@" in parts.netloc:
        return ""
    is_default = port == {"http": 80, "https": 443}.get(parts.scheme)
    return parts.netloc.removesuffix(f":{port}") if is_default else parts.netloc
