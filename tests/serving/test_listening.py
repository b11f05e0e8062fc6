"""Unix sockets, and paths on a proxy."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import belvedere
from belvedere.errors import UsageError
from belvedere.serving.listening import listen_at, read_root_path
from serve_process import PATIENCE, Server, activation_map_model, png, serve, slow_model, wait_until


@pytest.fixture
def path() -> Iterator[Path]:
    """Short, since the path of a socket has at most 107 bytes."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "socket"


def test_a_server_on_a_unix_socket(path: Path, tiny_model: Path) -> None:
    with serve(tiny_model, f"--model=other={tiny_model}", "--unix-socket", path) as server:
        assert server.address == f"unix:{path}"
        assert server.post_raw(png("red")).json["predictions"][0]["predicted_label"] == "red"
        assert server.post_raw(png("red"), "/models/other/predict").status == 200
        assert server.get("/model", Host="elsewhere.example").status == 200  # no page reaches it
        assert server.end() == 0
        assert not path.exists()
    with serve(tiny_model, "--unix-socket", path) as server:
        assert server.get("/healthz").status == 200
        server.process.kill()
        server.process.wait()
        assert path.exists()
    with serve(tiny_model, "--unix-socket", path) as server:  # the file of the killed one is replaced
        assert server.get("/healthz").status == 200


def test_accepted_requests_are_answered_at_the_end(path: Path, tmp_path: Path) -> None:
    """The file goes first, so that new clients fail at once, or find the next server."""
    file = tmp_path / "model.onnx"
    file.write_bytes(slow_model())
    replies = []
    with serve(file, "--unix-socket", path, "--max-batch-size", 1, "--threads", 1) as server:

        def ask() -> None:
            replies.append(server.post_raw(png("red")).status)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.metric("belvedere_queue_length") >= 2)
        assert server.end() == 0
        for thread in threads:
            thread.join()
    assert replies == [200] * 4
    assert not path.exists()


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o700), (0o007, 0o770)])
def test_the_umask_decides_who_may_connect(path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with listen_at("", 0, path):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)
    assert not path.exists()


def test_nothing_else_is_replaced(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(UsageError, match="socket"), listen_at("", 0, path):
        pass
    assert path.read_text() == "a file"
    path.unlink()
    with listen_at("", 0, path) as first:
        with pytest.raises(UsageError, match="server"), listen_at("", 0, path):
            pass
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
        first.refuse()
        with listen_at("", 0, path):  # the next server, while the first one ends
            first.refuse()
            assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize("name", ["no/folder/socket", "n" * 120])
def test_impossible_paths_get_one_line(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "belvedere", "serve", "--unix-socket", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    assert "--unix-socket" in line


def test_a_unix_socket_excludes_an_address(path: Path) -> None:
    command = [sys.executable, "-m", "belvedere", "serve", "--unix-socket", str(path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_notebook_has_no_unix_socket(path: Path) -> None:
    with pytest.raises(UsageError, match="unix_socket"):
        belvedere.serve(unix_socket=path, block=False)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("proxied") / "model.onnx"
    file.write_bytes(activation_map_model())
    with serve(file, "--root-path", "/tools/belvedere/") as server:
        yield server


@pytest.mark.parametrize("prefix", ["", "/tools/belvedere"], ids=["removed", "kept"])
def test_a_proxy_may_remove_the_root_path_or_not(proxied: Server, prefix: str) -> None:
    for path in ("/", "/static/page.js", "/model", "/docs", "/v2/health/ready", "/v2/models/default"):
        assert proxied.get(prefix + path).status == 200, path
    assert proxied.post_raw(png("red"), f"{prefix}/predict").status == 200
    assert proxied.get(f"{prefix}/nowhere").code == "not_found"
    assert isinstance(proxied.get(f"{prefix}/v2/nowhere").json["error"], str)
    assert proxied.get(f"{prefix}/openapi.json").json["servers"] == [{"url": "/tools/belvedere"}]
    assert 'route="/predict"' in proxied.get(f"{prefix}/metrics").content.decode()


def test_the_root_path_without_a_slash_leads_to_the_page(proxied: Server) -> None:
    """Without the slash, the relative URLs of the page are wrong."""
    for method in ("GET", "HEAD"):
        reply = proxied.ask(method, "/tools/belvedere?a=b")
        assert (reply.status, reply.headers["location"]) == (307, "/tools/belvedere/?a=b")
    assert proxied.ask("POST", "/tools/belvedere", b"").status == 404
    assert proxied.get("/tools/belvedere2").status == 404


@pytest.mark.parametrize("root_path", ["/v2", "/models/a", "/static/", "/docs", "/predict", "/index.html"])
def test_a_root_path_is_no_route(root_path: str) -> None:
    """A proxy may remove the root path or not: the two kinds of requests must differ."""
    with pytest.raises(UsageError, match="root_path"):
        belvedere.serve(port=0, root_path=root_path, block=False)


def test_a_socket_on_which_a_server_is_about_to_listen_is_not_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        timer = threading.Timer(0.02, other.listen)
        timer.start()
        with pytest.raises(UsageError, match="server"), listen_at("", 0, path):
            pass
        timer.join()
        assert path.exists()
    with listen_at("", 0, path):  # by now nobody does
        pass


def test_a_null_character_in_a_path() -> None:
    with pytest.raises(UsageError, match="unix_socket"), listen_at("", 0, "a\0b"):
        pass


def test_root_paths() -> None:
    assert [read_root_path(each) for each in ("", "/", "/a", "/a/b-c/", "/.a")] == ["", "", "/a", "/a/b-c", "/.a"]
    for wrong in ("a", "//a", "/a//b", "/a b", "https://example.com", "/a?b", "/é", "/.", "/../a", "/a/..", "/a/./b"):
        with pytest.raises(UsageError):
            read_root_path(wrong)
