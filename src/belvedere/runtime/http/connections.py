"""HTTP connections that don't wait for ever: a head that does not come, or does not end, is cut off.

So is what may follow a body in chunks, further headers, and what may be said beside each chunk. Knows uvicorn's
protocol and adds to it what it leaves open; does not know what a request asks for.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from belvedere.runtime.http.errors import code_of, problem
from belvedere.runtime.http.limits import RequestLimits

LINGER_SECONDS = 1.0  # for which is read away what still comes after the last answer
PHRASES = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class _LingeringTransport:
    """A transport whose end lets the last answer arrive: a socket closed on unread bytes would reset the connection."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._lingers or self._transport.is_closing()

    def close(self) -> None:
        """Say that nothing more comes, and close when the other side does, or after a moment."""
        if self.is_closing():
            return
        self._lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(LINGER_SECONDS, self._transport.close)


class Connection(HttpToolsProtocol):
    """Uvicorn's protocol, with a bound on the time and the bytes of a request's head."""

    limits = RequestLimits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0  # received while a head is awaited
        self._field_bytes = 0  # of a request's headers, those after its body too
        self._unheard_bytes = 0  # received since the parser last made something of them

    @property
    def awaits_head(self) -> bool:
        """Whether the next request has not come, or not with its whole head."""
        return self._head_timer is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(cast("asyncio.Transport", _LingeringTransport(transport, self.loop)))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no longer."""
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what comes before a head is whole, and what is neither head nor body."""
        if self.transport.is_closing():
            return
        if self._head_timer is not None:
            self._head_bytes += len(data)
        self._unheard_bytes += len(data)
        super().data_received(data)
        awaited = self._head_bytes if self._head_timer is not None else 0
        if max(awaited, self._unheard_bytes) > self.limits.head_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Begins to wait for the head of a further request."""
        super().on_message_begin()
        self._field_bytes = self._unheard_bytes = 0
        self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header, of the head or after the body."""
        self._unheard_bytes = 0
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > self.limits.head_bytes:
            self._refuse_head()
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_came()
        self._unheard_bytes = 0
        if len(self.url) + self._field_bytes > self.limits.head_bytes:
            self._refuse_head()
        else:
            super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._unheard_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Takes a piece of a body."""
        self._unheard_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP."""
        self._refuse(400, f"This is not a request in HTTP that can be read. {msg}")

    def timeout_keep_alive_handler(self) -> None:
        """Ends a connection on which nothing more is asked."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # an answer that nobody reads
        else:
            super().timeout_keep_alive_handler()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._head_is_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._refuse(408, f"The head of the request was not whole after {self.limits.head_seconds:g} s.")

    def _refuse_head(self) -> None:
        self._refuse(431, f"The head of a request may be {self.limits.head_bytes:,} bytes.")

    def _refuse(self, status: int, message: str) -> None:
        """Answers in the application's place, unless it has begun to, and hangs up."""
        self._head_came()
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
            return
        body = problem(code_of(status), message)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, PHRASES[status], len(body)) + body)
        self.transport.close()


def limited(limits: RequestLimits) -> type[Connection]:
    """Returns the protocol with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
