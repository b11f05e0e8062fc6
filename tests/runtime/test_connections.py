"""Connections: the order of what is written, and clients that never read."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import Receive, Scope, Send

from belvedere.runtime.http.background import BackgroundServer
from belvedere.runtime.http.connections import configure
from belvedere.runtime.http.limits import RequestLimits
from belvedere.runtime.network import listen
from serve_process import PATIENCE

CHUNK = bytes(1_000_000)
GET = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"  # the number of chunks
BROKEN = b"broken\r\n\r\n"

ended = threading.Event()


async def app(scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(scope["path"][1:])):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})
    ended.set()


@contextmanager
def connected(limits: RequestLimits) -> Iterator[socket.socket]:
    ended.clear()
    listener = listen("127.0.0.1", 0)
    config, _ = configure(app, limits, lifespan="off", log_level="critical")
    with (
        BackgroundServer(uvicorn.Server(config), listener, "http://127.0.0.1"),
        socket.create_connection(listener.getsockname(), timeout=PATIENCE) as client,
    ):
        yield client


def read_all(connection: socket.socket) -> bytes:
    received = []
    with suppress(ConnectionResetError):
        while data := connection.recv(1_000_000):
            received.append(data)
    return b"".join(received)


def test_a_client_that_never_reads_loses_its_connection() -> None:
    num_chunks = 200  # more than the buffers of a connection hold
    with connected(RequestLimits(response_seconds=0.2)) as connection:
        connection.sendall(GET % num_chunks)
        assert ended.wait(PATIENCE)
        assert len(read_all(connection)) < num_chunks * len(CHUNK)


def test_responses_arrive_whole_before_the_error_of_the_next_request() -> None:
    with connected(RequestLimits()) as connection:
        connection.sendall(GET % 0 + GET % 20 + BROKEN)
        short, large, error = read_all(connection).split(b"HTTP/1.1 ")[1:]
    assert short.startswith(b"200 ")
    assert short.endswith(b"\r\n\r\n3\r\nend\r\n0\r\n\r\n")
    assert large.startswith(b"200 ")
    assert large.count(CHUNK) == 20
    assert large.endswith(b"\r\n3\r\nend\r\n0\r\n\r\n")
    assert error.startswith(b"400 ")


def test_a_client_that_reads_after_a_pause_keeps_its_connection() -> None:
    num_chunks = 40  # more than the buffers of a connection hold
    with connected(RequestLimits(response_seconds=2)) as connection:
        connection.sendall(GET % num_chunks)
        time.sleep(0.1)  # the server waits for the client
        received = b""
        while not received.endswith(b"3\r\nend\r\n0\r\n\r\n"):
            received += connection.recv(1_000_000)
        time.sleep(2.5)  # longer than the limit of that response
        connection.sendall(GET % 0)
        assert connection.recv(1_000_000).startswith(b"HTTP/1.1 200 ")
