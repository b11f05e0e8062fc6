"""A gate before an application: limits on what is sent, security headers, one shape of refusal.

Knows one exchange of a request and its answer, as ASGI has it; does not know routes. A body is counted as it comes:
over the limit, or past its time, its request is refused, and what else is sent is read away for a moment so that the
refusal arrives.
"""

import asyncio
import time
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from belvedere.runtime.http.errors import Busy, Gone, Refused, problem
from belvedere.runtime.http.limits import RequestLimits
from belvedere.runtime.network import is_allowed_host

LINGER_SECONDS = 2.0  # for which a refused body is read away
LINGER_BYTES = 64_000_000  # as many of it at most
SLOW = 408  # the status of what was sent too slowly
READING = ("GET", "HEAD", "OPTIONS")  # methods that change nothing
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Gate:
    """Passes requests on to an application, within limits."""

    def __init__(self, app: ASGIApp, limits: RequestLimits, *, images: str, only_local: str | None) -> None:
        """Stands before an application.

        Args:
            app: Answers.
            limits: Of a request.
            images: Where a page's images may come from, as a content security policy says it.
            only_local: The server's own name, where requests must name this machine: against another site that gives
                its own name our address (DNS rebinding). None where any name is answered.
        """
        self.app = app
        self.limits = limits
        self.only_local = only_local
        self.headers = (*HEADERS, (b"content-security-policy", _write_policy(images).encode()))
        self.held_bytes = 0  # of all bodies in memory
        self.is_closing = False  # at the end: answers close their connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "http":
            await self.open(scope, receive, send).run()
        else:
            await self.app(scope, receive, send)

    def open(self, scope: Scope, receive: Receive, send: Send) -> "Exchange":
        """Begins an exchange."""
        return Exchange(self, scope, receive, send)


class Exchange:
    """One request and its answer."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        # HEAD is answered as GET, without the body.
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self._gate, self._receive_raw, self._send_raw = gate, receive, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.began = time.perf_counter()
        self.received = 0  # bytes of the body
        self.status = 0  # of the answer, once it has begun
        self._broken: Refused | None = None  # why the application does not answer
        self._body_until = self.began + gate.limits.body_seconds
        self._is_whole = b"transfer-encoding" not in self.headers and self.headers.get(b"content-length", b"0") == b"0"

    async def run(self) -> None:
        """Answers, or refuses."""
        try:
            await self._pass_on()
            if self._broken is not None and not self.status:
                await self.refuse(self._broken)
        finally:
            self._gate.held_bytes -= self.received

    async def _pass_on(self) -> None:
        try:
            self.check_head()
            await self._gate.app(self.scope, self._receive, self._answer)
        except Refused as refused:
            self._broken = refused

    def check_head(self) -> None:
        """Refuses by the head alone what must not be answered, or would be refused later."""
        if sum(name == b"host" for name, _ in self.scope["headers"]) > 1:
            raise Refused(400, "The request has several Host headers. Send one.")
        self._check_host()
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._gate.limits.body_bytes:
            raise self._too_large()

    def _check_host(self) -> None:
        host = self.headers.get(b"host", b"").decode("latin-1")  # browsers always send it
        own_name = self._gate.only_local
        if own_name is not None and b"host" in self.headers and not is_allowed_host(host, own_name):
            raise Refused(
                421,
                "A server that asks for no token answers under names of this machine only. "
                f"Received the host {host[:100]!r}. Ask for 127.0.0.1 or localhost; let a proxy send one of them as "
                "Host; or start the server with a token, to be asked under any name.",
            )

    def own_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""
        closes = self._gate.is_closing or not self._is_whole
        return [*self._gate.headers, *([(b"connection", b"close")] if closes else [])]

    async def refuse(self, refused: Refused) -> None:
        """Answers with a refusal."""
        body = problem(refused.code, refused.message)
        headers = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _too_large(self) -> Refused:
        limit = self._gate.limits.body_bytes
        return Refused(413, f"A request may be {limit:,} bytes. Send fewer or smaller files.", "body_too_large")

    async def _receive(self) -> Message:
        if self._broken is None:
            try:
                return await self._read()
            except Refused as refused:
                self._broken = refused
        raise self._broken

    async def _answer(self, message: Message) -> None:
        """Sends what the application answers; what it says of a body that was cut off counts for nothing."""
        if self._broken is None or self.status:
            await self._send(message)

    async def _read(self) -> Message:
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
        self.received += size
        self._gate.held_bytes += size
        self._is_whole = not message.get("more_body", False)
        if self.received > self._gate.limits.body_bytes:
            raise self._too_large()
        if self._gate.held_bytes > self._gate.limits.held_bytes:
            raise Busy("The memory for requests is full. Try again in a moment.", "memory_full")
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._linger(message["status"])
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self.own_headers()]}
        elif self.method == "HEAD":
            message = {**message, "body": b""}
        async with asyncio.timeout(self._gate.limits.answer_seconds):  # for clients that send and never read
            await self._send_raw(message)

    async def _linger(self, status: int) -> None:
        """Reads away the rest of a refused body: a client that is still sending would not see the answer."""
        waits_for_a_word = b"expect" in self.headers and not self.received
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


def _write_policy(images: str) -> str:
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
