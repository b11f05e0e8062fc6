"""ASGI middleware of both servers: request limits, host check, security headers and error responses.

The body is counted as it arrives. A request over a limit gets an error response, and the rest of its body is read and
dropped for a moment, so that the client receives the response.
"""

import asyncio
import time
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from belvedere.runtime.http.errors import ClientDisconnectedError, HTTPError, ServiceUnavailableError, error_body
from belvedere.runtime.http.limits import RequestLimits
from belvedere.runtime.network import is_allowed_host

DRAIN_SECONDS = 2.0  # to read and drop a rejected body
DRAIN_BYTES = 64_000_000
REQUEST_TIMEOUT = 408
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class LimitsMiddleware:
    """Apply the limits to every request and the security headers to every response."""

    def __init__(
        self,
        app: ASGIApp,
        limits: RequestLimits,
        *,
        image_sources: str,
        local_name: str | None,
        frame_ancestors: str = "'none'",
    ) -> None:
        """Wrap an application.

        Args:
            app: ASGI application.
            limits: Limits of one request.
            image_sources: Sources of `img-src` in the content security policy.
            local_name: Name of this server. If it is given, requests must address this machine or this name, which
                prevents DNS rebinding. None accepts every host.
            frame_ancestors: Origins whose pages may show the server's pages in a frame.
        """
        self.app = app
        self.limits = limits
        self.local_name = local_name
        policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {image_sources}; connect-src 'self'; "
            f"base-uri 'none'; form-action 'none'; frame-ancestors {frame_ancestors}"
        )
        self.security_headers = (*SECURITY_HEADERS, (b"content-security-policy", policy.encode()))
        self.buffered_bytes = 0  # request bodies in memory
        self.is_closing = False  # at shutdown: responses close their connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            await self.open_request(scope, receive, send).run()
        else:
            await self.app(scope, receive, send)

    def open_request(self, scope: Scope, receive: Receive, send: Send) -> "RequestContext":
        """Return the context of a new request."""
        return RequestContext(self, scope, receive, send)


class RequestContext:
    """One request and its response."""

    def __init__(self, middleware: LimitsMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        # The application handles HEAD as GET; `_send` drops the body.
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self._middleware, self._limits = middleware, middleware.limits
        self._receive_raw, self._send_raw = receive, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.started = time.perf_counter()
        self.num_bytes = 0  # of the body, so far
        self.status = 0  # of the response, once it started
        self._error: HTTPError | None = None  # ends the request in place of the application
        self._is_complete = (
            b"transfer-encoding" not in self.headers and self.headers.get(b"content-length", b"0") == b"0"
        )

    async def run(self) -> None:
        """Pass the request to the application, or reject it."""
        try:
            try:
                self.check_headers()
                await self._middleware.app(self.scope, self._receive, self._send_if_valid)
            except Exception as error:  # noqa: BLE001 - raised again, or converted
                self._error = self.to_http_error(error)
            if self._error is not None and not self.status:
                await self.reject(self._error)
        finally:
            self._middleware.buffered_bytes -= self.num_bytes

    def check_headers(self) -> None:
        """Raise HTTPError if the headers alone are reason to reject the request."""
        headers = self.scope["headers"]
        num_bytes = sum(len(name) + len(value) for name, value in headers) + len(self.scope.get("raw_path", b""))
        if num_bytes + len(self.scope["query_string"]) > self._limits.max_header_bytes:
            raise HTTPError(431, f"The header of a request may be {self._limits.max_header_bytes:,} bytes.")
        if sum(name == b"host" for name, _ in headers) > 1:
            raise HTTPError(400, "The request has several Host headers. Send one.")
        host, local_name = self.headers.get(b"host"), self._middleware.local_name
        if host is not None and local_name is not None and not is_allowed_host(host.decode("latin-1"), local_name):
            raise HTTPError(
                421,
                f"Host not allowed: {host[:100].decode('latin-1')!r}. A server without a token responds to names of "
                "this machine only. Use 127.0.0.1 or localhost, let a proxy send one of them as Host, or start the "
                "server with a token.",
            )
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.max_body_bytes:
            raise self._body_too_large()

    def to_http_error(self, error: Exception) -> HTTPError:
        """Convert an exception of the application, or raise it again."""
        if isinstance(error, HTTPError):
            return error
        raise error

    def response_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers added to the response."""
        closes = self._middleware.is_closing or not self._is_complete
        return [*self._middleware.security_headers, *([(b"connection", b"close")] if closes else [])]

    def error_content(self, error: HTTPError) -> bytes:
        """Return the body of an error response."""
        return error_body(error.code, error.message)

    async def reject(self, error: HTTPError) -> None:
        """Send an error response."""
        body = self.error_content(error)
        headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _body_too_large(self) -> HTTPError:
        return HTTPError(413, f"A request may be {self._limits.max_body_bytes:,} bytes. Send fewer or smaller files.")

    async def _receive(self) -> Message:
        if self._error is None:
            try:
                return await self._read()
            except HTTPError as error:
                self._error = error
        raise self._error

    async def _send_if_valid(self, message: Message) -> None:
        """Send the response of the application, unless its request was rejected while it read the body."""
        if self._error is None or self.status:
            await self._send(message)

    async def _read(self) -> Message:
        if self._is_complete:
            return await self._receive_raw()
        try:
            async with asyncio.timeout(self.started + self._limits.body_seconds - time.perf_counter()):
                message = await self._receive_raw()
        except TimeoutError:
            seconds = self._limits.body_seconds
            raise HTTPError(REQUEST_TIMEOUT, f"The request was not complete after {seconds:g} s.") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        size = len(message.get("body", b""))
        self.num_bytes += size
        self._middleware.buffered_bytes += size
        self._is_complete = not message.get("more_body", False)
        if self.num_bytes > self._limits.max_body_bytes:
            raise self._body_too_large()
        if self._middleware.buffered_bytes > self._limits.max_buffered_bytes:
            raise ServiceUnavailableError("The memory for requests is full. Try again in a moment.")
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._drain(message["status"])
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self.response_headers()]}
        elif self.method == "HEAD":
            message = {**message, "body": b""}
        await self._send_raw(message)

    async def _drain(self, status: int) -> None:
        """Read and drop the rest of a rejected body: a client that is still sending would miss the response."""
        awaits_continue = b"expect" in self.headers and not self.num_bytes
        if self._is_complete or status == REQUEST_TIMEOUT or awaits_continue:
            return
        remaining = DRAIN_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while remaining > 0:
                    message = await self._receive_raw()
                    remaining -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        self._is_complete = message["type"] == "http.request"
                        return
