"""Who may ask: the page itself, from this machine, or from elsewhere with the token.

Knows origins, tokens and headers; does not know what is asked for. Against another site that makes the browser ask
(cross-site requests), every change must come as JSON from our own origin.
"""

import secrets
from http.cookies import CookieError, SimpleCookie

from fastapi import Response
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from belvedere.runtime.http.errors import Refused
from belvedere.runtime.http.limits import RequestLimits
from belvedere.runtime.http.middleware import READING, Exchange, Gate
from belvedere.runtime.network import is_local

COOKIE = "belvedere-review"
LOGIN_PATH = "/enter"  # with ?token=... it sets the cookie
LIMITS = RequestLimits(body_bytes=65_536, held_bytes=16_000_000)


class Guard:
    """Knows whom to answer."""

    def __init__(self, address: str, name: str = "", limits: RequestLimits = LIMITS) -> None:
        """Decides by the address that is listened on, under a name; away from this machine a token is made."""
        self.token = None if is_local(address) else secrets.token_urlsafe(24)
        self.only_local = name if self.token is None else None
        self.limits = limits

    def check_cookie(self, cookies: str) -> None:
        """Refuses who has not come in by the entrance."""
        try:
            cookie = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            cookie = None
        if self.token is not None and not _same(cookie.value if cookie else "", self.token):
            raise Refused(401, "Open the address with the token that belvedere review printed.")

    def let_in(self, token: str) -> Response:
        """Answers at the entrance."""
        if self.token is not None and not _same(token, self.token):
            raise Refused(401, "This token is not the one that belvedere review printed.")
        response = RedirectResponse("/", 303)
        if self.token is not None:
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        return response


class GuardedGate(Gate):
    """Passes on what the page itself asks for, within limits."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        super().__init__(app, guard.limits, images="'self'", only_local=guard.only_local)
        self.guard = guard

    def open(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        """Begins an exchange."""
        return _Exchange(self, self.guard, scope, receive, send)


class _Exchange(Exchange):
    """One request of the page's."""

    def __init__(self, gate: Gate, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(gate, scope, receive, send)
        self._guard = guard

    def check_head(self) -> None:
        super().check_head()
        if self.scope["path"] != LOGIN_PATH:
            self._guard.check_cookie(self._header(b"cookie"))
        if self.scope["method"] in READING:
            return
        if self._header(b"origin") != f"{self.scope['scheme']}://{self._header(b'host')}":
            raise Refused(403, "Only the page itself may record a decision.")
        if self._header(b"content-type").split(";")[0].strip() != "application/json":
            raise Refused(415, "A decision is JSON.")

    def _header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


def _same(one: str, other: str) -> bool:
    """Compares in a time that tells nothing."""
    return secrets.compare_digest(one.encode(), other.encode())
