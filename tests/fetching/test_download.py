"""Downloads from a server that breaks off, lies, or is slow."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from belvedere.data.array_cache import clear_cache, list_caches
from belvedere.errors import FetchError, UsageError
from belvedere.fetching import download, http_client
from belvedere.fetching.download import RemoteFile, downloaded
from belvedere.runtime.progress import Progress
from file_server import Behavior, FileServer, serve_file


def make_zip(size: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("noise.bin", np.random.default_rng(0).bytes(size))
    return packed.getvalue()


CONTENT = make_zip(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Messages(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use an own cache, no proxy, and short times."""
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(download, "MAX_WAIT_SECONDS", 0.0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_file(Behavior(CONTENT)) as started:
        yield started


def fetch(
    server: FileServer,
    *,
    sha256: str = "",
    token: str = "",
    max_bytes: int = 10**9,
    keep: bool = False,
    progress: Progress | None = None,
) -> bytes:
    file = RemoteFile(f"{server.url}/archive.zip", "archive.zip", sha256, token)
    with downloaded(file, max_bytes=max_bytes, keep=keep, progress=progress or Progress()) as path:
        return path.read_bytes()


def refused(server: FileServer, **options: object) -> str:
    """Return the message of a download that fails; nothing of the content stays complete in the cache."""
    with pytest.raises(FetchError) as raised:
        fetch(server, **options)  # type: ignore[arg-type]
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_download_leaves_nothing_behind(server: FileServer) -> None:
    assert fetch(server, sha256=SHA256) == CONTENT
    assert server.ranges == [""]
    assert list_caches() == []


def test_a_kept_download_is_used_again_and_cleared(server: FileServer) -> None:
    assert fetch(server, keep=True) == fetch(server, keep=True) == CONTENT
    assert len(server.requests) == 1
    [cached] = list_caches()
    assert (cached.kind, cached.key.startswith("archive.zip-")) == ("downloads", True)
    assert cached.size_bytes > len(CONTENT)
    assert clear_cache() == cached.size_bytes
    assert list_caches() == []


def test_what_breaks_off_is_continued(server: FileServer) -> None:
    server.behavior.break_after, server.behavior.breaks = 1_500_000, 2
    messages = Messages()
    assert fetch(server, sha256=SHA256, progress=messages) == CONTENT
    assert server.ranges == ["", "bytes=1500000-", "bytes=1500000-"]
    assert len(messages.lines) == 2
    assert f"1,500,000 of {len(CONTENT):,} bytes" in messages.lines[0]


def test_a_later_call_continues(server: FileServer) -> None:
    server.behavior.break_after, server.behavior.breaks = 1_500_000, 99
    assert "The same command continues it." in refused(server)
    server.behavior.breaks = 0
    server.requests.clear()
    assert fetch(server) == CONTENT
    assert server.ranges == ["bytes=1500000-"]


@pytest.mark.parametrize("change", ["content", "no ranges", "no validator"])
def test_what_cannot_be_continued_begins_again(change: str, server: FileServer) -> None:
    behavior = server.behavior
    if change == "no validator":
        behavior.etag = ""
    behavior.break_after, behavior.breaks = 1_500_000, 5
    refused(server)
    behavior.breaks = 0
    server.requests.clear()
    expected = CONTENT
    if change == "content":
        expected = behavior.content = make_zip(2_000_000)[:-3] + b"end"
        behavior.etag = '"2"'
    elif change == "no ranges":
        behavior.has_ranges = False
    assert fetch(server) == expected
    assert server.ranges == ["" if change == "no validator" else "bytes=1500000-"]


def test_a_part_of_another_file_is_not_appended(server: FileServer) -> None:
    """A server that ignores If-Range, and sends the rest of a file that has changed."""
    server.behavior.break_after, server.behavior.breaks = 1_500_000, 5
    refused(server)
    server.behavior.breaks = 0
    changed = server.behavior.content = make_zip(3_000_001)
    server.behavior.headers = {"ETag": '"2"'}
    server.requests.clear()
    assert fetch(server) == changed
    assert server.ranges == ["bytes=1500000-", ""]


def test_a_part_from_another_place_is_not_appended(server: FileServer) -> None:
    server.behavior.break_after, server.behavior.breaks = 1_500_000, 5
    refused(server)
    server.behavior.breaks = 0
    server.behavior.headers = {"Content-Range": f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"}
    server.requests.clear()
    assert fetch(server) == CONTENT
    assert server.ranges == ["bytes=1500000-", ""]


@pytest.mark.parametrize("damage", ['{"total": "1"}', "{", '{"validator": 1, "more": 2}', "[]", ""])
def test_a_damaged_state_begins_again(damage: str, server: FileServer, tmp_path: Path) -> None:
    server.behavior.break_after, server.behavior.breaks = 1_500_000, 5
    refused(server)
    server.behavior.breaks = 0
    [state] = tmp_path.glob("cache/downloads/*/state.json")
    assert json.loads(state.read_text())["total"] == len(CONTENT)
    state.write_text(damage)
    assert fetch(server) == CONTENT


def test_what_was_complete_before_it_was_checked_is_not_downloaded_again(server: FileServer, tmp_path: Path) -> None:
    fetch(server, keep=True)
    [state] = tmp_path.glob("cache/downloads/*/state.json")
    state.write_text(state.read_text().replace('"is_complete": true', '"is_complete": false'))
    assert fetch(server, sha256=SHA256) == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [206, 416])
def test_a_part_that_was_not_asked_for_is_refused(status: int, server: FileServer) -> None:
    server.behavior.status = status
    refused(server)
    assert len(server.requests) == download.MAX_FAILURES


@pytest.mark.parametrize("wait", ["nan", "-1", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT", "5"])
def test_a_busy_server_may_ask_for_any_pause(wait: str, server: FileServer) -> None:
    server.behavior.status, server.behavior.headers = 429, {"Retry-After": wait}
    assert "HTTP status 429" in refused(server)


def test_a_proxy_is_used(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.delenv("NO_PROXY", raising=False)
    file = RemoteFile("http://localhost:1/archive.zip", "archive.zip")
    with downloaded(file, max_bytes=10**9, keep=False, progress=Progress()) as path:
        assert path.read_bytes() == CONTENT
    assert server.requests[0][0] == "http://localhost:1/archive.zip"


def test_a_busy_server_is_asked_again_and_the_download_stays(server: FileServer) -> None:
    server.behavior.break_after, server.behavior.breaks = 1_500_000, 1
    server.behavior.status = 503
    server.behavior.headers = {"Retry-After": "3600"}
    assert "HTTP status 503" in refused(server)
    assert len(server.requests) == download.MAX_FAILURES


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_there_is_not_asked_for_again(status: int, server: FileServer) -> None:
    server.behavior.status = status
    assert str(status) in refused(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("source", ["given", "stated by the hub"])
def test_a_wrong_checksum_is_refused(source: str, server: FileServer) -> None:
    wrong = "0" * 64
    if source == "given":
        message = refused(server, sha256=wrong)
    else:
        server.behavior.headers = {"X-Linked-ETag": f'"{wrong}"'}
        message = refused(server)
    assert wrong in message
    assert SHA256 in message
    server.behavior.headers = {}
    server.requests.clear()
    assert fetch(server, sha256=SHA256) == CONTENT
    assert server.ranges == [""]  # the wrong bytes were deleted


def test_too_long_a_length_is_a_download_that_ended_early(server: FileServer) -> None:
    server.behavior.headers = {"Content-Length": str(len(CONTENT) + 5)}
    assert f"{len(CONTENT):,} of {len(CONTENT) + 5:,} bytes" in refused(server)


def test_too_short_a_length_ends_the_download(server: FileServer) -> None:
    server.behavior.headers = {"Content-Length": "2000000"}
    assert fetch(server) == CONTENT[:2_000_000]  # unpacking it fails
    assert "SHA-256" in refused(server, sha256=SHA256)


def test_the_limit_is_checked_before_the_content(server: FileServer, tmp_path: Path) -> None:
    assert "1,000,000 bytes" in refused(server, max_bytes=1_000_000)
    assert not list(tmp_path.glob("cache/downloads/*/content"))


def test_endless_content_ends_at_the_limit(server: FileServer, tmp_path: Path) -> None:
    server.behavior.is_endless, server.behavior.headers = True, {"Content-Length": ""}
    assert "10,000,000 bytes" in refused(server, max_bytes=10_000_000)
    assert not list(tmp_path.glob("cache/downloads/*/content"))


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>Log in</html>", b"\n<html>", b"\x1f\x8b\x08\x00 gzip", b"{}  "]
)
def test_what_is_no_archive_is_refused_at_once(content: bytes, server: FileServer) -> None:
    server.behavior.content = content
    server.behavior.headers = {"Content-Type": "text/html"} if b"<html>" in content else {}
    message = refused(server)
    assert ("web page" in message) == (b"<html>" in content)
    assert len(server.requests) == 1


def test_a_silent_server_is_given_up(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(download, "MAX_FAILURES", 2)
    server.behavior.seconds_per_block = 30
    assert "0.1 seconds" in refused(server)


def test_a_trickle_is_a_stall(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WINDOW_SECONDS", 0.05)
    monkeypatch.setattr(download, "WINDOW_BYTES", 10**9)
    server.behavior.seconds_per_block = 0.02
    assert "stalled" in refused(server)


def test_a_slow_download_succeeds(server: FileServer) -> None:
    server.behavior.seconds_per_block = 0.005
    assert fetch(server, sha256=SHA256) == CONTENT


def test_a_server_that_is_not_there_is_named() -> None:
    with serve_file(Behavior(CONTENT)) as other:
        gone = other.url
    with (
        pytest.raises(FetchError, match=r"127\.0\.0\.1"),
        downloaded(RemoteFile(f"{gone}/a.zip", "a.zip"), max_bytes=10, keep=False, progress=Progress()),
    ):
        pass


@pytest.mark.parametrize(
    ("location", "word"),
    [
        ("file:///etc/passwd", "file"),
        ("http://example.org/archive.zip", "https"),
        ("https://10.255.255.1/archive.zip", "private network"),
        ("https://169.254.169.254/latest/meta-data", "private network"),
        ("http://[::1", "not followed"),
        ("ftp://example.org/a", "ftp"),
    ],
)
def test_redirects_to_other_places_are_not_followed(location: str, word: str, server: FileServer) -> None:
    server.behavior.location = location
    assert word in refused(server)
    assert len(server.requests) == 1


def test_a_circle_of_redirects_ends(server: FileServer) -> None:
    server.behavior.location = "/archive.zip"
    assert "redirects" in refused(server)
    assert len(server.requests) == http_client.MAX_REDIRECTS + 1


def test_the_token_is_for_the_first_host_only(server: FileServer) -> None:
    with serve_file(Behavior(location=f"{server.url}/storage", headers={"X-Linked-ETag": f'"{SHA256}"'})) as hub:
        assert fetch(hub, token="secret") == CONTENT  # noqa: S106
        assert [token for *_, token in hub.requests] == ["Bearer secret"]
    assert [token for *_, token in server.requests] == [""]


def test_the_checksum_of_a_storage_is_not_that_of_the_hub(server: FileServer) -> None:
    server.behavior.headers = {"X-Linked-ETag": f'"{"0" * 64}"'}
    with serve_file(Behavior(location=f"{server.url}/storage", headers={"X-Linked-ETag": f'"{SHA256}"'})) as hub:
        assert fetch(hub) == CONTENT


def test_the_signature_of_a_redirect_is_not_shown(server: FileServer) -> None:
    server.behavior.location = "https://storage.example/x?Signature=secret&a b"
    message = refused(server)
    assert "https://storage.example" in message
    assert "secret" not in message


@pytest.mark.parametrize("token", ["hf_secret\nX: 1", "hf_secret €", "hf secret"])
def test_a_token_that_is_none_is_not_shown(token: str, server: FileServer) -> None:
    with pytest.raises(UsageError, match="HF_TOKEN") as raised:
        fetch(server, token=token)
    assert "secret" not in str(raised.value)
    assert server.requests == []


def test_a_proxy_that_is_none_is_one_line(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http:proxy")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.delenv("NO_PROXY", raising=False)
    message = refused(server, token="secret")  # noqa: S106
    assert "HTTP_PROXY" in message
    assert "secret" not in message


@pytest.mark.parametrize("total", ["", "*"])
def test_a_server_may_limit_ranges(total: str, server: FileServer) -> None:
    server.behavior.break_after, server.behavior.range_total, server.behavior.max_range = 500_000, total, 1_000_000
    assert fetch(server) == CONTENT
    assert server.ranges == ["", "bytes=500000-", "bytes=1500000-", "bytes=2500000-"]


def test_a_rest_of_another_size_is_not_appended(server: FileServer) -> None:
    server.behavior.break_after, server.behavior.range_total = 1_500_000, "1500001"
    assert fetch(server) == CONTENT
    assert server.ranges == ["", "bytes=1500000-", ""]


def test_a_file_in_the_cache_is_checked(server: FileServer) -> None:
    fetch(server, keep=True)
    assert "1,000 bytes" in refused(server, max_bytes=1000, keep=True)
    assert fetch(server, sha256=SHA256, keep=True) == CONTENT
    assert len(server.requests) == 1
    changed = server.behavior.content = make_zip(1000)
    messages = Messages()
    assert fetch(server, sha256=hashlib.sha256(changed).hexdigest(), progress=messages) == changed
    assert ["SHA-256" in line for line in messages.lines] == [True]


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"])
def test_headers_and_lengths_that_trickle_are_a_stall(
    start: bytes, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(download, "MAX_FAILURES", 1)
    server.behavior.trickle_after = start
    assert "stalled" in refused(server)


def test_http_of_other_machines_is_refused() -> None:
    with (
        pytest.raises(UsageError, match="https"),
        downloaded(RemoteFile("http://example.org/a.zip", "a.zip"), max_bytes=10, keep=False, progress=Progress()),
    ):
        pass


def test_two_processes_do_not_write_one_file(server: FileServer) -> None:
    file = RemoteFile(f"{server.url}/archive.zip", "archive.zip")
    with downloaded(file, max_bytes=10**9, keep=True, progress=Progress()):
        assert "Another process" in refused(server)
