"""Listening on this machine, and who may."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable

import pytest

import belvedere
from belvedere.errors import UsageError
from belvedere.runtime.network import listen, stop_connecting

SERVERS = [
    lambda port: belvedere.serve(port=port),
    lambda port: belvedere.review("evaluation", port=port),
]


def in_a_loop(work: Callable[[], None]) -> None:
    """Calls it as a notebook calls its cells."""

    async def cell() -> None:
        work()

    asyncio.run(cell())


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.fixture
def listeners(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The sockets that have listened. A free port would not tell: another process may have got it since."""
    found: list[socket.socket] = []

    def record(host: str, port: int) -> socket.socket:
        found.append(listen(host, port))
        return found[-1]

    monkeypatch.setattr("belvedere.serving.listening.listen", record)
    monkeypatch.setattr("belvedere.reviewing.page_server.listen", record)
    return found


@pytest.mark.parametrize("place", [in_a_loop, in_a_thread])
@pytest.mark.parametrize("start", SERVERS, ids=["serve", "review"])
def test_a_server_out_of_place_says_what_to_do_and_takes_no_port(
    start: Callable[[int], None], place: Callable[[Callable[[], None]], None], listeners: list[socket.socket]
) -> None:
    caught: list[UsageError] = []

    def call() -> None:
        try:
            start(0)
        except UsageError as error:
            caught.append(error)  # with its frames, as a notebook keeps them

    place(call)
    [error] = caught
    assert "subprocess.Popen(['belvedere'" in str(error)
    assert listeners == []


def test_a_server_that_fails_to_start_gives_its_port_back(
    monkeypatch: pytest.MonkeyPatch, listeners: list[socket.socket]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("broken")

    monkeypatch.setattr("belvedere.serving.server.Service", fail)
    with pytest.raises(OSError, match="broken") as kept:
        belvedere.serve(port=0)
    assert kept.value  # with its frames, as a notebook keeps them
    [listener] = listeners
    assert listener.fileno() == -1


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_waits_is_accepted_and_nothing_else_connects(host: str) -> None:
    try:
        listener = listen(host, 0)
    except UsageError:
        pytest.skip("no such address here")
    with listener, socket.create_connection(listener.getsockname()[:2]) as waits:
        stop_connecting(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname()[:2], timeout=0.3)
        accepted, _ = listener.accept()
        listener.close()
        with accepted:
            waits.sendall(b"still there")
            assert accepted.recv(100) == b"still there"
