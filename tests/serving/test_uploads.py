"""Clients of other kinds: forms as browsers and libraries write them, monitors, pages of other origins, log readers."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from starlette.requests import Request

from belvedere.errors import UsageError
from belvedere.serving.origins import Origins
from belvedere.serving.uploads import read_upload
from serve_process import BOUNDARY, FORM, PATIENCE, Server, activation_map_model, form, png, serve, wait_until

OTHER = "https://app.example.com"
PREFLIGHT = {"Origin": OTHER, "Access-Control-Request-Method": "POST"}


@pytest.fixture(scope="module")
def server(model_file: Path) -> Iterator[Server]:
    with serve(model_file, "--keep-alive", 1) as running:
        yield running


@pytest.fixture(scope="module")
def open_server(model_file: Path) -> Iterator[Server]:
    """One whose answers pages of two origins may read."""
    options = ("--cors-origin", OTHER, "--cors-origin", "http://LOCALHOST:3000")
    with serve(model_file, *options, environment={"BELVEDERE_TOKEN": "open-sesame"}) as running:
        yield running


def part(disposition: str, content: bytes) -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def post_parts(server: Server, *parts: tuple[str, bytes]) -> list[str]:
    """Sends a form, and returns the names under which it is answered."""
    body = b"".join(part(*each) for each in parts) + f"--{BOUNDARY}--\r\n".encode()
    reply = server.ask("POST", "/predict", body, {"Content-Type": FORM})
    assert reply.status == 200, reply.content
    assert all(each["predicted_label"] == "red" for each in reply.json["predictions"])
    return [each["image"] for each in reply.json["predictions"]]


@pytest.mark.parametrize("name", ["file", "files", "image", "images", "files[]", "file[0]", "images[12]"])
def test_files_may_stand_in_fields_of_the_usual_names(server: Server, name: str) -> None:
    reply = server.ask("POST", "/predict", form([("a.png", png("red"))], name), {"Content-Type": FORM})
    assert [each["predicted_label"] for each in reply.json["predictions"]] == ["red"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ('filename="été.png"', "été.png"),
        ("filename=\"ete.png\"; filename*=utf-8'fr'%C3%A9t%C3%A9.png", "ete.png"),
        ("filename*=nonsense; filename=plain.png", "plain.png"),
        ("filename=\"a; filename*=UTF-8''b.png\"", "a; filename*=UTF-8''b.png"),
    ],
)
def test_file_names_are_utf8_and_the_extended_syntax_is_ignored(server: Server, given: str, name: str) -> None:
    assert post_parts(server, (f'name="files"; {given}', png("red"))) == [name]


def test_a_field_without_a_chosen_file_is_no_image(server: Server) -> None:
    empty = ('name="files"; filename=""', b"")
    images = [('name="files"; filename="a.png"', png("red")), ('name="files"; filename=""', png("red"))]
    assert post_parts(server, empty, *images, empty) == ["a.png", "image 2"]
    reply = server.post_form([("", b"")])
    assert (reply.status, reply.code) == (422, "no_files")
    assert server.post_form([("empty.png", b"")]).json["predictions"][0]["error"]


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([('name="note"', b"text")] * 3, 422, "unknown_field"),
        ([('name="files"; filename="a.png"', b"x")] * 5000, 413, "too_many_files"),
        ([(f'name="files"; filename="{"a" * 9000}"', b"x")], 400, "malformed_form"),
        ([('name="note"', bytes(2_000_000))], 400, "malformed_form"),
    ],
    ids=["text-fields", "many-files", "a-long-header", "a-long-text"],
)
def test_forms_over_a_limit_are_rejected(
    server: Server, parts: list[tuple[str, bytes]], status: int, code: str
) -> None:
    body = b"".join(part(*each) for each in parts) + f"--{BOUNDARY}--\r\n".encode()
    reply = server.ask("POST", "/predict", body, {"Content-Type": FORM})
    assert (reply.status, reply.code) == (status, code)


@pytest.mark.parametrize(
    ("charset", "status"), [("utf-8", 200), ('"UTF8"', 200), ("punycode", 400), ("undefined", 400), ("latin-1", 400)]
)
def test_names_are_in_utf8_only(server: Server, charset: str, status: int) -> None:
    """Python has codecs that take quadratic time, and one that always fails."""
    body = form([("a.png", png("red"))])
    reply = server.ask("POST", "/predict", body, {"Content-Type": f"{FORM}; charset={charset}"})
    assert reply.status == status
    assert status == 200 or reply.code == "malformed_form"


def test_uploads_never_go_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starlette writes files of more than 1 MB to temporary files by default."""
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", lambda _: pytest.fail("a temporary file"))
    images = [("a.png", bytes(3_000_000)), ("b.png", b"b")]
    messages: list[dict[str, object]] = [{"type": "http.request", "body": form(images)}]

    async def receive() -> dict[str, object]:
        return messages.pop()

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", FORM.encode())]}
    upload = asyncio.run(read_upload(Request(scope, receive), 2))
    assert upload.images == images
    assert upload.is_form


def test_head_is_answered_as_get_without_a_body(server: Server) -> None:
    paths = ("/", "/healthz", "/readyz", "/model", "/metrics", "/docs", "/openapi.json", "/static/page.css", "/nowhere")
    for path in paths:
        head, get = server.ask("HEAD", path), server.get(path)
        assert (head.status, head.content) == (get.status, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != "/metrics":
            assert head.headers["content-length"] == str(len(get.content))
    assert server.ask("HEAD", "/predict").status == 405
    assert server.ask("DELETE", "/healthz").headers["allow"] == "GET, HEAD"
    assert any(line.get("method") == "HEAD" and line["route"] == "/healthz" for line in server.log())


def test_several_hosts_are_refused(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: elsewhere.example\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")


def test_connections_are_kept_as_long_as_asked(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began, received = time.monotonic(), b""
        while piece := connection.recv(65_536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - began > 0.9


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        ({"Origin": "http://{host}"}, 200),
        ({"Origin": "https://{host}"}, 200),  # behind a proxy that speaks TLS
        ({"Origin": "http://{host}", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://photos.example.com", "X-Forwarded-Host": "photos.example.com"}, 200),
        ({"Origin": "https://photos.example.com", "Sec-Fetch-Site": "same-origin"}, 200),  # a proxy changed the host
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://example.com"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://[", "Host": "localhost"}, 403),
        ({"Origin": "http://example.com", "X-Forwarded-Host": "photos.example.com"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_origins_are_refused(server: Server, headers: Mapping[str, str], status: int) -> None:
    named = {name: value.format(host=f"{server.host}:{server.port}") for name, value in headers.items()}
    reply = server.ask("POST", "/predict", png("red"), {"Content-Type": "image/png", **named})
    assert reply.status == status
    assert status == 200 or reply.code == "forbidden"
    assert "access-control-allow-origin" not in reply.headers
    assert server.ask("OPTIONS", "/predict", None, PREFLIGHT).status == 405


def test_pages_of_an_allowed_origin_may_ask(open_server: Server) -> None:
    allowed = open_server.ask(
        "OPTIONS", "/predict", None, {**PREFLIGHT, "Access-Control-Request-Headers": "content-type"}
    )
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == OTHER
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "Content-Type" in allowed.headers["access-control-allow-headers"]
    refused = open_server.ask("OPTIONS", "/predict", None, {**PREFLIGHT, "Origin": "https://example.com"})
    assert refused.status == 400
    assert "access-control-allow-origin" not in refused.headers
    page = {"Content-Type": "image/png", "Origin": OTHER, "Sec-Fetch-Site": "cross-site"}
    for headers, status in ((page, 401), ({**page, "Authorization": "Bearer open-sesame"}, 200)):
        reply = open_server.ask("POST", "/predict", png("red"), headers)
        assert reply.status == status
        assert (reply.headers["access-control-allow-origin"], reply.headers["vary"]) == (OTHER, "Origin")
    near = {**page, "Origin": "http://localhost:3000", "Authorization": "Bearer open-sesame"}
    assert open_server.ask("POST", "/predict", png("red"), near).status == 200
    assert open_server.ask("POST", "/predict", png("red"), {**page, "Origin": "null"}).status == 403


def test_origins_are_read_as_browsers_write_them() -> None:
    for origin in ("https://Example.com", "http://localhost:3000", "http://[::1]:8080", "tauri://localhost"):
        assert Origins([origin]).is_allowed({b"origin": origin.lower().encode(), b"sec-fetch-site": b"cross-site"})
    assert Origins(["*"]).is_allowed({b"origin": b"null", b"sec-fetch-site": b"cross-site"})
    assert not Origins().is_allowed({b"origin": b"null"})
    for wrong in (
        "example.com",
        "https://example.com/",
        "https://a@example.com",
        "https://a:443",
        "null",
        "",
        "http://a:b",
    ):
        with pytest.raises(UsageError):
            Origins([wrong])


def test_the_error_for_another_host_says_what_to_do(server: Server) -> None:
    refused = server.get("/model", Host="elsewhere.example")
    message = refused.json["error"]["message"]
    assert refused.status == 421
    assert all(word in message for word in ("elsewhere.example", "127.0.0.1", "token"))


LOGGING = """

import logging, os, signal, sys, threading, warnings
import belvedere


def started(*_):
    warnings.warn("a warning")
    logging.getLogger("some.library").error("an error")
    logging.getLogger("uvicorn.error").error("of uvicorn")
    logging.getLogger("asyncio").warning("of asyncio")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    class Odd:
        def __del__(self):
            raise ValueError("unraisable")
    Odd()
    os.kill(os.getpid(), signal.SIGTERM)


belvedere.serve(sys.argv[1], port=0, started=started)
assert not logging.getLogger().handlers
warnings.warn("as before")
"""


def test_whatever_speaks_is_a_line_of_json(model_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOGGING, model_file], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    ours = [json.loads(line) for line in lines if line.startswith("{")]
    said = " ".join(line["message"] for line in ours)
    for words in ("a warning", "an error", "of uvicorn", "of asyncio", "Thread-1", "__del__"):
        assert words in said
    rest = [line for line in lines if not line.startswith("{")]
    assert "as before" in rest[0]  # after the server, all is as it was
    assert len(rest) <= 2


def test_the_address_is_a_line_of_json_where_no_person_reads(model_file: Path) -> None:
    command = [sys.executable, "-m", "belvedere", "serve", str(model_file), "--port", "0", "--host", "0.0.0.0"]  # noqa: S104
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
    assert process.stderr is not None
    lines = [json.loads(process.stderr.readline())["message"] for _ in range(2)]
    assert lines[0].startswith("Serving ")
    assert "may send requests" in lines[1]
    process.terminate()
    assert process.wait(PATIENCE) == 0
    process.stderr.close()


def test_a_deleted_model_is_reported_once_and_may_come_back(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(activation_map_model())
    with serve(tmp_path) as server:
        aside = file.rename(tmp_path / "aside")
        wait_until(lambda: server.get("/model").json["reload_error"] is not None)
        assert "missing" in server.get("/model").json["reload_error"]
        assert server.post_raw(png("red")).status == 200
        time.sleep(2.5)
        assert sum("is missing" in line["message"] for line in server.log()) == 1
        aside.rename(file)
        wait_until(lambda: server.get("/model").json["reload_error"] is None)
        assert server.get("/healthz").status == 200
