"""Connections with a time limit for the header of a request.

uvicorn's h11 protocol limits the bytes of headers, trailers and chunk headers (`h11_max_incomplete_event_size`) and
the idle time between requests (`timeout_keep_alive`), but not the time of a header. `Connection` wraps that protocol
through asyncio's protocol interface and adds the time limit, one for clients that never read, JSON errors and a close
that lets the response arrive. Header and body of a response leave in one packet.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from belvedere.runtime.http.errors import code_of, error_body
from belvedere.runtime.http.limits import RequestLimits

MAX_OUTPUT_BYTES = 65_536  # that are collected before they are sent
LINGER_SECONDS = 1.0  # to read and drop what the client still sends after the last response

_current: ContextVar["Connection | None"] = ContextVar("connection", default=None)


class Connection(asyncio.Protocol):
    """One client connection: uvicorn's protocol with a timer for headers."""

    limits: RequestLimits
    protocol: Callable[..., asyncio.Protocol]
    opened: "set[Connection]"

    def __init__(self, **options: Any) -> None:
        self._inner = self.protocol(**options)
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", None)  # until connection_made
        self._num_active = 0  # requests in the application
        self._is_receiving = False  # then only uvicorn itself writes: an error
        self._header_bytes = 0  # received while waiting for a header
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._close_timers: list[asyncio.TimerHandle] = []
        self._output = bytearray()  # written, not yet sent

    @property
    def awaits_header(self) -> bool:
        """Whether the header of the next request is outstanding or incomplete."""
        return self._header_timer is not None

    @property
    def is_closing(self) -> bool:
        """Whether no further request is read."""
        return bool(self._close_timers) or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer of the first header."""
        self._transport = cast("asyncio.Transport", transport)
        self.opened.add(self)
        self._inner.connection_made(cast("asyncio.Transport", _Transport(self, self._transport)))
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self.opened.discard(self)
        self._cancel_timer()
        for timer in (*self._close_timers, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on the data; outside a request it belongs to the next header."""
        if self.is_closing:
            return
        if not self._num_active:
            self._start_timer()
            self._header_bytes += len(data)
        _current.set(self)  # the task of the request inherits it
        self._is_receiving = True
        self._inner.data_received(data)
        self._is_receiving = False

    def eof_received(self) -> bool | None:
        """Pass on the end of input."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on a full write buffer, which the client has to read within `response_seconds`."""
        self._write_timer = self._loop.call_later(self.limits.response_seconds, self._transport.abort)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on a drained write buffer."""
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._inner.resume_writing()

    def begin_request(self) -> None:
        """Note that a complete header reached the application."""
        self._num_active += 1
        self._cancel_timer()

    def end_request(self) -> None:
        """Note that the application is done with a request."""
        self._num_active -= 1

    def write(self, data: bytes) -> None:
        """Write a response, or an error as JSON in place of uvicorn's plain text."""
        if self.is_closing:
            return
        if not self._is_receiving:
            if not self._output:
                self._loop.call_soon(self._flush)
            self._output += data
            if len(self._output) > MAX_OUTPUT_BYTES:
                self._flush()
        elif self._header_bytes > self.limits.max_header_bytes:
            self._reject(431, f"The header of a request may be {self.limits.max_header_bytes:,} bytes.")
        else:
            self._reject(400, "This is not a valid HTTP request.")

    def close(self) -> None:
        """Send the end of output, then close when the client does, or after a moment.

        Closing a socket with unread input resets the connection, and the client may lose the response.
        """
        if self.is_closing:
            return
        self._flush()
        self._cancel_timer()
        self._close_timers = [
            self._loop.call_later(LINGER_SECONDS, self._transport.close),
            self._loop.call_later(self.limits.response_seconds, self._transport.abort),  # for clients that never read
        ]
        self._transport.write_eof()
        self._transport.resume_reading()

    def _flush(self) -> None:
        if self._output and not self._transport.is_closing():
            self._transport.write(bytes(self._output))
            self._output.clear()

    def _start_timer(self) -> None:
        if self._header_timer is None:
            self._header_bytes = 0
            seconds = self.limits.header_seconds
            message = f"The header of the request was not complete after {seconds:g} s."
            self._header_timer = self._loop.call_later(seconds, self._reject, 408, message)

    def _cancel_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _reject(self, status: int, message: str) -> None:
        body = error_body(code_of(status), message)
        lines = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "content-type: application/json", "connection: close"
        head = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""])
        self._flush()
        self._transport.write(head.encode() + body)
        self.close()


class _Transport:
    """The transport of uvicorn's protocol: writes and the close go through the connection."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.write, self.close = connection.write, connection.close
        self.is_closing = lambda: connection.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def configure(app: ASGIApp, limits: RequestLimits, **options: Any) -> tuple[uvicorn.Config, set[Connection]]:
    """Return uvicorn's configuration, with further `options`, and the set that its open connections join."""

    async def tracked(scope: Scope, receive: Receive, send: Send) -> None:
        connection = _current.get() if scope["type"] == "http" else None
        if connection is None:
            await app(scope, receive, send)
            return
        connection.begin_request()
        await app(scope, receive, send)
        connection.end_request()  # not after an exception: then uvicorn sends a response and closes the connection

    config = uvicorn.Config(
        tracked,
        http="h11",
        h11_max_incomplete_event_size=limits.max_header_bytes,
        ws="none",
        access_log=False,
        server_header=False,
        **options,
    )
    config.load()
    opened: set[Connection] = set()
    members = {"limits": limits, "protocol": staticmethod(config.http_protocol_class), "opened": opened}
    config.http_protocol_class = type("LimitedConnection", (Connection,), members)
    return config, opened
