"""Batches without a server: what waits, what goes together, what is given up, and that no failure stops the next."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from belvedere.errors import UsageError
from belvedere.images.decode import DecodedImage, read_input
from belvedere.inference.model import Model, load_model
from belvedere.inference.postprocess import ModelOutputs
from belvedere.inference.session import Cancellation
from belvedere.runtime.http.errors import ServiceUnavailableError
from belvedere.serving import batcher
from belvedere.serving.app import Service
from belvedere.serving.batcher import Batcher, PredictionResult
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel, ModelWatch
from belvedere.serving.served_models import ServedModels
from belvedere.types.model import Preprocess
from belvedere.types.prediction import Prediction
from serve_process import activation_map_model, png


class Gated:
    """The tiny model, which answers when it is let, and notes the sizes of its batches."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.card = model.card
        self.has_activation_maps = True
        self.to_predictions = model.to_predictions
        self.open = threading.Event()
        self.sizes: list[int] = []
        self.fails = 0
        self.meet: Callable[[], object] = lambda: None

    def forward_all(self, images: NDArray[np.uint8], _: Cancellation | None = None) -> ModelOutputs:
        self.open.wait(60)
        self.meet()
        self.sizes.append(len(images))
        if self.fails:
            self.fails -= 1
            raise RuntimeError("memory")
        return self.model.forward_all(images)


@pytest.fixture(autouse=True)
def _cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two."""
    monkeypatch.setattr("belvedere.serving.batcher.num_usable_cpus", lambda: 2)


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    file = tmp_path / "model.onnx"
    file.write_bytes(activation_map_model())
    return Gated(load_model(file))


def served(model: Gated) -> LoadedModel:
    return LoadedModel(
        cast("Model", model), "run/model.onnx", "0" * 64, "2026-01-01T00:00:00+00:00", Prediction("blank")
    )


def with_batcher(limits: Limits, work: Callable[[Batcher], Awaitable[None]]) -> Metrics:
    metrics = Metrics()

    async def run() -> None:
        batcher = Batcher(limits, metrics)
        batcher.start()
        try:
            await work(batcher)
        finally:
            await asyncio.to_thread(batcher.close)
        assert not batcher.is_alive

    asyncio.run(run())
    return metrics


def names_of(answers: list[PredictionResult]) -> list[str | None]:
    return [answered.prediction.predicted_label for answered in answers]


def test_what_waits_goes_together_and_comes_back_in_order(gated: Gated) -> None:
    colors = ["red", "green", "blue"] * 5

    async def work(batcher: Batcher) -> None:
        model = served(gated)
        waiting = [batcher.submit(model, [(f"{n}", png(name))], False)[0] for n, name in enumerate(colors)]
        assert batcher.num_pending == len(colors)
        while not batcher._inbox.empty():
            await asyncio.sleep(0.01)
        gated.open.set()
        answers = await asyncio.gather(*waiting)
        assert names_of(answers) == colors
        assert [answered.prediction.image for answered in answers] == [f"{n}" for n in range(15)]
        assert all(answered.heatmap is None for answered in answers)
        assert batcher.num_pending == 0

    with_batcher(Limits(max_batch_size=4), work)
    assert sum(gated.sizes) == 15
    assert max(gated.sizes) <= 4
    assert len(gated.sizes) < 15


def test_a_request_is_taken_whole_or_not_at_all(gated: Gated) -> None:
    async def work(batcher: Batcher) -> None:
        model, images = served(gated), [("a", png("red")), ("b", png("blue"))]
        first = batcher.submit(model, images, False)
        with pytest.raises(ServiceUnavailableError):
            batcher.submit(model, images, False)
        one = batcher.submit(model, images[:1], False)
        gated.open.set()
        assert names_of(await asyncio.gather(*first, *one)) == ["red", "blue", "red"]
        assert names_of(await asyncio.gather(*batcher.submit(model, images, False))) == ["red", "blue"]

    with_batcher(Limits(max_queue=3, max_files=2), work)


def test_what_is_given_up_is_not_worked_on_and_leaves_its_place(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("belvedere.serving.batcher.num_usable_cpus", lambda: 1)

    async def work(batcher: Batcher) -> None:
        model = served(gated)
        first = batcher.submit(model, [("a", png("red"))], False)
        given_up = batcher.submit(model, [(f"{n}", png("blue")) for n in range(5)], False)
        for future in given_up:
            future.cancel()
        gated.open.set()
        assert names_of(await asyncio.gather(*first)) == ["red"]
        while batcher.num_pending:
            await asyncio.sleep(0.01)

    with_batcher(Limits(), work)
    assert len(gated.sizes) == 1  # what was with the first when it began; nothing after


def test_what_is_given_up_frees_its_bytes_before_its_turn(gated: Gated) -> None:
    """Else askers who hang up could fill the memory with what waits behind others."""

    async def work() -> None:
        batcher = Batcher(Limits(), Metrics())  # whose threads are not started: nothing has its turn
        for future in batcher.submit(served(gated), [("a", bytes(1000)), ("b", bytes(1000))], False)[1:]:
            future.cancel()
        await asyncio.sleep(0.01)
        held = [batcher._inbox.get_nowait() for _ in range(2)]
        assert [job.content for job in held if job] == [bytes(1000), b""]

    asyncio.run(work())


def test_nobody_works_for_a_sender_that_has_gone(
    gated: Gated, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its request ends while the model is still busy with what came before it."""
    (tmp_path / "model.onnx").write_bytes(activation_map_model())
    watch = ModelWatch(tmp_path, lambda *_: None)
    service = Service(ServedModels([watch]), Limits(), Metrics())
    watch.current = served(gated)
    sent: list[dict[str, object]] = [{"type": "http.request", "body": png("red")}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, object]:
        return sent.pop(0)

    async def run() -> None:
        service.batcher.start()
        with caplog.at_level("INFO", "belvedere.serving"):
            await service.middleware({**SCOPE, "headers": [(b"content-type", b"image/png")]}, receive, unheard)
        assert not gated.sizes
        gated.open.set()
        while service.batcher.num_pending:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(service.batcher.close)

    asyncio.run(run())
    [line] = caplog.records
    assert line.fields["status"] == 499  # type: ignore[attr-defined]


SCOPE = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "http_version": "1.1"}


async def unheard(_: object) -> None:
    """Sends to nobody."""


def test_a_model_that_fails_fails_its_batch_only(gated: Gated) -> None:
    gated.fails = 1
    gated.open.set()

    async def work(batcher: Batcher) -> None:
        model = served(gated)
        with pytest.raises(RuntimeError, match="memory"):
            await batcher.submit(model, [("a", png("red"))], False)[0]
        assert names_of([await batcher.submit(model, [("a", png("red"))], False)[0]]) == ["red"]
        assert batcher.is_alive

    with_batcher(Limits(), work)


def test_two_models_never_share_a_batch(gated: Gated, tmp_path: Path) -> None:
    other_file = tmp_path / "other.onnx"
    other_file.write_bytes(activation_map_model(("ash", "birch", "cedar")))
    other = Gated(load_model(other_file))

    async def work(batcher: Batcher) -> None:
        old, new = served(gated), served(other)
        waiting = [batcher.submit(old if n % 2 else new, [("a", png("red"))], True)[0] for n in range(12)]
        gated.open.set()
        other.open.set()
        answers = await asyncio.gather(*waiting)
        assert names_of(answers) == ["cedar", "red"] * 6
        assert all(answered.heatmap is not None and answered.heatmap.shape == (3, 2, 2) for answered in answers)

    metrics = with_batcher(Limits(), work)
    assert sum(gated.sizes) == sum(other.sizes) == 6
    assert b'belvedere_batch_size_sum{model="default"} 12.0' in metrics.render()


def test_every_core_runs_the_model(gated: Gated) -> None:
    """Two batches are in the model at once: each waits there for the other."""
    together = threading.Barrier(2, timeout=60)
    gated.open.set()
    gated.meet = together.wait

    async def work(batcher: Batcher) -> None:
        waiting = batcher.submit(served(gated), [("a", png("red")), ("b", png("blue"))], False)
        assert names_of(await asyncio.gather(*waiting)) == ["red", "blue"]

    with_batcher(Limits(max_batch_size=1), work)


def test_large_images_are_decoded_one_at_a_time(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a thread of their own, so that small ones do not wait for them; over the limit they are refused as ever."""
    monkeypatch.setattr(batcher, "LARGE_PIXELS", 100)
    gated.open.set()
    free, readers = threading.Event(), set()

    def read(content: bytes, preprocess: Preprocess, *, draft: bool, max_pixels: int, reduce: bool) -> DecodedImage:
        decoded = read_input(content, preprocess, draft=draft, max_pixels=max_pixels, reduce=reduce)
        if max_pixels > 100:
            readers.add(threading.current_thread().name)
            free.wait(60)
        return decoded

    monkeypatch.setattr(batcher, "read_input", read)

    async def work(batcher: Batcher) -> None:
        model, large = served(gated), [(f"{n}", png("red", side=12)) for n in range(4)]
        waiting = batcher.submit(model, [*large, ("huge", png("red", side=40))], False)
        small = await batcher.submit(model, [("small", png("blue"))], False)[0]
        assert names_of([small]) == ["blue"]
        assert not any(future.done() for future in waiting)
        free.set()
        *answers, huge = await asyncio.gather(*waiting)
        assert names_of(answers) == ["red"] * 4
        assert "1,000" in str(huge.prediction.error)

    with_batcher(Limits(max_pixels=1000), work)
    assert readers == {"large-decoder-0"}


def test_jpegs_are_read_as_predict_reads_them(gated: Gated) -> None:
    """At a reduced scale where they are large: to the same probabilities, which the full scale would not give."""
    noise = np.random.default_rng(5).integers(0, 256, (1200, 1200, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    gated.open.set()
    [expected] = gated.model.predict([file.getvalue()])
    [in_full] = gated.model.predict_sources([file.getvalue()])
    assert in_full.probabilities != expected.probabilities

    async def work(batcher: Batcher) -> None:
        answered = await batcher.submit(served(gated), [("a", file.getvalue())], False)[0]
        assert answered.prediction.probabilities == expected.probabilities

    with_batcher(Limits(), work)


def test_a_decoder_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(activation_map_model())
    (tmp_path / "image.png").write_bytes(png("red"))
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")


HANGS = """

import asyncio, threading
from pathlib import Path
from belvedere.inference.model import load_model
from belvedere.serving import batcher
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel
from belvedere.types.prediction import Prediction


begun = threading.Event()


def hang(*_, **__):
    begun.set()
    threading.Event().wait()


batcher.read_input, batcher.CLOSE_SECONDS = hang, 0.1


async def main():
    made = batcher.Batcher(Limits(), Metrics())
    made.start()
    model = LoadedModel(load_model("model.onnx"), "model.onnx", "", "", Prediction("blank"))
    made.submit(model, [("a", Path("image.png").read_bytes())], False)
    await asyncio.to_thread(begun.wait)
    await asyncio.to_thread(made.close)
    print("closed")


asyncio.run(main())
"""


@pytest.mark.parametrize("threads", [1, 3, None])
def test_threads_that_run_the_model(threads: int | None) -> None:
    """By default one for each core that the process may use, which taskset or a container may limit."""

    async def run() -> list[str]:
        batcher = Batcher(Limits(), Metrics(), threads)
        batcher.start()
        names = [thread.name for thread in threading.enumerate()]
        await asyncio.to_thread(batcher.close)
        return names

    names = asyncio.run(run())
    expected = threads or 2  # of `_cores`
    assert sum(name.startswith("model-") for name in names) == expected
    assert sum(name.startswith("decoder-") for name in names) == expected


def test_limits_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"max_queue": 0},
        {"body_seconds": float("inf")},
        {"max_files": 9, "max_queue": 8},
        {"max_body_bytes": 10**10},
        {"max_batch_size": 33},
        {"max_batch_size": 2.0},
        {"max_batch_size": True},
        {"max_files": "3"},
        {"max_pixels": None},
        {"drain_seconds": "1"},
    ):
        with pytest.raises(UsageError):
            Limits(**wrong)
