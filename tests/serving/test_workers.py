"""Decoders and models that do not come back: known, replaced, and in nobody's way."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from belvedere.images.decode import DecodedImage, read_input
from belvedere.inference.model import load_model
from belvedere.runtime.http.errors import ServiceUnavailableError
from belvedere.runtime.parallel import running_threads
from belvedere.serving import batcher
from belvedere.serving.batcher import Batcher
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel
from belvedere.types.model import Preprocess
from belvedere.types.prediction import Prediction
from serve_process import PATIENCE, Server, activation_map_model, endless_model, png, serve, wait_until

HANGS = b"an image that hangs"


class Hanging:
    """Reads images, and hangs at some of them until it is let."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def read(
        self, content: bytes, preprocess: Preprocess, *, draft: bool, max_pixels: int, reduce: bool
    ) -> DecodedImage:
        if content == HANGS:
            self.free.wait(PATIENCE)
            content = png("red")
        return read_input(content, preprocess, draft=draft, max_pixels=max_pixels, reduce=reduce)


@pytest.fixture(autouse=True)
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    hanging = Hanging()
    monkeypatch.setattr(batcher, "read_input", hanging.read)
    monkeypatch.setattr("belvedere.serving.batcher.num_usable_cpus", lambda: 1)
    yield hanging
    hanging.free.set()
    assert running_threads(PATIENCE) == []


def served_from(content: bytes, folder: Path) -> LoadedModel:
    file = folder / "model.onnx"
    file.write_bytes(content)
    return LoadedModel(load_model(file), "model.onnx", "0" * 64, "2026-01-01T00:00:00+00:00", Prediction("blank"))


def with_batcher(limits: Limits, work: Callable[[Batcher], Awaitable[None]]) -> None:
    async def run() -> None:
        batcher = Batcher(limits, Metrics())
        batcher.start()
        watching = asyncio.create_task(batcher.watch())
        try:
            await asyncio.wait_for(work(batcher), PATIENCE)
        finally:
            await asyncio.to_thread(batcher.close)
            watching.cancel()

    asyncio.run(run())


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.01)


def black() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def test_a_stuck_decoder_is_known_and_another_takes_its_place(hanging: Hanging, tmp_path: Path) -> None:
    served = served_from(activation_map_model(), tmp_path)

    async def work(batcher: Batcher) -> None:
        [stuck] = batcher.submit(served, [("a", HANGS)], False)
        [good] = batcher.submit(served, [("b", png("green"))], False)
        assert (await good).prediction.predicted_label == "green"
        assert "within 0.2 s" in str((await stuck).prediction.error)
        assert batcher.num_pending == 0
        [said] = batcher.describe_stuck()
        assert said.startswith("decoder-0 for ")
        assert batcher.is_alive
        hanging.free.set()
        await until(lambda: not batcher.describe_stuck())  # it came back after all
        await until(lambda: "decoder-0" not in {each.name for each in threading.enumerate()})
        [good] = batcher.submit(served, [("b", png("blue"))], False)
        assert (await good).prediction.predicted_label == "blue"
        assert batcher.num_pending == 0

    with_batcher(Limits(decode_seconds=0.2), work)


def test_only_so_many_decoders_are_replaced(hanging: Hanging, tmp_path: Path) -> None:
    served = served_from(activation_map_model(), tmp_path)

    async def work(batcher: Batcher) -> None:
        waiting = batcher.submit(served, [(f"{n}", HANGS) for n in range(4)], False)
        await asyncio.wait(waiting[:2])
        assert len(batcher.describe_stuck()) == 2
        names = {each.name for each in threading.enumerate()}
        assert {name for name in names if name.startswith("decoder-")} == {
            "decoder-0",
            "decoder-1",
        }
        for future in waiting[2:]:
            future.cancel()
        hanging.free.set()
        [good] = batcher.submit(served, [("b", png("blue"))], False)
        assert (await good).prediction.predicted_label == "blue"
        await until(lambda: not batcher.describe_stuck())

    with_batcher(Limits(decode_seconds=0.2), work)


def test_the_model_stops_where_nobody_waits(tmp_path: Path) -> None:
    """It is in the middle of a loop without an end, and the only one that answers."""
    served = served_from(endless_model("bright"), tmp_path)

    async def work(batcher: Batcher) -> None:
        [endless] = batcher.submit(served, [("a", png("red"))], False)
        await until(lambda: bool(batcher._runners.current_tasks()))
        endless.cancel()
        [good] = batcher.submit(served, [("b", black())], False)
        assert (await good).prediction.probabilities is not None
        assert batcher.num_pending == 0

    with_batcher(Limits(), work)


def test_a_model_that_can_not_be_stopped_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hanging: Hanging
) -> None:
    served = served_from(activation_map_model(), tmp_path)
    answer = batcher._predict

    def hang(batch: batcher._Batch) -> list[batcher.PredictionResult]:
        if batch.requests[0].name == "hangs":
            hanging.free.wait(PATIENCE)
        return answer(batch)

    monkeypatch.setattr(batcher, "_predict", hang)
    monkeypatch.setattr(batcher, "INTERRUPT_SECONDS", 0.1)

    async def work(batcher: Batcher) -> None:
        [stuck] = batcher.submit(served, [("hangs", png("red"))], False)
        with pytest.raises(ServiceUnavailableError):
            await stuck
        [said] = batcher.describe_stuck()
        assert said.startswith("model-0 for ")
        [good] = batcher.submit(served, [("b", png("blue"))], False)
        assert (await good).prediction.predicted_label == "blue"

    with_batcher(Limits(response_seconds=0.2), work)


def test_a_served_model_without_an_end_takes_nothing_but_its_request(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(endless_model("bright"))
    with serve(tmp_path, "--timeout", 1) as server:
        late = server.post_raw(png("red"))
        assert (late.status, late.code) == (503, "timeout")
        assert server.post_raw(black()).status == 200
        assert server.get("/healthz").status == 200
        wait_until(lambda: server.metric("belvedere_queue_length") == 0)
        assert server.end() == 0


STARTS = """

import functools, threading
import belvedere.serving.server
from belvedere.cli import main
from belvedere.serving import batcher, limits


limits.Limits = functools.partial(limits.Limits, decode_seconds=0.3)
batcher.CLOSE_SECONDS = 0.3
read = batcher.read_input


def hang(content, *arguments, **options):
    if content == b"an image that hangs":
        threading.Event().wait()
    return read(content, *arguments, **options)


batcher.read_input = hang
main()
"""


@contextmanager
def serve_hanging(folder: Path) -> Iterator[Server]:
    """Starts a server that hangs at one image."""
    log = folder / "log"
    command = [sys.executable, "-c", STARTS, "serve", str(folder / "model.onnx"), "--port", "0"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
    wait_until(lambda: "Serving" in log.read_text() or process.poll() is not None)
    address = next(word for word in log.read_text().split() if word.startswith("http://"))
    with Server(process, address, log) as server:
        yield server


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_health_tells_of_a_stuck_decoder_and_the_others_go_on(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "model.onnx").write_bytes(activation_map_model())
    with serve_hanging(tmp_path) as server:
        assert server.get("/healthz").status == 200
        refused = server.post_raw(HANGS)
        assert (refused.status, refused.code) == (422, "invalid_image")
        health = server.get("/healthz")
        assert (health.status, health.code) == (500, "stuck")
        assert "decoder-" in health.json["error"]["message"]
        first, second = server.post_form([("a", HANGS), ("b", png("red"))]).json["predictions"]
        assert first["error"]
        assert second["predicted_label"] == "red"
        assert server.get("/readyz").status == 200
        server.process.send_signal(end)
        assert server.process.wait(PATIENCE) == 0
        assert "Fatal" not in server.log_file.read_text()
