"""Files of weights, and their download from a hub that breaks off, sends wrong bytes, is slow, or is not there."""

import errno
import hashlib
import os
import pickle
import re
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

from belvedere.errors import WeightsError
from belvedere.runtime.progress import Progress
from belvedere.training.pretrained_weights import Weights, load_pretrained_weights, weights_name

TENSORS = {"stem.weight": torch.arange(6.0).view(2, 3), "stem.bias": torch.ones(2)}
RAN: list[str] = []


class Runs:
    """Unpickled, it would run what is given: here, it would leave a trace."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return RAN.append, ("code ran",)


def read(file: Path, sha256: str = "") -> Weights:
    return load_pretrained_weights("nobody/nothing", str(file), sha256, Progress())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(TENSORS, path)
    return path


def assert_same(found: Weights) -> None:
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[key], value) for key, value in TENSORS.items())


def test_safetensors(file: Path) -> None:
    found = read(file)
    assert_same(found)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.source == "weights.safetensors"  # no path of the machine: it goes into the model's card
    assert weights_name("a/b", found).startswith(f"a_b-{found.sha256[:12]}-timm")


@pytest.mark.parametrize("wrapped", [TENSORS, {"state_dict": TENSORS, "epoch": 3}, {"model": TENSORS}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_of_torch(wrapped: dict[str, object], prefix: str, tmp_path: Path) -> None:
    content = {
        key: {f"{prefix}{name}": each for name, each in value.items()} if isinstance(value, dict) else value
        for key, value in wrapped.items()
    }
    if wrapped is TENSORS:
        content = {f"{prefix}{name}": each for name, each in TENSORS.items()}
    torch.save(content, tmp_path / "weights.pth")
    assert_same(read(tmp_path / "weights.pth"))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"stem.weight": TENSORS["stem.weight"], "extra": Runs()}, file)
    with pytest.raises(WeightsError, match=r"weights\.pth .* torch\.save\b") as caught:
        read(file)
    assert "\n" not in str(caught.value)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Runs()}))
    with pytest.raises(WeightsError, match=r"plain\.pth"):
        read(tmp_path / "plain.pth")
    assert RAN == []


@pytest.mark.parametrize("left", [0, 5, 40, -1])
def test_a_truncated_file_is_refused(left: int, file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(WeightsError, match=r"weights\.safetensors .*([Hh]eader|metadata)") as caught:
        read(file)
    assert "\n" not in str(caught.value)
    torch.save(TENSORS, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:left])
    with pytest.raises(WeightsError, match=r"cut\.pth") as caught:
        read(tmp_path / "cut.pth")
    assert "\n" not in str(caught.value)


def test_a_wrong_checksum_is_refused(file: Path) -> None:
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert_same(read(file, right.upper()))
    with pytest.raises(WeightsError, match=f"{'0' * 64}.* {right}"):
        read(file, "0" * 64)


@pytest.mark.parametrize(
    "content", [b"<html>404: not found</html>", b"version https://git-lfs.github.com/spec/v1", b""]
)
def test_what_is_no_such_file_at_all_is_not_called_dangerous(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"odd\.pth") as caught:
        read(tmp_path / "odd.pth")
    assert caught.value.__cause__  # that of torch, which could not read it
    assert "torch.save" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, {"state_dict": {"a": "b"}}])
def test_what_is_no_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth") as caught:
        read(tmp_path / "odd.pth")
    assert caught.value.__cause__ is None  # torch has read it


def test_the_weights_of_a_run_are_named(tmp_path: Path) -> None:
    tensors = {
        "classify.weight": torch.zeros(2, 3),
        "classify.bias": torch.zeros(2),
        "features.stem.weight": torch.zeros(1),
    }
    file = tmp_path / "run" / "weights.safetensors"
    file.parent.mkdir()
    safetensors.torch.save_file(tensors, file)
    with pytest.raises(WeightsError, match="`start_from`") as raised:
        load_pretrained_weights("", str(file), "", Progress())
    assert str(file.parent) in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"none\.safetensors: {os.strerror(errno.ENOENT)}"):
        read(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=f"{re.escape(str(tmp_path))}: "):
        read(tmp_path)


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


@pytest.mark.parametrize("fault", ["slow", "breaks off", "stands still", "knows no ranges"])
def test_download_resumes(fault: str, tmp_path: Path) -> None:
    with hub(fault) as server:
        code, printed, shown = download(address_of(server), tmp_path)
        assert (code, printed) == (0, SHA256)
        assert f"{REPOSITORY}: {len(CONTENT) // 1000} of {len(CONTENT) // 1000} kB" in shown
        starts = [int(request.split()[1]) for request in server.asked if request.startswith("GET")]
        assert starts[0] == 0
        if fault in ("breaks off", "stands still"):
            assert len(starts) == 2
            assert starts[1] > 0
        if fault == "knows no ranges":
            assert starts == [0, 0]


def test_downloads_are_cached(tmp_path: Path) -> None:
    with hub() as server:
        assert download(address_of(server), tmp_path)[:2] == (0, SHA256)
        server.asked.clear()
        assert download(address_of(server), tmp_path)[:2] == (0, SHA256)
        assert server.asked == []  # cached weights need no request
    assert download("http://127.0.0.1:9", tmp_path, "offline")[:2] == (0, SHA256)  # port 9 discards


def test_other_bytes_than_announced_are_deleted(tmp_path: Path) -> None:
    with hub("wrong") as server:
        code, printed, _ = download(address_of(server), tmp_path)
        assert code == 1
        assert SHA256 in printed
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
    assert "\n" not in printed


def test_unreachable_hub_is_one_line(tmp_path: Path) -> None:
    for arguments in ((), ("offline",)):
        code, printed, _ = download("http://127.0.0.1:9", tmp_path, *arguments)
        assert code == 1
        assert REPOSITORY in printed
        assert "`weights`" in printed
        assert "\n" not in printed
