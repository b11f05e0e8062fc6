"""Who may ask: the page itself, from this machine, or from elsewhere with the token.

Knows hosts, origins, tokens and headers; does not know what is asked for. Against another site that makes the browser
ask (cross-site requests), every change must come as JSON from our own origin; against one that gives its own name our
address (DNS rebinding), only names of this machine are answered.
"""

import secrets
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from belvedere.hosts import is_local, names_this_machine

COOKIE = "belvedere-review"
ENTRANCE = "/enter"  # with ?token=... it sets the cookie
MAX_BODY_BYTES = 65_536
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

Answer = Callable[[Request], Awaitable[Response]]


class Guard:
    """Stands before every answer."""

    def __init__(self, address: str, name: str = "") -> None:
        """Decides by the address that is listened on, under a name; away from this machine a token is made."""
        self.token = None if is_local(address) else secrets.token_urlsafe(24)
        self._name = name

    async def __call__(self, request: Request, answer: Answer) -> Response:
        """Answers, or says why not."""
        refusal = self._refuse(request)
        if refusal is not None:
            response: Response = JSONResponse({"error": refusal[1]}, refusal[0])
        elif request.scope["path"] == ENTRANCE:
            response = self._let_in(request)
        else:
            response = await answer(request)
        response.headers.update(HEADERS)
        return response

    def _refuse(self, request: Request) -> tuple[int, str] | None:
        host = request.headers.get("host", "")
        if self.token is None and not names_this_machine(host, self._name):
            return 421, "This page answers to the names of this machine only."
        if request.scope["path"] != ENTRANCE and not self._is_known(request):
            return 401, "Open the address with the token that belvedere review printed."
        if request.method in ("GET", "HEAD"):
            return None
        if request.headers.get("origin") != f"{request.scope['scheme']}://{host}":
            return 403, "Only the page itself may record a decision."
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return 415, "A decision is JSON."
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return 413, f"A decision has a length, of at most {MAX_BODY_BYTES:,} bytes."
        return None

    def _is_known(self, request: Request) -> bool:
        return self.token is None or _same(request.cookies.get(COOKIE, ""), self.token)

    def _let_in(self, request: Request) -> Response:
        if self.token is not None and not _same(request.query_params.get("token", ""), self.token):
            return JSONResponse({"error": "This token is not the one that belvedere review printed."}, 401)
        response = RedirectResponse("/", 303)
        if self.token is not None:
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        return response


def _same(one: str, other: str) -> bool:
    """Compares in a time that tells nothing."""
    return secrets.compare_digest(one.encode(), other.encode())
