"""Servers in a thread: a model and a review beside other work, as in a notebook."""

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from belvedere import review, serve
from belvedere.errors import InvalidModelError, UsageError
from belvedere.evaluation.monitoring.records import read_records
from belvedere.runtime.http.background import NOTEBOOK_ANCESTORS, BackgroundServer
from belvedere.runtime.parallel import running_threads
from belvedere.serving.limits import Limits
from belvedere.serving.server import _Server
from review_server import BROWSERS, open_browser, write_run
from serve_process import PATIENCE, png

QUICK = Limits(drain_seconds=0.0)


def port_of(server: BackgroundServer) -> int:
    return int(server.url.rstrip("/").rsplit(":", 1)[1])


def request(server: BackgroundServer, path: str = "/", content: bytes | None = None) -> tuple[Mapping[str, str], bytes]:
    """Return headers and body of a response."""
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=PATIENCE)) as connection:
        connection.request("GET" if content is None else "POST", path, content, {"Content-Type": "image/png"})
        response = connection.getresponse()
        return {name.lower(): value for name, value in response.getheaders()}, response.read()


def is_closed(listener: socket.socket) -> bool:
    """A connection to the port would not tell: another process may have got it since."""
    return listener.fileno() == -1


@pytest.fixture
def server(tiny_model: Path) -> Iterator[BackgroundServer]:
    with serve(tiny_model, port=0, limits=QUICK, block=False) as running:
        yield running


def test_a_model_is_served_beside_other_work(server: BackgroundServer) -> None:
    _, body = request(server, "/predict", png("red"))
    assert json.loads(body)["predictions"][0]["error"] is None
    assert server.is_running
    assert server.url in repr(server)


def test_stop_frees_the_port_and_is_idempotent(server: BackgroundServer) -> None:
    server.stop()
    server.stop()
    assert not server.is_running
    assert is_closed(server._listener)
    assert "stopped" in repr(server)
    assert "<iframe" not in server._repr_html_()
    assert running_threads(PATIENCE) == []


def test_two_servers_run_side_by_side(server: BackgroundServer, tiny_model: Path) -> None:
    with serve(tiny_model, port=0, limits=QUICK, block=False) as other:
        assert other.url != server.url
        assert request(other, "/healthz")[1] == request(server, "/healthz")[1]


def test_a_running_event_loop_is_no_hindrance(tiny_model: Path) -> None:
    async def notebook() -> bytes:
        with serve(tiny_model, port=0, limits=QUICK, block=False) as running:
            _, body = await asyncio.to_thread(request, running, "/healthz")
            return body

    assert asyncio.run(notebook())


LEFT_RUNNING = """
import http.client, sys
from urllib.parse import urlsplit
import belvedere
from belvedere.serving.limits import Limits
from belvedere.serving.recorder import Recorder

stop = Recorder.stop
Recorder.stop = lambda self: (stop(self), print("stopped"))
server = belvedere.serve(sys.argv[1], port=0, limits=Limits(drain_seconds=0), block=False, monitor=sys.argv[2])
connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
connection.request("POST", "/predict", sys.stdin.buffer.read(), {"Content-Type": "image/png"})
assert connection.getresponse().status == 200
"""


def test_a_server_ends_with_its_process(tiny_model: Path, tmp_path: Path) -> None:
    """No more threads start then."""
    command = [sys.executable, "-c", LEFT_RUNNING, str(tiny_model), str(tmp_path)]
    ended = subprocess.run(command, input=png("red"), capture_output=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"stopped\n", b"")
    assert len(list(read_records(tmp_path))) == 1


def test_a_used_port_is_an_error_of_the_caller(server: BackgroundServer, tiny_model: Path) -> None:
    with pytest.raises(UsageError):
        serve(tiny_model, port=port_of(server), block=False)
    assert server.is_running


def test_a_failed_start_closes_its_socket(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listeners: list[socket.socket] = []

    async def fail(_: _Server, sockets: list[socket.socket] | None = None) -> None:
        listeners.extend(sockets or [])
        raise OSError("no room")

    monkeypatch.setattr(_Server, "startup", fail)
    with pytest.raises(UsageError) as caught:
        serve(tiny_model, port=0, block=False)
    assert isinstance(caught.value.__cause__, OSError)
    [listener] = listeners
    assert is_closed(listener)
    assert running_threads(PATIENCE) == []


def test_a_missing_model_starts_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(InvalidModelError):
        serve(tmp_path / "none.onnx", port=0, block=False)
    assert threading.active_count() == before


def test_a_review_runs_in_a_thread(tmp_path: Path) -> None:
    run = write_run(tmp_path, 3)
    with review(run, port=0, block=False) as running:
        assert b"<html" in request(running)[1].lower()
        assert (running.summary.num_decisions, running.summary.num_left) == (0, 3)
    assert is_closed(running._listener)
    assert running_threads(PATIENCE) == []


class Frame(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag, self.source = tag, dict(attrs)["src"]


def test_a_notebook_shows_the_page_in_a_frame(server: BackgroundServer) -> None:
    frame = Frame()
    frame.feed(server._repr_html_())
    assert (frame.tag, frame.source) == ("iframe", server.url)
    headers, _ = request(server)
    assert f"frame-ancestors {NOTEBOOK_ANCESTORS}" in headers["content-security-policy"]
    assert "x-frame-options" not in headers


@pytest.mark.skipif(not BROWSERS, reason="needs Chromium")
def test_a_browser_shows_the_review_in_a_frame(tmp_path: Path) -> None:
    run = write_run(tmp_path, 3)
    pages = tmp_path / "pages"
    pages.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(pages))

        def log_message(self, *_: object) -> None:
            pass

    with review(run, port=0, block=False) as running, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as notebook:
        (pages / "index.html").write_text(f"<!doctype html><title>notebook</title>{running._repr_html_()}")
        thread = threading.Thread(target=notebook.serve_forever)
        thread.start()
        try:
            with open_browser() as browser:
                page = browser.new_page()
                page.goto(f"http://localhost:{notebook.server_port}/")
                frame = page.frame_locator("iframe")
                frame.locator('main[aria-busy="false"] article').wait_for()
                frame.get_by_role("button", name="blue").first.click()
                frame.get_by_text("2 left of 3").wait_for()
            assert (running.summary.num_decisions, running.summary.num_left) == (1, 2)
        finally:
            notebook.shutdown()
            thread.join()
