"""Batches without a server: what waits, what goes together, what is given up, and that no failure stops the next."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from belvedere.answers import Outputs
from belvedere.errors import UsageError
from belvedere.model import Model, load
from belvedere.serve.batching import Answered, Batcher
from belvedere.serve.limits import Limits
from belvedere.serve.metrics import Metrics
from belvedere.serve.problems import Busy
from belvedere.serve.reload import Served
from serving import evidence_model, png


class Gated:
    """The tiny model, which answers when it is let, and notes the sizes of its batches."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.card = model.card
        self.tells_places = True
        self.put_into_words = model.put_into_words
        self.open = threading.Event()
        self.sizes: list[int] = []
        self.fails = 0

    def run_all(self, images: NDArray[np.uint8]) -> Outputs:
        self.open.wait(60)
        self.sizes.append(len(images))
        if self.fails:
            self.fails -= 1
            raise RuntimeError("out of memory")
        return self._model.run_all(images)


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    file = tmp_path / "model.onnx"
    file.write_bytes(evidence_model())
    return Gated(load(file))


def served(model: Gated) -> Served:
    return Served(cast("Model", model), "run/model.onnx", "0" * 64, "2026-01-01T00:00:00+00:00")


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


def names_of(answers: list[Answered]) -> list[str | None]:
    return [answered.prediction.prediction for answered in answers]


def test_what_waits_goes_together_and_comes_back_in_order(gated: Gated) -> None:
    colours = ["red", "green", "blue"] * 5

    async def work(batcher: Batcher) -> None:
        model = served(gated)
        waiting = [batcher.submit(model, [(f"{n}", png(name))], False)[0] for n, name in enumerate(colours)]
        assert batcher.pending == len(colours)
        gated.open.set()
        answers = await asyncio.gather(*waiting)
        assert names_of(answers) == colours
        assert [answered.prediction.image for answered in answers] == [f"{n}" for n in range(15)]
        assert all(answered.shares is None for answered in answers)
        assert batcher.pending == 0

    with_batcher(Limits(batch=4), work)
    assert sum(gated.sizes) == 15
    assert max(gated.sizes) <= 4
    assert len(gated.sizes) < 15


def test_a_request_is_taken_whole_or_not_at_all(gated: Gated) -> None:
    async def work(batcher: Batcher) -> None:
        model, pictures = served(gated), [("a", png("red")), ("b", png("blue"))]
        first = batcher.submit(model, pictures, False)
        with pytest.raises(Busy, match="2 of 3 places"):
            batcher.submit(model, pictures, False)
        one = batcher.submit(model, pictures[:1], False)
        gated.open.set()
        assert names_of(await asyncio.gather(*first, *one)) == ["red", "blue", "red"]
        assert names_of(await asyncio.gather(*batcher.submit(model, pictures, False))) == ["red", "blue"]

    with_batcher(Limits(queue=3, files=2), work)


def test_what_is_given_up_is_not_worked_on_and_leaves_its_place(gated: Gated) -> None:
    async def work(batcher: Batcher) -> None:
        model = served(gated)
        first = batcher.submit(model, [("a", png("red"))], False)
        given_up = batcher.submit(model, [(f"{n}", png("blue")) for n in range(5)], False)
        for future in given_up:
            future.cancel()
        gated.open.set()
        assert names_of(await asyncio.gather(*first)) == ["red"]
        while batcher.pending:
            await asyncio.sleep(0.01)

    with_batcher(Limits(), work)
    assert len(gated.sizes) == 1  # what was with the first when it began; nothing after


def test_a_model_that_fails_fails_its_batch_only(gated: Gated) -> None:
    gated.fails = 1
    gated.open.set()

    async def work(batcher: Batcher) -> None:
        model = served(gated)
        with pytest.raises(RuntimeError, match="out of memory"):
            await batcher.submit(model, [("a", png("red"))], False)[0]
        assert names_of([await batcher.submit(model, [("a", png("red"))], False)[0]]) == ["red"]
        assert batcher.is_alive

    with_batcher(Limits(), work)


def test_two_models_never_share_a_batch(gated: Gated, tmp_path: Path) -> None:
    other_file = tmp_path / "other.onnx"
    other_file.write_bytes(evidence_model(("ash", "birch", "cedar")))
    other = Gated(load(other_file))

    async def work(batcher: Batcher) -> None:
        old, new = served(gated), served(other)
        waiting = [batcher.submit(old if n % 2 else new, [("a", png("red"))], True)[0] for n in range(12)]
        gated.open.set()
        other.open.set()
        answers = await asyncio.gather(*waiting)
        assert names_of(answers) == ["cedar", "red"] * 6
        assert all(answered.shares is not None and answered.shares.shape == (3, 2, 2) for answered in answers)

    metrics = with_batcher(Limits(), work)
    assert sum(gated.sizes) == sum(other.sizes) == 6
    assert b"belvedere_batch_pictures_sum 12.0" in metrics.render()


def test_limits_that_make_no_sense_are_refused() -> None:
    for wrong in ({"queue": 0}, {"body_seconds": float("inf")}, {"files": 9, "queue": 8}, {"body_bytes": 10**10}):
        with pytest.raises(UsageError):
            Limits(**wrong)
