"""The download of weights, against a server that breaks off, sends wrong bytes, is slow, or is not there."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPOSITORY = "timm/test_vit.r160_in1k"
CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DOWNLOAD = """

import sys
from belvedere.errors import WeightsError
from belvedere.runtime.progress import Progress, Task
from belvedere.training import download
from belvedere.training.hub import fetch_weights
from contextlib import contextmanager


class Shown(Progress):
    @contextmanager
    def task(self, description, images, unit="images"):
        class Counts(Task):
            done = 0
            def advance(self, images, figures=""):
                self.done += images
        counted = Counts()
        yield counted
        print(f"{description}: {counted.done} of {images} {unit}", file=sys.stderr)


try:
    download.TIMEOUT_SECONDS, download.WAIT_SECONDS = 1.0, 0.01
    print(fetch_weights(sys.argv[1], Shown(), offline="offline" in sys.argv))
except WeightsError as error:
    print(error)
    sys.exit(1)
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download asks for; what it does badly is set on the server."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.server.asked.append(f"HEAD {self.path}")
        self.server.tokens.append(self.headers.get("Authorization") or "")
        self._answer(len(CONTENT), 200)

    def do_GET(self) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.server.tokens.append(self.headers.get("Authorization") or "")
        if self.server.fault == "knows no ranges":
            start = 0
        self.server.asked.append(f"GET {start}")
        if self.server.leads_to:
            self.send_response(302)
            self.send_header("Location", self.server.leads_to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = (CONTENT if self.server.fault != "wrong" else CONTENT[::-1])[start:]
        self._answer(len(content), 206 if start else 200)
        if self.path.endswith("safetensors"):
            self._send(content, first=len(self.server.asked) < 3)

    def _send(self, content: bytes, first: bool) -> None:
        if self.server.fault in ("breaks off", "knows no ranges") and first:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        for place in range(0, len(content), 1 << 16):
            if self.server.fault == "slow":
                time.sleep(0.05)
            if self.server.fault == "stands still" and place and first:
                time.sleep(4)
                self.close_connection = True
                return
            self.wfile.write(content[place : place + (1 << 16)])

    def _answer(self, length: int, status: int) -> None:
        if self.server.fault == "no such repository":
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("X-Error-Message", "Repository not found")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(302 if self.server.leads_to else status)
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{SHA256}"')
        self.send_header("X-Linked-Etag", f'"{SHA256}"')
        self.send_header("X-Linked-Size", str(len(CONTENT)))
        if self.server.leads_to:
            self.send_header("Location", self.server.leads_to + self.path)
            length = 0
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {len(CONTENT) - length}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, fault: str) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.fault, self.leads_to = fault, ""
        self.asked, self.tokens = list[str](), list[str]()


@contextmanager
def hub(fault: str = "") -> Iterator[Server]:
    with Server(fault) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def download(address: str, home: Path, *arguments: str) -> tuple[int, str, str]:
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "BELVEDERE_CACHE": str(home),
    }
    command = [sys.executable, "-c", DOWNLOAD, REPOSITORY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    return done.returncode, done.stdout.strip(), done.stderr


def address_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize("fault", ["", "slow", "breaks off", "stands still", "knows no ranges"])
def test_it_arrives_whole(fault: str, tmp_path: Path) -> None:
    """What broke off is gone on with from where it stood; a second time nothing is downloaded."""
    with hub(fault) as server:
        code, said, shown = download(address_of(server), tmp_path)
        assert code == 0, said
        assert Path(said).read_bytes() == CONTENT
        assert f"Downloading {REPOSITORY}: 1048 of 1048 kB" in shown
        starts = [int(asked.split()[1]) for asked in server.asked if asked.startswith("GET")]
        assert starts[0] == 0
        if fault in ("breaks off", "stands still"):
            assert len(starts) == 2
            assert starts[1] > 0
        if fault == "knows no ranges":
            assert starts == [0, 0]
        server.asked.clear()
        assert download(address_of(server), tmp_path)[1] == said
        assert not [asked for asked in server.asked if asked.startswith("GET")]
    assert download("http://127.0.0.1:9", tmp_path, "offline")[:2] == (0, said)  # port 9 discards


def test_wrong_bytes_are_thrown_away(tmp_path: Path) -> None:
    with hub("wrong") as server:
        for _ in range(2):
            code, said, _ = download(address_of(server), tmp_path)
            assert code == 1
            assert f"other bytes arrived than were announced: expected the SHA-256 {SHA256}. Received: " in said
            assert "\n" not in said
        server.fault = ""
        code, said, _ = download(address_of(server), tmp_path)
        assert (code, Path(said).read_bytes()) == (0, CONTENT)


def test_it_is_followed_to_where_the_file_is_and_a_token_is_not_taken_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub does it: it says size and checksum, and another host has the bytes."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    with hub() as store, hub() as server:
        server.leads_to = address_of(store)
        code, said, _ = download(address_of(server), tmp_path)
        assert (code, Path(said).read_bytes()) == (0, CONTENT)
        assert set(server.tokens) == {"Bearer secret"}
        assert store.asked == ["GET 0"]
        assert store.tokens == [""]


def test_two_at_once_download_it_once(tmp_path: Path) -> None:
    with hub("slow") as server:
        address = address_of(server)
        with ThreadPoolExecutor(2) as both:
            done = list(both.map(lambda _: download(address, tmp_path), range(2)))
        assert [code for code, _, _ in done] == [0, 0]
        assert sum(asked.startswith("GET") for asked in server.asked) == 1


def test_a_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    with hub("no such repository") as server:
        code, said, _ = download(address_of(server), tmp_path)
    assert code == 1
    assert REPOSITORY in said
    assert "404" in said
    assert "--weights" in said
    assert "\n" not in said


def test_no_hub_says_what_to_do(tmp_path: Path) -> None:
    code, said, _ = download("http://127.0.0.1:9", tmp_path)
    assert code == 1
    assert f"{REPOSITORY} could not be downloaded: Connection refused" in said
    assert "--weights" in said
    code, said, _ = download("http://127.0.0.1:9", tmp_path, "offline")
    assert code == 1
    assert "are not kept here, and --offline allows no download" in said
    assert json.dumps(said).count("\\n") == 0
