"""Access to the review: the token, and protection against requests that other sites make a browser send (CSRF).

A change must be JSON from the server's own origin. Beyond this machine the page needs a token, which a cookie keeps.
"""

import secrets

from fastapi import Response
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from belvedere.runtime.http.errors import HTTPError
from belvedere.runtime.http.limits import RequestLimits
from belvedere.runtime.http.middleware import SAFE_METHODS, LimitsMiddleware, RequestContext
from belvedere.runtime.network import is_local

LOGIN_PATH = "/enter"  # with ?token=... it sets the cookie
LIMITS = RequestLimits(max_body_bytes=65_536, max_buffered_bytes=16_000_000)


class RequestGuard:
    """Checks the token of a request."""

    def __init__(
        self, address: str, name: str = "", limits: RequestLimits = LIMITS, frame_ancestors: str = "'none'"
    ) -> None:
        """Create a token, unless only this machine reaches the address.

        Args:
            address: Address that the server listens on.
            name: Host name of that address, which requests may use.
            limits: Limits of one request.
            frame_ancestors: Origins whose pages may show the review in a frame.
        """
        self.token = None if is_local(address) else secrets.token_urlsafe(24)
        self.local_name = name if self.token is None else None
        self.limits = limits
        self.frame_ancestors = frame_ancestors

    def check_cookie(self, cookies: str, host: str) -> None:
        """Raise HTTPError unless the Cookie header of a request to a host holds the token."""
        pairs = (pair.partition("=") for pair in cookies.split(";"))  # those of other applications may be malformed
        tokens = (value.strip() for name, _, value in pairs if name.strip() == _cookie_name(host))
        if self.token is not None and not _is_equal(next(tokens, ""), self.token):
            raise HTTPError(401, "Open the address with the token that the server printed.")

    def log_in(self, token: str, host: str) -> Response:
        """Return the redirect to the page of a host that sets the cookie; raises HTTPError for a wrong token."""
        if self.token is not None and not _is_equal(token, self.token):
            raise HTTPError(401, "Wrong token. Open the address with the token that the server printed.")
        response = RedirectResponse("/", 303)
        if self.token is not None:
            response.set_cookie(_cookie_name(host), self.token, httponly=True, samesite="strict")
        return response


class AuthMiddleware(LimitsMiddleware):
    """Limits, and the checks of token and origin."""

    def __init__(self, app: ASGIApp, guard: RequestGuard) -> None:
        super().__init__(
            app,
            guard.limits,
            image_sources="'self'",
            local_name=guard.local_name,
            frame_ancestors=guard.frame_ancestors,
        )
        self.guard = guard

    def open_request(self, scope: Scope, receive: Receive, send: Send) -> RequestContext:
        """Return the context of a new request."""
        return _RequestContext(self, self.guard, scope, receive, send)


class _RequestContext(RequestContext):
    def __init__(
        self, middleware: LimitsMiddleware, guard: RequestGuard, scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__(middleware, scope, receive, send)
        self._guard = guard

    def check_headers(self) -> None:
        super().check_headers()
        if self.scope["path"] != LOGIN_PATH:
            self._guard.check_cookie(self._header(b"cookie"), self._header(b"host"))
        if self.scope["method"] in SAFE_METHODS:
            return
        if self._header(b"origin") != f"{self.scope['scheme']}://{self._header(b'host')}":
            raise HTTPError(403, "Only the page itself may send changes.")
        if self._header(b"content-type").split(";")[0].strip() != "application/json":
            raise HTTPError(415, "The body must be JSON.")

    def _header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


def _cookie_name(host: str) -> str:
    """Return the name of the cookie by the port that the browser uses: it sends cookies to all ports of a host."""
    port = host.rpartition(":")[2]
    return f"belvedere-{port if port.isdecimal() and port.isascii() else 80}"


def _is_equal(one: str, other: str) -> bool:
    """Compare in constant time."""
    return secrets.compare_digest(one.encode(), other.encode())
