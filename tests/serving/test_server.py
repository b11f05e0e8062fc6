"""How a server ends, and how it takes a new model: under load_model, without losing a request."""

import asyncio
import hashlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from belvedere.errors import InvalidModelError
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.model_paths import BUNDLED
from belvedere.runtime.http.errors import HTTPError
from belvedere.runtime.parallel import running_threads
from belvedere.serving import model_watch
from belvedere.serving import server as ending
from belvedere.serving.app import Service
from belvedere.serving.limits import Limits
from belvedere.serving.listening import listen_at
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel, ModelWatch
from belvedere.serving.served_models import ServedModels
from conftest import CARD, CLASS_NAMES, model_bytes
from serve_process import (
    PATIENCE,
    Server,
    activation_map_model,
    endless_model,
    failing_model,
    head,
    png,
    serve,
    slow_model,
    wait_until,
)

OTHERS = ("ash", "birch", "cedar")  # the classes of the second model
CLIENTS = 8


@dataclass
class Load:
    """Clients that send one image after the other, on connections that they keep, or on a new one each time."""

    server: Server
    keeps: bool = True
    answers: list[str] = field(default_factory=list)  # the most probable class of each
    lost: list[str] = field(default_factory=list)  # requests without an answer, on a connection that there was
    statuses: set[int] = field(default_factory=set)
    end: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=PATIENCE)
        while not self.end.is_set():
            try:
                connection.connect()
            except OSError:
                return  # it accepts no more
            while not self.end.is_set():
                try:
                    headers = {"Content-Type": "image/png"} | ({} if self.keeps else {"Connection": "close"})
                    connection.request("POST", "/predict", png("red"), headers)
                    response = connection.getresponse()
                    document = response.read()
                except (OSError, http.client.HTTPException) as error:
                    self.lost.append(repr(error))
                    break
                self.statuses.add(response.status)
                self.answers.append(document.decode())
                if response.will_close:
                    break
            connection.close()


@contextmanager
def load_on(server: Server, *, keeps: bool = True) -> Iterator[Load]:
    load = Load(server, keeps)
    threads = [threading.Thread(target=load.ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.end.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere what waits to be accepted is reset")
@pytest.mark.parametrize("keeps", [True, False], ids=["kept-connections", "new-connections"])
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_nothing(tmp_path: Path, keeps: bool, workers: int) -> None:
    (tmp_path / "model.onnx").write_bytes(activation_map_model())
    with serve(tmp_path, "--workers", workers) as server, load_on(server, keeps=keeps) as load:
        wait_until(lambda: len(load.answers) > 50)
        code = server.end()
    assert code == 0
    assert load.lost == []
    assert load.statuses == {200}


def test_what_was_taken_is_answered_and_then_the_server_ends(tmp_path: Path) -> None:
    """Requests that wait in the queue when SIGTERM comes are answered; readiness says no in the meantime."""
    (tmp_path / "model.onnx").write_bytes(slow_model())
    replies = []
    with serve(tmp_path, "--max-batch-size", 1) as server:
        ready = server.connect()  # as a load balancer has it: open before

        def ask() -> None:
            replies.append(server.post_raw(png("red")).status)

        threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.metric("belvedere_queue_length") >= CLIENTS / 2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        ready.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = ready.recv(65_536)
        ready.close()
        for thread in threads:
            thread.join()
        assert server.process.wait(PATIENCE) == 0
    assert replies == [200] * CLIENTS
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close" in said


def test_a_connection_that_was_accepted_may_still_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request comes when the server has ceased to listen, and is answered; then the server ends without a wait."""
    monkeypatch.setattr(ending, "HEADER_SECONDS", PATIENCE)
    (tmp_path / "model.onnx").write_bytes(activation_map_model())
    service = Service(ServedModels([ModelWatch(tmp_path, lambda *_: None)]), Limits(drain_seconds=0), Metrics())

    async def run() -> bytes:
        started = asyncio.Event()
        with listen_at("127.0.0.1", 0) as place:
            server = ending._Server(service, place, lambda *_: started.set())
            running = asyncio.create_task(server.serve(sockets=[place.listener]))
            await started.wait()
            reader, writer = await asyncio.open_connection(*place.listener.getsockname())
            while not server.server_state.connections:
                await asyncio.sleep(0.01)
            server.should_exit = True
            while server.servers[0].is_serving():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # in which it might hang up
            writer.write(head("/predict", len(png("red"))) + png("red"))
            reply = await reader.read()
            writer.close()
            await writer.wait_closed()
            await running
            return reply

    assert asyncio.run(asyncio.wait_for(run(), PATIENCE / 2)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=pytest.mark.skipif(sys.platform == "win32", reason="one"))]
)
def test_a_second_signal_ends_it_at_once(tmp_path: Path, workers: int) -> None:
    (tmp_path / "model.onnx").write_bytes(activation_map_model())
    with serve(tmp_path, "--workers", workers) as server:
        connection = server.connect()
        connection.sendall(head("/predict", 100))  # a request that would be waited for
        wait_until(lambda: server.get("/healthz").status == 200)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE / 4) == 0
        connection.close()


def test_a_new_model_takes_over_under_load(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(activation_map_model())
    with serve(tmp_path) as server, load_on(server) as load:
        first = server.get("/model").json
        wait_until(lambda: len(load.answers) > 20)
        renamed_over(file, activation_map_model(OTHERS))
        wait_until(lambda: server.get("/model").json["card"]["class_names"] == list(OTHERS))
        after = len(load.answers) + CLIENTS  # requests that had begun keep the model they began with
        wait_until(lambda: len(load.answers) > after + 20)
        load.end.set()
        assert server.get("/model").json["sha256"] != first["sha256"]
        assert server.metric("belvedere_reloads_total") == 1
        assert server.metric("belvedere_model_info") == 1
    assert load.lost == []
    assert load.statuses == {200}
    assert '"red"' in load.answers[0]
    assert all('"cedar"' in answer for answer in load.answers[after:])
    assert all(('"red"' in answer) != ('"cedar"' in answer) for answer in load.answers)


def test_a_broken_new_file_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(activation_map_model())
    with serve(tmp_path) as server, load_on(server) as load:
        renamed_over(file, b"no model")
        wait_until(lambda: server.get("/model").json["reload_error"] is not None)
        message = server.get("/model").json["reload_error"]
        assert message.startswith(f"{tmp_path.name}/model.onnx is not an ONNX model")
        assert str(tmp_path) not in message
        assert server.post_raw(png("red")).json["predictions"][0]["predicted_label"] == "red"
        assert any(line["level"] == "warning" and "rejected" in line["message"] for line in server.log())
        file.unlink()
        assert server.post_raw(png("green")).status == 200
        file.write_bytes(activation_map_model(OTHERS))
        wait_until(lambda: server.get("/model").json["reload_error"] is None)
        assert server.get("/model").json["card"]["class_names"] == list(OTHERS)
    assert load.lost == []
    assert load.statuses == {200}


def test_a_file_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    file, heard = tmp_path / "model.onnx", []
    file.write_bytes(activation_map_model())
    watch = ModelWatch(file, lambda what, served, _: heard.append((what, served.model.class_names)))
    whole = activation_map_model(OTHERS)
    for end in (1000, 2000, len(whole)):
        file.write_bytes(whole[:end])
        watch.check()
        assert heard == []
    watch.check()
    assert heard == [("loaded", OTHERS)]
    watch.check()
    assert len(heard) == 1


def test_a_file_that_was_kept_out_is_not_tried_again_and_may_go_back(tmp_path: Path) -> None:
    file, heard = tmp_path / "model.onnx", []
    file.write_bytes(activation_map_model())
    before = tmp_path / "before.onnx"
    os.link(file, before)

    def said(what: str, _: LoadedModel, reason: str | None) -> None:
        heard.append((what, reason is None))

    watch = ModelWatch(file, said)
    renamed_over(file, b"no model")
    for _ in range(4):
        watch.check()
    assert heard == [("rejected", False)]
    assert "ONNX" in str(watch.error)
    before.replace(file)
    for _ in range(3):
        watch.check()
    assert watch.error is None
    assert heard == [("rejected", False)]


def test_a_file_that_comes_while_another_is_opened_is_met_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never taken for the other: what answers is what its hash says."""
    file, heard = tmp_path / "model.onnx", []
    file.write_bytes(activation_map_model())
    watch = ModelWatch(file, lambda what, served, _: heard.append((what, served.model.class_names)))

    def load_and_replace(path: Path, **options: Any) -> Model:
        loaded = load_model(path, **options)
        renamed_over(file, last)
        monkeypatch.undo()
        return loaded

    last = activation_map_model(("elm", "fir", "gum"))
    monkeypatch.setattr(model_watch, "load_model", load_and_replace)
    renamed_over(file, activation_map_model(OTHERS))
    for _ in range(4):
        watch.check()
    assert heard == [("rejected", CLASS_NAMES), ("loaded", ("elm", "fir", "gum"))]
    assert watch.current.sha256 == hashlib.sha256(last).hexdigest()
    assert watch.error is None


def test_whatever_is_wrong_with_a_file_the_watch_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, heard = tmp_path / "model.onnx", []
    file.write_bytes(activation_map_model())
    watch = ModelWatch(file, lambda what, *_: heard.append(what))

    def fail(*_: object, **__: object) -> None:
        raise AttributeError("nobody thought of this")

    with monkeypatch.context() as patch:
        patch.setattr(model_watch, "load_model", fail)
        renamed_over(file, activation_map_model(OTHERS))
        watch.check()
        watch.check()
    assert (heard, watch.error) == (["rejected"], "nobody thought of this")
    renamed_over(file, activation_map_model(OTHERS))
    watch.check()
    watch.check()
    assert heard == ["rejected", "loaded"]


def test_a_watch_that_has_ended_is_reported(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(activation_map_model())
    service = Service(ServedModels([ModelWatch(tmp_path, lambda *_: None)]), Limits(), Metrics())

    async def ask() -> None:
        async with service._lifespan(service.app):
            await service.healthz()
            service.models.stop()
            with pytest.raises(HTTPError) as caught:
                await service.healthz()
            assert caught.value.status == 500

    asyncio.run(ask())


def test_the_accept_rate_is_kept_for_a_new_file(tmp_path: Path) -> None:
    file, heard = tmp_path / "model.onnx", []
    file.write_bytes(BUNDLED.read_bytes())
    watch = ModelWatch(file, lambda what, *_: heard.append(what), accept_rate=0.8)
    assert watch.current.model.accept_rate == 0.8
    renamed_over(file, BUNDLED.read_bytes())
    watch.check()
    watch.check()
    assert watch.current.model.accept_rate == 0.8
    renamed_over(file, activation_map_model())  # which cannot tell what is none of its classes
    watch.check()
    watch.check()
    assert heard == ["loaded", "rejected"]
    assert "accept_rate" in str(watch.error)


def test_a_model_that_can_not_run_is_no_model_to_serve(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(model_bytes(card_to_metadata(replace(CARD, class_names=CLASS_NAMES[:2]))))
    with pytest.raises(InvalidModelError, match=file.name):
        ModelWatch(file, lambda *_: None)


def test_a_model_that_fails_when_it_is_run_is_kept_out(tmp_path: Path) -> None:
    file, heard = tmp_path / "model.onnx", []
    file.write_bytes(activation_map_model())
    watch = ModelWatch(file, lambda what, *_: heard.append(what))
    renamed_over(file, failing_model(at_black=True))
    watch.check()
    watch.check()
    assert heard == ["rejected"]
    assert watch.error is not None


def test_a_model_that_never_answers_is_given_up_and_the_next_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, heard = tmp_path / "model.onnx", []
    file.write_bytes(activation_map_model())
    watch = ModelWatch(file, lambda what, *_: heard.append(what))
    with monkeypatch.context() as patch:
        patch.setattr(model_watch, "WARM_UP_SECONDS", 0.3)
        renamed_over(file, endless_model())
        watch.check()
        watch.check()
    assert heard == ["rejected"]
    assert "within 0.3 s" in str(watch.error)
    assert running_threads(PATIENCE) == []  # the run was ended, too
    renamed_over(file, activation_map_model(OTHERS))
    watch.check()
    watch.check()
    assert heard == ["rejected", "loaded"]


def test_a_file_that_is_never_open_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, free = tmp_path / "model.onnx", threading.Event()
    file.write_bytes(activation_map_model())
    watch = ModelWatch(file, lambda *_: None)

    def hang(*_: object, **__: object) -> None:
        free.wait(PATIENCE)

    monkeypatch.setattr(model_watch, "LOAD_SECONDS", 0.1)
    monkeypatch.setattr(model_watch, "load_model", hang)
    renamed_over(file, activation_map_model(OTHERS))
    watch.check()
    watch.check()
    assert "0.1 s" in str(watch.error)
    assert [thread.name for thread in running_threads(0)] == ["model-load"]
    free.set()
    assert running_threads(PATIENCE) == []


STARTS = """

import sys
from belvedere.cli import main
from belvedere.serving import model_watch


model_watch.WARM_UP_SECONDS = 0.3
sys.argv = ["belvedere", "serve", sys.argv[1], "--port", "0"]
main()
"""


def test_a_server_does_not_start_with_a_model_that_never_answers(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(endless_model())
    command = [sys.executable, "-c", STARTS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "no prediction for a blank image" in line


def renamed_over(file: Path, content: bytes) -> None:
    """Puts a new file in the old one's place, as Belvedere itself writes."""
    other = file.with_name("other")
    other.write_bytes(content)
    other.replace(file)
