"""Download of pretrained weights from a hub that breaks off, sends wrong bytes, is slow, or is not there."""

import hashlib
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
import safetensors.torch
import torch

REPOSITORY = "timm/test_vit.r160_in1k"
CONTENT = safetensors.torch.save({"weight": torch.arange(6.0 * 2**20)})  # 24 MiB: resumed by 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()
DOWNLOAD = """
import sys
from contextlib import contextmanager
from belvedere.errors import WeightsError
from belvedere.runtime.progress import Progress, Task
from belvedere.training.pretrained_weights import load_pretrained_weights


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
    print(load_pretrained_weights(sys.argv[1], "", "", Shown(), offline="offline" in sys.argv).sha256)
except WeightsError as error:
    print(error)
    sys.exit(1)
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download asks for; what it does badly is set on the server."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *arguments: object) -> None:
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
            self._send(content, first=sum(each.startswith("GET") for each in self.server.asked) == 1)

    def _send(self, content: bytes, first: bool) -> None:
        if self.server.fault in ("breaks off", "knows no ranges") and first:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        for place in range(0, len(content), 1 << 20):
            if self.server.fault == "slow":
                time.sleep(0.05)
            if self.server.fault == "stands still" and place > len(content) // 2 and first:
                time.sleep(4)
                self.close_connection = True
                return
            self.wfile.write(content[place : place + (1 << 20)])

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
        "HF_HOME": str(home),
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
    }
    command = [sys.executable, "-c", DOWNLOAD, REPOSITORY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    return done.returncode, done.stdout.strip(), done.stderr


def address_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize("fault", ["", "slow", "breaks off", "stands still", "knows no ranges"])
def test_download_resumes_and_is_cached(fault: str, tmp_path: Path) -> None:
    with hub(fault) as server:
        code, printed, shown = download(address_of(server), tmp_path)
        assert (code, printed) == (0, SHA256)
        assert f"Downloading {REPOSITORY}: {len(CONTENT) // 1000} of {len(CONTENT) // 1000} kB" in shown
        starts = [int(request.split()[1]) for request in server.asked if request.startswith("GET")]
        assert starts[0] == 0
        if fault in ("breaks off", "stands still"):
            assert len(starts) == 2
            assert starts[1] > 0
        if fault == "knows no ranges":
            assert starts == [0, 0]
        server.asked.clear()
        assert download(address_of(server), tmp_path)[:2] == (0, SHA256)
        assert server.asked == []  # cached weights need no request
    assert download("http://127.0.0.1:9", tmp_path, "offline")[:2] == (0, SHA256)  # port 9 discards


def test_other_bytes_than_announced_are_deleted(tmp_path: Path) -> None:
    with hub("wrong") as server:
        for _ in range(2):
            code, printed, _ = download(address_of(server), tmp_path)
            assert code == 1
            assert f"expected the SHA-256 {SHA256}. Received: " in printed
            assert "\n" not in printed
        server.fault = ""
        assert download(address_of(server), tmp_path)[:2] == (0, SHA256)


def test_token_is_not_sent_to_the_storage_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub states size and checksum and redirects to another host for the bytes."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    with hub() as store, hub() as server:
        server.leads_to = address_of(store).replace("127.0.0.1", "localhost")
        assert download(address_of(server), tmp_path)[:2] == (0, SHA256)
        assert set(server.tokens) == {"Bearer secret"}
        assert store.asked == ["GET 0"]
        assert store.tokens == [""]


def test_concurrent_processes_download_once(tmp_path: Path) -> None:
    with hub("slow") as server:
        address = address_of(server)
        with ThreadPoolExecutor(2) as both:
            done = list(both.map(lambda _: download(address, tmp_path), range(2)))
        assert [code for code, _, _ in done] == [0, 0]
        assert sum(request.startswith("GET") for request in server.asked) == 1


def test_missing_repository_is_one_line(tmp_path: Path) -> None:
    with hub("no such repository") as server:
        code, printed, _ = download(address_of(server), tmp_path)
    assert code == 1
    assert REPOSITORY in printed
    assert "404" in printed
    assert "\n" not in printed


def test_unreachable_hub_is_one_line(tmp_path: Path) -> None:
    for arguments in ((), ("offline",)):
        code, printed, _ = download("http://127.0.0.1:9", tmp_path, *arguments)
        assert code == 1
        assert REPOSITORY in printed
        assert "HF_ENDPOINT" in printed
        assert "\n" not in printed
