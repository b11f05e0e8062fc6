"""A server in a separate process, as a user starts it, and the bytes that a client sends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from belvedere.inference.model_card import card_to_metadata
from conftest import CARD, CLASS_NAMES, make_pixels, model_bytes

BOUNDARY = "a-boundary-of-the-tests"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
PATIENCE = 60.0  # seconds; far more than any test takes


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """Code of an error; every error has this form."""
        document = self.json
        assert set(document) == {"error"}
        assert set(document["error"]) == {"code", "message"}
        assert document["error"]["message"].strip()
        return str(document["error"]["code"])


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    address: str
    log_file: Path
    host: str = field(init=False)
    port: int = field(init=False)
    unix_socket: str = field(init=False)  # in place of host and port

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        self.host, self.port = str(parts.hostname), int(parts.port or 0)
        self.unix_socket = parts.path if parts.scheme == "unix" else ""

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request on a new connection."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        if self.unix_socket:
            connection.sock = self.connect()
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post_form(self, files: Sequence[tuple[str, bytes]], path: str = "/predict") -> Reply:
        return self.ask("POST", path, form(files), {"Content-Type": FORM})

    def post_raw(self, content: bytes, path: str = "/predict", kind: str = "image/png") -> Reply:
        return self.ask("POST", path, content, {"Content-Type": kind})

    def connect(self) -> socket.socket:
        if self.unix_socket:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(PATIENCE)
            connection.connect(self.unix_socket)
            return connection
        return socket.create_connection((self.host, self.port), timeout=PATIENCE)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = self.get("/metrics").content.decode().splitlines()
        rows = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in rows)

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the log so far."""
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def end(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@contextmanager
def serve(*arguments: object, environment: Mapping[str, str] | None = None, before: str = "") -> Iterator[Server]:
    """Start `belvedere serve` on a free port, after the Python code `before`; kill it at the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        log_file = Path(folder) / "log"
        program = ["-c", f"{before}\nfrom belvedere.cli import main\nmain()"] if before else ["-m", "belvedere"]
        port = [] if "--unix-socket" in arguments else ["--port", "0"]
        command = [sys.executable, *program, "serve", *map(str, arguments), *port, "--json"]
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env=os.environ | dict(environment or {})
            )
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith(b"}"):
                break
        if not lines:
            raise RuntimeError(f"The server did not start: {log_file.read_text()}")
        with Server(process, json.loads(b"".join(lines))["address"], log_file) as server:
            yield server


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for a condition that must become true."""
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, "the condition did not become true"
        time.sleep(0.05)


def form(files: Sequence[tuple[str, bytes]], name: str = "files") -> bytes:
    """Return a form with these files."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for file, content in files
    ]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def png(name: str, variant: int = 0, side: int = 8) -> bytes:
    """Return an image of a color as PNG."""
    file = BytesIO()
    Image.fromarray(make_pixels(name, variant, side)).save(file, "PNG")
    return file.getvalue()


def head(path: str, length: int, kind: str = "image/png") -> bytes:
    """Return the headers of a request with a body of that many bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()
    )


def activation_map_model(names: Sequence[str] = CLASS_NAMES) -> bytes:
    """Return the tiny model with class activation maps (N, 3, 2, 2): the mean colors of the four quarters."""
    model = onnx.load_from_string(model_bytes(card_to_metadata(replace(CARD, class_names=tuple(names)))))
    graph = model.graph
    graph.node.extend(
        [
            helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("AveragePool", ["planes"], ["quarters"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("Gather", ["quarters", "order"], ["ordered"], axis=1),
            helper.make_node("Div", ["ordered", "scale"], ["class_activation_maps"]),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("class_activation_maps", TensorProto.FLOAT, ("N", 3, 2, 2)))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def failing_model(*, at_black: bool = False) -> bytes:
    """Return a tiny model that fails on each image that is not black, or on black ones, too."""
    model = onnx.load_from_string(model_bytes(card_to_metadata(CARD)))
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.zeros(0 if at_black else 1, np.float32), "only"))
    graph.node.append(helper.make_node("ReduceMax", ["pixels"], ["brightest"], keepdims=0))
    graph.node.append(helper.make_node("Cast", ["brightest"], ["place"], to=TensorProto.INT64))
    graph.node.append(helper.make_node("Gather", ["only", "place"], ["zero"]))  # the only valid index is 0
    return _add_to_logits("zero", model)


def endless_model(where: str = "always") -> bytes:
    """Return a tiny model that computes for minutes: always, or for images with a "bright" pixel."""
    return slow_model(rounds=500, where=where, size=2000)  # more nodes would take longer to load


def slow_model(rounds: int = 12, names: Sequence[str] = CLASS_NAMES, where: str = "always", size: int = 700) -> bytes:
    """Return a model with products of large matrices for every batch, or for "bright" ones."""
    model = onnx.load_from_string(model_bytes(card_to_metadata(replace(CARD, class_names=tuple(names)))))
    graph = model.graph
    for name, value in {
        "square": np.eye(size, dtype=np.float32),
        "row": np.ones((1, size), np.float32),
        "least": np.array({"always": -1, "bright": 0}[where], np.float32),
        "rows": np.array([size]),
        "columns": np.array([size]),
        "nothing": np.array(0, np.float32),
    }.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    # The number of rows depends on the images; otherwise ONNX Runtime would compute all of it when it opens the model.
    graph.node.append(helper.make_node("ReduceMax", ["pixels"], ["brightest"], keepdims=0))
    graph.node.append(helper.make_node("Greater", ["brightest", "least"], ["works"]))
    graph.node.append(helper.make_node("Cast", ["works"], ["times"], to=TensorProto.INT64))
    graph.node.append(helper.make_node("Mul", ["times", "rows"], ["height"]))
    graph.node.append(helper.make_node("Concat", ["height", "columns"], ["shape"], axis=0))
    graph.node.append(helper.make_node("Expand", ["row", "shape"], ["work0"]))
    for each in range(rounds):
        graph.node.append(helper.make_node("MatMul", [f"work{each}", "square"], [f"work{each + 1}"]))
    graph.node.append(helper.make_node("ReduceSum", [f"work{rounds}"], ["idle"], keepdims=0))
    graph.node.append(helper.make_node("Mul", ["idle", "nothing"], ["zero"]))
    return _add_to_logits("zero", model)


def _add_to_logits(output: str, model: onnx.ModelProto) -> bytes:
    """Add an output of the graph, which is 0, to the logits, so that the probabilities depend on it."""
    graph = model.graph
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    graph.node.remove(softmax)
    graph.node.append(helper.make_node("Add", ["logits", output], ["shifted"]))
    graph.node.append(helper.make_node("Softmax", ["shifted"], ["probabilities"], axis=1))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
