"""Downloads from a hub, or a mirror, that sends other headers than the Hugging Face Hub does."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from belvedere.errors import HubError, UsageError
from belvedere.runtime.hub import HubAddress, download, parse_address
from belvedere.runtime.progress import Progress

COMMIT, CONTENT = "0" * 40, b"abc"
NAME = "model.onnx"
Headers = dict[str, str]


@contextmanager
def mirror(
    answer: Callable[[int], Headers], status: int = 200, content: bytes = CONTENT
) -> Iterator[tuple[str, list[str]]]:
    """Serve one file under every name; `answer` returns headers for the n-th HEAD request."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._send(answer(received.count("HEAD")))

        def do_GET(self) -> None:
            self._send({})
            self.wfile.write(content)

        def _send(self, headers: Headers) -> None:
            received.append(self.command)
            self.send_response(status)
            for key, value in ({"X-Repo-Commit": COMMIT, "ETag": '"a1"'} | headers).items():
                self.send_header(key, value)
            if self.command == "HEAD":
                self.send_header("Content-Length", headers.get("X-Size", str(len(CONTENT))))
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", received
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, deep inside a folder in which nothing else may appear."""
    folder = tmp_path / "a/b/c/d/cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return folder


def fetch(host: str, monkeypatch: pytest.MonkeyPatch, *, user: str = "", offline: bool = False) -> Path:
    """Download the file."""
    monkeypatch.setattr(constants, "ENDPOINT", f"http://{user}{host}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"http://{user}{host}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    return download(HubAddress("me/colors"), [NAME], Progress(), max_bytes=1000, offline=offline) / NAME


def outside(cache: Path) -> set[Path]:
    """Return the files outside the cache."""
    found = {path for path in cache.parents[4].rglob("*") if not path.is_dir()}
    return {path for path in found if not path.is_relative_to(cache)}


def test_a_file_is_downloaded_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror(lambda _: {}) as (host, received):
        file = fetch(host, monkeypatch)
        assert file.read_bytes() == CONTENT
        assert fetch(host, monkeypatch) == fetch(host, monkeypatch, offline=True) == file
    assert received.count("GET") == 1
    assert file.is_relative_to(cache)
    assert huggingface_hub.get_session().event_hooks["response"] == []


@pytest.mark.parametrize("number", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ETag", '"../../../../../../evil"'),
        ("ETag", 'W/"..\\evil"'),
        ("ETag", "ABSOLUTE"),
        ("ETag", '".."'),
        ("ETag", f'"{"a" * 129}"'),
        ("X-Linked-Etag", '"../evil"'),
        ("X-Repo-Commit", "../../../../evil"),
        ("X-Repo-Commit", "main"),
        ("X-Size", "1001"),
        ("X-Linked-Size", "9" * 5000),
    ],
)
def test_headers_that_are_no_part_of_a_path_are_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, number: int
) -> None:
    """In the request that is sent first, and in that of huggingface_hub, whose headers are used."""
    target = cache.parents[4] / "existing"
    target.write_text("mine")
    header = {key: f'"{target}"' if value == "ABSOLUTE" else value}
    with mirror(lambda index: header if index == number else {}) as (host, received), pytest.raises(HubError) as caught:
        fetch(host, monkeypatch)
    assert received == ["HEAD"] * (number + 1)
    assert "\n" not in str(caught.value)
    assert outside(cache) == {target}
    assert target.read_text() == "mine"


def test_the_commit_of_a_missing_file_is_checked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub notes under it that the file is missing."""
    header = {"X-Repo-Commit": "../../../../../evil", "X-Error-Code": "EntryNotFound"}
    with mirror(lambda _: header, status=404) as (host, _), pytest.raises(HubError, match="commit"):
        fetch(host, monkeypatch)
    assert outside(cache) == set()


def test_a_file_that_is_longer_than_stated_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror(lambda _: {}, content=bytes(100_000)) as (host, _), pytest.raises(HubError, match="1,000 bytes"):
        fetch(host, monkeypatch)
    assert [path for path in cache.rglob("blobs/*") if path.stat().st_size] == []


def test_a_connection_without_checks_downloads_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a refused connection, huggingface_hub sends the next request with another client."""

    def answer(index: int) -> Headers:
        if index == 1:
            monkeypatch.setattr(_http, "_GLOBAL_CLIENT", None)
        return {}

    with mirror(answer) as (host, received), pytest.raises(HubError, match="interrupted"):
        fetch(host, monkeypatch)
    assert list(cache.rglob(NAME)) == []
    assert received[:2] == ["HEAD", "HEAD"]


@pytest.mark.usefixtures("cache")
def test_a_link_out_of_the_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror(lambda _: {}) as (host, _):
        file = fetch(host, monkeypatch)
    (tmp_path / "secret").write_text("mine")
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    with pytest.raises(HubError, match="link"):
        fetch(host, monkeypatch, offline=True)


def test_a_cache_on_another_disk(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    cache.mkdir(parents=True)
    (cache / "models--me--colors").symlink_to(tmp_path / "disk")
    with mirror(lambda _: {}) as (host, _):
        assert fetch(host, monkeypatch).read_bytes() == CONTENT


@pytest.mark.usefixtures("cache")
def test_messages_do_not_tell_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror(lambda _: {}, status=500) as (host, _), pytest.raises(HubError) as caught:
        fetch(host, monkeypatch, user="me:p@SECRET" + "x" * 150 + "@")
    message = str(caught.value)
    assert "SECRET" not in message
    assert host in message
    assert not message.endswith("..")
    assert "HF_HUB_OFFLINE" not in message


@pytest.mark.usefixtures("cache")
def test_downloads_are_said_to_be_off_only_if_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        fetch("127.0.0.1:9", monkeypatch, offline=True)
    with pytest.raises(HubError) as caught:
        fetch("127.0.0.1:9", monkeypatch)
    assert "HF_HUB_OFFLINE" not in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        fetch("127.0.0.1:9", monkeypatch)


def test_revisions_are_names() -> None:
    for revision in ("v1", "feature/two", "0a1b", "v1.0-rc_1", hashlib.sha1(b"").hexdigest()):  # noqa: S324 - a commit
        assert parse_address(f"hf://a/b@{revision}").revision == revision
    for revision in ("..", "../x", "a/../b", "a..b", "/a", "a\\b", "a/.b", ".", "a b", "", "a\n"):
        with pytest.raises(UsageError):
            parse_address(f"hf://a/b@{revision}")
