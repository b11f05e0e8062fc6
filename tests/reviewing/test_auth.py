"""What a review takes of a request, byte for byte: bounds on the time and the size of its head and its body."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from belvedere.reviewing.auth import LIMITS, AuthMiddleware, RequestGuard
from belvedere.reviewing.page_server import make_server
from belvedere.runtime.http.errors import HTTPError
from belvedere.runtime.network import listen
from belvedere.serving.limits import Limits

PATIENCE = 60  # seconds; far more than anything here takes
HEADS = {"Content-Type": "application/json", "Content-Length": "40"}


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server that counts what comes, with short times."""
    limits = replace(LIMITS, header_seconds=0.5, body_seconds=0.5, max_body_bytes=1000)
    app = FastAPI()
    app.add_middleware(AuthMiddleware, guard=RequestGuard("127.0.0.1", limits=limits))

    @app.post("/decisions")
    def decide(said: dict[str, Any]) -> int:
        return len(said)

    server = make_server(app, limits)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def head(port: int, headers: dict[str, str]) -> bytes:
    own = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"}
    lines = [f"{name}: {value}\r\n" for name, value in (own | headers).items()]
    return f"POST /decisions HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


def send(port: int, content: bytes) -> tuple[int, Any]:
    """Sends this and waits for the answer, as a client would that never sends more."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(content)
        answer = connection.makefile("rb")
        status = int(answer.readline().split()[1])
        length = next(int(line.split(b":")[1]) for line in answer if line.lower().startswith(b"content-length"))
        while answer.readline().strip():
            pass
        return status, json.loads(answer.read(length))


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"", 408, "request_timeout"),  # nothing at all
        (b"POST /decisions HTTP/1.1\r\nHost: 127.0", 408, "request_timeout"),
        (b"GET / HTTP/1.1\r\nX-Long: " + b"x" * LIMITS.max_header_bytes, 431, "headers_too_large"),
    ],
)
def test_a_head_has_a_time_and_a_size(port: int, sent: bytes, status: int, code: str) -> None:
    answered, refusal = send(port, sent)
    assert (answered, refusal["error"]["code"]) == (status, code)


CHUNKED = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(
    ("headers", "sent", "status", "code"),
    [
        (HEADS, b"", 408, "request_timeout"),
        (HEADS, b'{"id": "', 408, "request_timeout"),
        (CHUNKED, b"5\r\n{    \r\n", 408, "request_timeout"),
        (HEADS | {"Content-Length": "1001"}, b"", 413, "body_too_large"),
        (CHUNKED, b"400\r\n" + b" " * 0x400 + b"\r\n0\r\n\r\n", 413, "body_too_large"),
    ],
)
def test_a_body_has_a_time_and_a_size(port: int, headers: dict[str, str], sent: bytes, status: int, code: str) -> None:
    answered, refusal = send(port, head(port, headers) + sent)
    assert (answered, refusal["error"]["code"]) == (status, code)


def test_within_the_limits_it_is_answered(port: int) -> None:
    assert send(port, head(port, HEADS | {"Content-Length": "10"}) + b'{"a":   1}') == (200, 1)
    assert send(port, head(port, CHUNKED) + b'7\r\n{"a":1}\r\n0\r\n\r\n') == (200, 1)


def test_a_review_waits_no_longer_than_a_service() -> None:
    assert (LIMITS.header_seconds, LIMITS.body_seconds) == (Limits().header_seconds, Limits().body_seconds)


@pytest.mark.parametrize("other", ["", "a b=1; ", 'data={"x": [1]}; ', "=; ", "plain; ", 'q="a;b"; ', "\xe9=1;"])
def test_a_malformed_cookie_of_another_application_does_not_hide_the_token(other: str) -> None:
    guard, host = RequestGuard("0.0.0.0"), "192.0.2.7:8642"  # noqa: S104 - nothing listens
    guard.check_cookie(f"{other}belvedere-8642={guard.token}; last", host)
    for cookies in (other, f"{other}belvedere-8642=guess", f"{other}belvedere-8641={guard.token}"):
        with pytest.raises(HTTPError):
            guard.check_cookie(cookies, host)
