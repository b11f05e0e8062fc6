"""The package of the runtime for browsers: downloaded once, or given as a file; no other one is accepted."""

import hashlib
from pathlib import Path

import pytest

from belvedere.errors import FetchError, UsageError
from belvedere.fetching import onnxruntime_web
from belvedere.fetching.onnxruntime_web import FILES, read_onnxruntime_web
from belvedere.runtime.progress import Progress
from file_server import Behavior, FileServer, serve_file
from page_export import SUBSTITUTE, pack

CONTENT = pack(SUBSTITUTE)


@pytest.fixture(autouse=True)
def expected_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime_web, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def set_server(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_web, "URL", f"{server.url}/onnxruntime-web.tgz")


def test_it_is_downloaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_file(Behavior(CONTENT)) as server:
        set_server(server, monkeypatch)
        first, second = (read_onnxruntime_web(None, Progress()) for _ in range(2))
        assert len(server.requests) == 1
    assert first == second
    assert first.keys() == FILES.keys()
    assert first["onnxruntime-web.js"].decode() == SUBSTITUTE


@pytest.mark.parametrize(
    "content",
    [b"<html>Log in", b"PK\x03\x04 no gzip", CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])],
    ids=lambda each: each[:2],
)
def test_another_file_is_refused(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_file(Behavior(content)) as server:
        set_server(server, monkeypatch)
        with pytest.raises(FetchError) as caught:
            read_onnxruntime_web(None, Progress())
    assert "`runtime`" in caught.value.__notes__[0]


def test_a_damaged_file_in_the_cache_is_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_file(Behavior(CONTENT)) as server:
        set_server(server, monkeypatch)
        first = read_onnxruntime_web(None, Progress())
        [kept] = (tmp_path / "cache").rglob("content")
        kept.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
        assert read_onnxruntime_web(None, Progress()) == first
        assert len(server.requests) == 2
    assert kept.read_bytes() == CONTENT


def test_a_login_of_the_hub_is_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_file(Behavior(CONTENT, status=403)) as server:
        set_server(server, monkeypatch)
        with pytest.raises(FetchError) as caught:
            read_onnxruntime_web(None, Progress())
    assert "HF_TOKEN" not in str(caught.value)


def test_a_file_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "given.tgz").write_bytes(CONTENT)
    assert read_onnxruntime_web(tmp_path / "given.tgz", Progress())["onnxruntime-web.wasm"] == b"\0asm"
    (tmp_path / "other.tgz").write_bytes(CONTENT + b"\0")
    for name in ("other.tgz", "nowhere.tgz", "."):
        with pytest.raises(UsageError, match="onnxruntime-web"):
            read_onnxruntime_web(tmp_path / name, Progress())
