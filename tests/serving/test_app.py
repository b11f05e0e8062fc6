"""The service as a client meets it: a real server in a process of its own, every route and every refusal."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from belvedere.serving import schema
from conftest import CLASS_NAMES
from serve_process import (
    BOUNDARY,
    FORM,
    PATIENCE,
    Server,
    failing_model,
    form,
    head,
    png,
    serve,
    slow_model,
    wait_until,
)

LIMITS = ("--max-files", 3, "--max-body-mb", 0.5, "--max-megapixels", 0.01, "--timeout", 2)
CHUNKED = head("/predict", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
TOKEN = "a-token-of-the-tests"  # noqa: S105 - nobody's


@pytest.fixture(scope="module")
def server(model_file: Path) -> Iterator[Server]:
    with serve(model_file, *LIMITS) as running:
        yield running


def test_bytes_of_one_image(server: Server) -> None:
    reply = server.post_raw(png("red"))
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    answer = reply.json
    assert set(answer) == {"model", "preprocess", "class_names", "predictions"}
    assert answer["class_names"] == list(CLASS_NAMES)
    assert answer["preprocess"] == {"height": 8, "width": 8, "resize": "stretch"}
    [said] = answer["predictions"]
    assert said["predicted_label"] == "red"
    assert said["image"] == "image"
    assert said["error"] is said["heatmap"] is None
    assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert (
        server.post_raw(png("blue"), kind="application/octet-stream").json["predictions"][0]["predicted_label"]
        == "blue"
    )


def test_predictions_equal_those_of_the_library(server: Server, model_file: Path) -> None:
    import belvedere

    images = [png(name, variant) for variant in range(4) for name in CLASS_NAMES]
    alone = belvedere.load_model(model_file).predict(images)
    for one, image in zip(alone, images, strict=True):
        [said] = server.post_raw(image).json["predictions"]
        assert said["probabilities"] == pytest.approx(one.probabilities, abs=1e-6)


def test_invalid_image_in_a_form_has_an_error(server: Server) -> None:
    reply = server.post_form([("ä .png", png("green")), ("torn.jpg", b"\xff\xd8\xff"), ("", png("red"))])
    assert reply.status == 200
    first, torn, third = reply.json["predictions"]
    assert (first["image"], first["predicted_label"]) == ("ä .png", "green")
    assert torn["image"] == "torn.jpg"
    assert torn["error"]
    assert torn["predicted_label"] is torn["probabilities"] is None
    assert (third["image"], third["predicted_label"]) == ("image 3", "red")


def test_heatmaps_are_class_fractions_per_position(server: Server) -> None:
    reply = server.post_form([("a.png", png("red")), ("b.png", b"broken")], "/predict?heatmaps=true")
    good, broken = reply.json["predictions"]
    assert broken["heatmap"] is None
    grid = good["heatmap"]
    assert len(grid) == 3
    for row in range(2):
        for column in range(2):
            assert sum(grid[k][row][column] for k in range(3)) == pytest.approx(1, abs=1e-3)
    assert grid[CLASS_NAMES.index("red")][1][1] > 0.5


@pytest.mark.parametrize(
    ("status", "code", "body", "kind"),
    [
        (422, "invalid_image", b"not an image", "image/jpeg"),
        (422, "invalid_image", png("red", side=120), "image/png"),  # over 10,000 pixels
        (422, "no_files", b"", "image/png"),
        (422, "no_files", f"--{BOUNDARY}--\r\n".encode(), FORM),
        (422, "unknown_field", form([("a.png", b"x")], name="photo"), FORM),
        (413, "too_many_files", form([("a.png", b"x")] * 4), FORM),
        (413, "body_too_large", bytes(600_000), "image/png"),
        (400, "malformed_form", form([("a.png", b"x")])[:-8], FORM),
        (400, "malformed_form", b"no form at all", FORM),
        (400, "malformed_form", b"", "multipart/form-data"),
        (400, "malformed_form", b"x", f"multipart/form-data; boundary={'b' * 300}"),
        (415, "unsupported_media_type", b"a=b", "application/x-www-form-urlencoded"),
        (415, "unsupported_media_type", b"{}", "application/json"),
    ],
)
def test_invalid_requests_are_rejected(server: Server, status: int, code: str, body: bytes, kind: str) -> None:
    reply = server.ask("POST", "/predict", body, {"Content-Type": kind})
    assert (reply.status, reply.code) == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("GET", "/static/nowhere.js", {}, 404, "not_found"),
        ("GET", "/static/../app.py", {}, 404, "not_found"),
        ("GET", "/healthz/", {}, 404, "not_found"),
        ("GET", "/predict", {}, 405, "method_not_allowed"),
        ("DELETE", "/model", {}, 405, "method_not_allowed"),
        ("POST", "/predict?heatmaps=perhaps", {"Content-Type": "image/png"}, 422, "invalid_request"),
        ("POST", "/predict", {}, 415, "unsupported_media_type"),
        ("POST", "/predict", {"Content-Type": "image/png", "Sec-Fetch-Site": "cross-site"}, 403, "forbidden"),
        ("POST", "/predict", {"Content-Type": "image/png", "Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        ("GET", "/", {"X-Long": "x" * 50_000}, 431, "headers_too_large"),
    ],
)
def test_errors_have_one_format(
    server: Server, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    reply = server.ask(method, path, None, headers)
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["content-type"] == "application/json"


def test_status_405_lists_allowed_methods(server: Server) -> None:
    assert server.get("/predict").headers["allow"] == "POST"


def test_invalid_http_has_the_same_error_format(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"good day\r\n\r\n")
        head_, _, body = receive_all(connection).partition(b"\r\n\r\n")
    assert head_.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_chunked_body_is_counted(server: Server) -> None:
    chunk = b"20000\r\n" + bytes(0x20000) + b"\r\n"
    with server.connect() as connection:
        connection.sendall(CHUNKED)
        connection.sendall(chunk * 6 + b"0\r\n\r\n")
        reply = receive_all(connection)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"body_too_large" in reply


@pytest.mark.parametrize(
    "piece",
    [b"0\r\n" + b"a: b\r\n" * 20_000, b"0\r\n" + b"a" * 600_000, b"8;" + b"a" * 600_000],
    ids=["many-trailers", "a-long-trailer", "a-long-extension"],
)
def test_chunk_extensions_and_trailers_are_counted(server: Server, piece: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(CHUNKED)
        reply = b""
        with contextlib.suppress(ConnectionError):  # it hangs up on what was not read
            connection.sendall(piece)
            reply = receive_all(connection)
    assert not reply or reply.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))  # not 408, after the time for a body
    assert server.post_raw(png("red")).status == 200


def test_error_arrives_before_unread_bytes(server: Server) -> None:
    """A connection closed with unread bytes is reset, and its response may be lost."""
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 3_000_000)
        assert receive_all(connection).startswith(b"HTTP/1.1 431 ")


def test_last_response_arrives_before_unread_requests(server: Server) -> None:
    closes = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(closes + b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\r\n" * 30_000)
        reply = receive_all(connection)
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.count(b"HTTP/1.1") == 1


def test_body_in_small_chunks_is_accepted(server: Server) -> None:
    """Chunk headers may total more bytes than the limit of a header."""
    image = png("red", side=60)
    chunks = b"".join(b"1;a=b\r\n" + image[place : place + 1] + b"\r\n" for place in range(len(image)))
    padding = b"1;" + b"a" * 1000 + b"\r\nx\r\n"  # after the image's end, where readers stop
    with server.connect() as connection:
        connection.sendall(CHUNKED)
        connection.sendall(chunks + padding * 60 + b"0\r\na: b\r\n\r\n")
        assert receive_reply(connection).startswith(b"HTTP/1.1 200 ")


def test_slow_body_times_out_without_blocking_others(server: Server) -> None:
    began = time.monotonic()
    with server.connect() as slow:
        slow.sendall(head("/predict", 1000) + b"a few bytes")
        assert server.post_raw(png("red")).status == 200
        reply = receive_all(slow)
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in reply
    assert 1.5 < time.monotonic() - began < PATIENCE


def test_client_disconnect_is_no_server_error(server: Server) -> None:
    before = sum(line.get("status") == 499 for line in server.log())
    with server.connect() as connection:
        connection.sendall(head("/predict", 1000) + b"a few bytes")
    wait_until(lambda: sum(line.get("status") == 499 for line in server.log()) == before + 1)
    assert "Traceback" not in server.log_file.read_text()
    assert not any(line.get("status") == 500 for line in server.log())


def test_model_failure_has_the_same_error_format(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(failing_model())
    with serve(tmp_path) as server:
        reply = server.post_form([("a.png", png("red")), ("b.png", png("blue"))])
        assert (reply.status, reply.code) == (500, "model_failed")
        assert str(tmp_path) not in reply.json["error"]["message"]
        wait_until(lambda: any(line.get("code") == "model_failed" for line in server.log()))
        assert "Traceback" not in server.log_file.read_text()
        assert server.get("/healthz").status == 200


BROKEN = """

from belvedere.serving import app


def fail(*_):
    raise RuntimeError("no")


app._predict_response = fail
"""


def test_internal_error_has_the_same_error_format(tiny_model: Path) -> None:
    """The response has the id of the log line with the reason."""
    with serve(tiny_model, before=BROKEN) as server:
        reply = server.post_form([("a.png", png("red")), ("b.png", png("blue"))])
        assert (reply.status, reply.code) == (500, "internal_error")
        assert reply.headers["content-type"] == "application/json"
        name = reply.headers["x-request-id"]
        assert name in reply.json["error"]["message"]
        wait_until(lambda: any("status" in line for line in server.log()))
        failure, request = server.log()
        assert failure["id"] == request["id"] == name
        assert "Traceback" in failure["traceback"]
        assert request["code"] == "internal_error"
        assert server.get("/healthz").status == 200


@pytest.mark.parametrize("beginning", [b"", b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"])
def test_incomplete_header_times_out(server: Server, beginning: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(beginning)
        reply = receive_all(connection)
    assert reply.startswith(b"HTTP/1.1 408 ")


def test_health_readiness_and_model(server: Server) -> None:
    assert server.get("/healthz").json == {"status": "ok"}
    assert server.get("/readyz").json == {"status": "ready"}
    model = server.get("/model").json
    assert model["card"]["class_names"] == list(CLASS_NAMES)
    assert model["heatmaps"] is True
    assert model["reload_error"] is None
    assert model["limits"] == {"max_body_bytes": 500_000, "max_files": 3, "max_pixels": 10_000}
    assert model["name"].endswith("/model.onnx")
    assert not model["name"].startswith("/")


def test_page_and_api_docs_load_nothing_external(server: Server) -> None:
    for path in ("/", "/docs"):
        page = server.get(path)
        assert page.status == 200
        text = page.content.decode()
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text
        assert " style=" not in text
        assert "<style" not in text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
    assert server.ask("HEAD", "/").status == 200
    assert "/predict" in server.get("/docs").content.decode()


def test_openapi_describes_the_response(server: Server) -> None:
    document = server.get("/openapi.json").json
    described = document["paths"]["/predict"]["post"]["responses"]
    assert described["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/PredictResponse")
    assert set(described) == {"200", "400", "401", "403", "408", "413", "415", "421", "422", "503"}


def test_responses_match_their_schema(server: Server) -> None:
    """The routes write JSON themselves, for speed: here it is validated."""
    files = [("a.png", png("red")), ("b.png", b"broken")]
    for path in ("/predict", "/predict?heatmaps=true"):
        schema.PredictResponse.model_validate_json(server.post_form(files, path).content)
    schema.ModelResponse.model_validate_json(server.get("/model").content)
    schema.ModelsResponse.model_validate_json(server.get("/models").content)
    for path in ("/healthz", "/readyz"):
        schema.StatusResponse.model_validate_json(server.get(path).content)
    schema.ErrorResponse.model_validate_json(server.get("/nowhere").content)


def test_metrics(server: Server) -> None:
    before = {name: server.metric(name) for name in COUNTED}
    server.post_form([("a.png", png("red")), ("b.png", b"broken")])
    server.get("/nowhere/at/all")
    after = {name: server.metric(name) for name in COUNTED}
    gained = {name: after[name] - before[name] for name in COUNTED}
    assert gained["belvedere_predictions_total"] == 1
    assert gained["belvedere_images_total"] == 2
    assert gained["belvedere_batch_size_count"] == 1
    assert gained["belvedere_requests_total"] >= 2
    assert gained["belvedere_rejected_requests_total"] == 1
    assert server.metric("belvedere_queue_length") == 0
    assert server.metric("belvedere_model_info") == 1
    text = server.get("/metrics").content.decode()
    assert 'belvedere_predictions_total{model="default",prediction="red"}' in text
    assert "nowhere" not in text  # no label comes from a client
    assert "belvedere_ood_ratio" in text


COUNTED = (
    "belvedere_predictions_total",
    "belvedere_images_total",
    "belvedere_batch_size_count",
    "belvedere_requests_total",
    "belvedere_rejected_requests_total",
)


def test_the_log_is_json_without_names_or_content(server: Server) -> None:
    reply = server.post_form([("holiday-secret.png", png("red"))])
    server.get("/?secret-query")
    lines = [line for line in server.log() if line.get("id") == reply.headers["x-request-id"]]
    [line] = lines
    assert line["route"] == "/predict"
    assert line["status"] == 200
    assert line["images"] == 1
    assert line["bytes"] > 100
    assert "secret" not in server.log_file.read_text()
    assert "Traceback" not in server.log_file.read_text()


def test_connections_stay_open_between_requests(server: Server) -> None:
    request = head("/predict", len(png("red"))) + png("red")
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(request)
            assert b"200 OK" in receive_reply(connection)
        connection.sendall(request * 3)  # without waiting in between
        replies = b""
        while replies.count(b'"predictions"') < 3:
            replies += connection.recv(65_536)


def test_token_is_required(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with serve(model_file, "--token-file", tmp_path / "token") as server:
        for path in ("/model", "/metrics"):
            refused = server.get(path)
            assert (refused.status, refused.code) == (401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert server.get(path, Authorization="Bearer wrong").status == 401
            assert server.get(path, Authorization=f"Basic {TOKEN}").status == 401
            assert server.get(path, Authorization=f"Bearer {TOKEN}").status == 200
        assert server.post_raw(png("red")).status == 401
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/png"}
        assert server.ask("POST", "/predict", png("red"), headers).status == 200
        for path in ("/", "/healthz", "/readyz", "/static/page.js"):
            assert server.get(path).status == 200
        assert TOKEN not in server.log_file.read_text()
    with serve(model_file, environment={"BELVEDERE_TOKEN": TOKEN}) as server:
        assert server.get("/model").status == 401


def test_without_a_token_only_local_names_are_accepted(server: Server, model_file: Path) -> None:
    """Otherwise DNS rebinding lets another site send requests here."""
    for name in ("localhost", f"127.0.0.1:{server.port}", "[::1]:80"):
        assert server.get("/model", Host=name).status == 200
    for name in ("elsewhere.example", "127.0.0.1.elsewhere.example:80", "203.0.113.1", "[::1", ""):
        refused = server.get("/model", Host=name)
        assert (refused.status, refused.code) == (421, "unknown_host")
    with serve(model_file, environment={"BELVEDERE_TOKEN": TOKEN}) as guarded:
        allowed = {"Host": "elsewhere.example", "Authorization": f"Bearer {TOKEN}"}
        assert guarded.get("/model", **allowed).status == 200
    with serve(model_file, "--host", "0.0.0.0") as public:  # noqa: S104 - that is what is tried here
        assert public.get("/model", Host="elsewhere.example").status == 200
        wait_until(lambda: "Everybody who reaches this machine may send requests" in public.log_file.read_text())
    with serve(model_file, "--host", "127.1") as near:  # another spelling of an address of this machine
        assert near.get("/model", Host=f"127.1:{near.port}").status == 200
        assert near.get("/model", Host="elsewhere.example").status == 421
        assert "Everybody" not in near.log_file.read_text()


def test_empty_token_is_rejected(model_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "belvedere", "serve", model_file, "--port", "0"],
        env=os.environ | {"BELVEDERE_TOKEN": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert "8 or more" in done.stderr


def test_full_queue_returns_503_and_recovers(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(slow_model())
    with serve(file, "--max-queue", 2, "--max-batch-size", 1, "--max-files", 2) as server:
        replies = []

        def ask() -> None:
            replies.append(server.post_raw(png("red")))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [reply for reply in replies if reply.status != 200]
        assert len(refused) < 12
        assert refused
        for reply in refused:
            assert (reply.status, reply.code) == (503, "queue_full")
            assert int(reply.headers["retry-after"]) >= 1
        assert server.metric("belvedere_queue_length") == 0
        assert server.post_raw(png("red")).status == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.onnx"], "no file or folder gone.onnx"),
        (["--max-files", "9", "--max-queue", "8"], "max_files is too large: 9"),
        (["--max-body-mb", "0"], "max_body_bytes"),
        (["--max-body-mb", "nan"], "max_body_bytes is not a whole number above 0: nan"),
        (["--max-megapixels", "inf"], "max_pixels is not a whole number above 0: inf"),
        (["--max-batch-size", "33"], "max_batch_size is too large: 33"),
        (["--accept-rate", "2"], "--accept-rate"),
        (["--max-megapixels", "1000"], "max_pixels is too large"),
        (["--timeout", "nan"], "body_seconds"),
        (["--token-file", "gone"], "gone cannot be read"),
        (["--host", "203.0.113.1"], "Cannot listen on 203.0.113.1"),
        (["--host", "a..b"], "Cannot listen on a..b"),
        (["--port", "taken"], "Cannot listen on 127.0.0.1"),
    ],
)
def test_invalid_arguments_get_one_line(arguments: list[str], words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = [str(taken.getsockname()[1]) if each == "taken" else each for each in arguments]
        command = [sys.executable, "-m", "belvedere", "serve", *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    [line] = done.stderr.strip().splitlines()
    assert words in line


def test_server_imports_nothing_heavy() -> None:
    code = (
        "import sys, belvedere.serving.server\n"
        "print(sorted({'torch', 'scipy', 'sklearn', 'matplotlib', 'onnx', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def receive_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes the connection."""
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    return received


def receive_reply(connection: socket.socket) -> bytes:
    """One response with a content length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    head_, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head_.split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65_536)
    return head_ + body
