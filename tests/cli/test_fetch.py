"""The command fetch."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from belvedere.cli.fetch import fetch as fetch_command
from belvedere.fetching.fetch import MAX_BYTES, fetch
from command_line import assert_one_line, belvedere
from conftest import CLASS_NAMES, write_classes
from file_server import Behavior, serve_file


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """Return a ZIP file of class folders, of some megabytes."""
    write_classes(tmp_path / "colors", 2)
    (tmp_path / "colors" / "red" / "large.bmp").write_bytes(b"BM" + bytes(3) + os.urandom(3_000_000))
    return Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "colors")).read_bytes()


def test_a_killed_download_is_continued(content: bytes, tmp_path: Path) -> None:
    with serve_file(Behavior(content, seconds_per_block=0.02)) as server:
        command = [sys.executable, "-m", "belvedere", "fetch", f"{server.url}/colors.zip", "--out", "fetched"]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        while not any(path.stat().st_size > 500_000 for path in tmp_path.glob("cache/downloads/*/content")):
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        listed = json.loads(belvedere("cache", "--json").stdout)["caches"]
        assert [each["kind"] for each in listed] == ["downloads"]
        assert not list(tmp_path.glob("fetched*"))
        done = belvedere("fetch", f"{server.url}/colors.zip", "--out", "fetched", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert int(server.ranges[1].removeprefix("bytes=").rstrip("-")) >= 500_000
    assert json.loads(done.stdout)["num_images"] == {"blue": 2, "green": 2, "red": 3}
    assert {path.name for path in (tmp_path / "fetched").iterdir()} == {".belvedere", *CLASS_NAMES}


def test_the_limit_is_that_of_the_library() -> None:
    limits = {inspect.signature(function).parameters["max_bytes"].default for function in (fetch, fetch_command)}
    assert limits == {MAX_BYTES}


def test_source_and_license_are_printed(content: bytes, tmp_path: Path) -> None:
    with serve_file(Behavior(content)) as server:
        done = belvedere("fetch", f"{server.url}/colors.zip", "--out", "fetched", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"Source: {server.url}/colors.zip" in done.stdout
        assert "License: not stated" in done.stdout
        assert "7 images in fetched" in done.stdout
        again = belvedere("fetch", f"{server.url}/colors.zip", "--out", "fetched", cwd=tmp_path)
        assert_one_line(again, 2, "--out")


def test_errors_are_one_line_and_name_options(content: bytes, tmp_path: Path) -> None:
    assert_one_line(belvedere("fetch", "intel-scene", cwd=tmp_path), 2, "intel-scene")
    assert_one_line(belvedere("fetch", "http://example.org/a.zip", cwd=tmp_path), 2, "https://")
    assert_one_line(belvedere("fetch", "file:///etc/passwd", cwd=tmp_path), 2, "https://")
    (tmp_path / "text.zip").write_text("no archive")
    assert_one_line(belvedere("fetch", "text.zip", cwd=tmp_path), 1, "text.zip")
    with serve_file(Behavior(content)) as server:
        limited = belvedere("fetch", f"{server.url}/other.zip", "--max-bytes", 1_000_000, cwd=tmp_path)
        assert_one_line(limited, 1, "--max-bytes")
    with serve_file(Behavior(b"<!doctype html>")) as server:
        assert_one_line(belvedere("fetch", f"{server.url}/page.zip", cwd=tmp_path), 1, "web page")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "colors", "packed.zip", "text.zip"]
