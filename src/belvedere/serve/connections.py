"""HTTP connections that don't wait for ever: a head that does not come, or does not end, is cut off.

Knows uvicorn's protocol and adds to it what it leaves open; does not know what a request asks for.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from belvedere.serve.limits import Limits
from belvedere.serve.problems import code_of, problem

PHRASES = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class Connection(HttpToolsProtocol):
    """Uvicorn's protocol, with a bound on the time and the bytes of a request's head."""

    limits = Limits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no longer."""
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what comes before a head is whole."""
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > self.limits.head_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Begins to wait for the head of a further request."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_came()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self.limits.head_bytes:
            self._refuse_head()
        else:
            super().on_headers_complete()

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
        """Answers before there is a request that the application could answer, and hangs up."""
        self._head_came()
        if self.transport.is_closing():
            return
        body = problem(code_of(status), message)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, PHRASES[status], len(body)) + body)
        self.transport.close()


def limited(limits: Limits) -> type[Connection]:
    """Returns the protocol with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
