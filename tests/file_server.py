"""A server on 127.0.0.1 that files are downloaded from, and that breaks off, lies or is slow on request."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 1 << 16


@dataclass
class Behavior:
    """What the server sends, and what it does wrong."""

    content: bytes = b""
    status: int = 200
    etag: str = '"1"'  # empty: none
    headers: dict[str, str] = field(default_factory=dict)  # further ones, or others; an empty value: none
    break_after: int = -1  # bytes of the content after which the first response ends
    breaks: int = 1  # how many responses end early
    has_ranges: bool = True
    max_range: int = -1  # bytes that are sent of a range
    range_total: str = ""  # size of the file that is stated with a range; empty: the true one
    seconds_per_block: float = 0.0
    location: str = ""  # of a redirect
    is_endless: bool = False
    trickle_after: bytes = b""  # start of a response, that is followed by a byte every 10 ms
    listing: bytes = b""  # sent for paths below /api/datasets


class FileServer(ThreadingHTTPServer):
    """Sends one content for all paths."""

    daemon_threads = True

    def __init__(self, behavior: Behavior) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behavior = behavior
        self.requests: list[tuple[str, str, str]] = []  # path, Range and Authorization
        self.broken = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ranges(self) -> list[str]:
        return [given for _, given, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        given = self.headers.get("Range", "")
        self.server.requests.append((self.path, given, self.headers.get("Authorization", "")))
        behavior = self.server.behavior
        self.close_connection = True
        if behavior.trickle_after:
            self.wfile.write(behavior.trickle_after)
            while True:  # until the client is gone
                self.wfile.write(b"0")
                time.sleep(0.01)
        elif behavior.listing and self.path.startswith("/api/datasets/"):
            self._send(200, behavior.listing, {})
        elif behavior.location:
            self._send(302, b"", {"Location": behavior.location, **behavior.headers})
        elif behavior.status != 200:
            self._send(behavior.status, b"", behavior.headers)
        else:
            self._send_file(behavior, given)

    def _send_file(self, behavior: Behavior, given: str) -> None:
        start, status = 0, 200
        headers = {"ETag": behavior.etag, "Accept-Ranges": "bytes"}
        is_same = self.headers.get("If-Range", behavior.etag) == behavior.etag
        if given and behavior.has_ranges and is_same:
            start, status = int(given.removeprefix("bytes=").rstrip("-")), 206
        content = behavior.content[start:]
        if status == 206:
            content = content[: behavior.max_range] if behavior.max_range >= 0 else content
            total = behavior.range_total or len(behavior.content)
            headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{total}"
        headers["Content-Length"] = str(len(content))
        if behavior.break_after >= 0 and self.server.broken < behavior.breaks:
            self.server.broken += 1
            content = content[: max(behavior.break_after - start, 0)]
        self._send(status, content, headers | behavior.headers)
        while behavior.is_endless:
            self.wfile.write(bytes(BLOCK))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        for place in range(0, len(content), BLOCK):
            self.wfile.write(content[place : place + BLOCK])
            time.sleep(self.server.behavior.seconds_per_block)

    def handle(self) -> None:
        with suppress(OSError):  # the client went away, as many of these tests want it to
            super().handle()


@contextmanager
def serve_file(behavior: Behavior) -> Iterator[FileServer]:
    with FileServer(behavior) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
