"""What stands before every route: limits on what is sent, security headers, the access log, one shape of refusal.

Knows one exchange of a request and its answer, as ASGI has it; does not know routes or pictures. A body is counted as
it comes: over the limit, or past its time, its request is refused, and what else is sent is read away for a moment
so that the refusal arrives.
"""

import asyncio
import logging
import secrets
import time
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from belvedere.hosts import names_this_machine
from belvedere.serve.limits import Limits
from belvedere.serve.metrics import Metrics
from belvedere.serve.problems import GONE, Busy, Gone, Refused, problem

LINGER_SECONDS = 2.0  # for which a refused body is read away
LINGER_BYTES = 64_000_000  # as many of it at most
SLOW = 408  # the status of what was sent too slowly
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

log = logging.getLogger("belvedere.serve")


class Gate:
    """Passes requests on to an application, within limits."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, *, only_local: str | None = None) -> None:
        self.app = app
        self.limits = limits
        self.metrics = metrics
        self.only_local = only_local  # our name; against another site that gives its own our address (DNS rebinding)
        self.held_bytes = 0  # of all bodies in memory
        self.is_closing = False  # at the end: answers close their connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "http":
            await _Exchange(self, scope, receive, send).run()
        else:
            await self.app(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self._gate, self._scope, self._receive_raw, self._send_raw = gate, scope, receive, send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._began = time.perf_counter()
        self._body_until = self._began + gate.limits.body_seconds
        self._received = 0
        self._is_whole = (
            b"transfer-encoding" not in self._headers and self._headers.get(b"content-length", b"0") == b"0"
        )
        self._status = 0
        self._code = ""  # of a refusal
        self.id = secrets.token_hex(8)

    async def run(self) -> None:
        self._scope["exchange"] = notes = {"id": self.id, "pictures": 0, "code": ""}
        try:
            self._check_head()
            await self._gate.app(self._scope, self._receive, self._send)
        except Refused as refused:
            await self._refuse(refused)
        except Exception:
            log.exception("A request failed.", extra={"fields": {"id": self.id}})  # the application has told its sender
        finally:
            self._gate.held_bytes -= self._received
            self._close(notes)

    def _check_head(self) -> None:
        """Refuses by the head alone what must not be answered, or would be refused later."""
        host = self._headers.get(b"host")  # browsers always send it
        own_name = self._gate.only_local
        if own_name is not None and host is not None and not names_this_machine(host.decode("latin-1"), own_name):
            raise Refused(
                421, "Without a token, this server answers to names of this machine only: 127.0.0.1, localhost."
            )
        if self._scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return
        if self._headers.get(b"sec-fetch-site") == b"cross-site":
            raise Refused(403, "This request was made by another site's page. Ask from this server's own page.")
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._gate.limits.body_bytes:
            raise self._too_large()

    def _too_large(self) -> Refused:
        limit = self._gate.limits.body_bytes
        return Refused(413, f"A request may be {limit:,} bytes. Send fewer or smaller files.", "body_too_large")

    async def _receive(self) -> Message:
        if self._is_whole:
            return await self._receive_raw()
        try:
            async with asyncio.timeout(self._body_until - time.perf_counter()):
                message = await self._receive_raw()
        except TimeoutError:
            seconds = self._gate.limits.body_seconds
            raise Refused(SLOW, f"The request was not whole after {seconds:g} s. Send it faster.") from None
        if message["type"] == "http.disconnect":
            raise Gone
        size = len(message.get("body", b""))
        self._received += size
        self._gate.held_bytes += size
        self._is_whole = not message.get("more_body", False)
        if self._received > self._gate.limits.body_bytes:
            raise self._too_large()
        if self._gate.held_bytes > self._gate.limits.held_bytes:
            raise Busy("The memory for requests is full. Try again in a moment.", "memory_full")
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._linger(message["status"])
            self._status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._own_headers()]}
        async with asyncio.timeout(self._gate.limits.answer_seconds):  # for clients that send and never read
            await self._send_raw(message)

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [*HEADERS, (b"x-request-id", self.id.encode())]
        if self._gate.is_closing or not self._is_whole:
            headers.append((b"connection", b"close"))
        return headers

    async def _linger(self, status: int) -> None:
        """Reads away the rest of a refused body: a client that is still sending would not see the answer."""
        waits_for_a_word = b"expect" in self._headers and not self._received
        if self._is_whole or status == SLOW or waits_for_a_word:
            return
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0:
                    message = await self._receive_raw()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        self._is_whole = message["type"] == "http.request"
                        return

    async def _refuse(self, refused: Refused) -> None:
        self._code = refused.code
        body = problem(refused.code, refused.message)
        headers = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _close(self, notes: dict[str, object]) -> None:
        """Counts the exchange and writes its line of the log: no name of a file and nothing of a picture is in it."""
        seconds = time.perf_counter() - self._began
        route = getattr(self._scope.get("route"), "path", "other")
        status = self._status or GONE
        code = self._code or notes["code"]
        metrics = self._gate.metrics
        metrics.requests.labels(route, status).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        if code:
            metrics.refused.labels(code).inc()
        client = self._scope.get("client")
        fields = {
            "id": self.id,
            "client": client[0] if client else None,
            "method": self._scope["method"],
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
            "bytes": self._received,
            "pictures": notes["pictures"],
        }
        log.info("request", extra={"fields": {**fields, "code": code} if code else fields})
