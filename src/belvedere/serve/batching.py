"""Pictures of many requests, read side by side and taken through the model together.

    submit (event loop) -> decoders (a thread a core) -> runners (a thread a core, each a batch) -> event loop
                                  '-> one thread for large pictures -^

Knows queues, threads and batches; does not know HTTP. The queue is bounded: what does not fit is refused at once, so
that waiting stays short and memory flat. A batch is what is ready when a runner is free; a picture alone does not
wait for company, and one that is being followed by others waits `GATHER_SECONDS` at most. Large pictures, which take
hundreds of megabytes to decode, are decoded one at a time, and the others don't wait for them.
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import TooManyPixels, UnreadableImage
from belvedere.heatmaps import relative
from belvedere.images import DecodedImage, read_input
from belvedere.records import Prediction
from belvedere.serve.limits import Limits
from belvedere.serve.metrics import Metrics
from belvedere.serve.reload import Served
from belvedere.web.problems import Busy

GATHER_SECONDS = 0.004
CLOSE_SECONDS = 5.0  # at the end, for a thread in the middle of something that nobody waits for any more
LARGE_PIXELS = 16_000_000  # of a picture; more are decoded one at a time


@dataclass(frozen=True, slots=True)
class Answered:
    """What was said of one picture."""

    prediction: Prediction
    shares: NDArray[np.float32] | None = None  # (K, h, w): each class's share of the evidence at each place


GIVEN_UP = Answered(Prediction("", error="given up"))  # seen by nobody: its request is gone


@dataclass(slots=True)
class _Job:
    served: Served
    name: str
    content: bytes
    heatmap: bool
    future: "asyncio.Future[Answered]"
    decoded: DecodedImage | None = None


class Batcher:
    """Answers for pictures, many at a time."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self.pending = 0  # pictures taken and not answered; changed by the event loop alone
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._large: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        cores = os.cpu_count() or 1
        # What each kind of thread takes its work from, in the order of the work: so they start, and so they end.
        self._threads = (
            (self._inbox, [_thread(self._decode_all, f"decoder-{number}") for number in range(cores)]),
            (self._large, [_thread(self._decode_large, "decoder-large")]),
            (self._ready, [_thread(self._run_all, f"model-{number}") for number in range(cores)]),
        )
        metrics.queue.set_function(lambda: self.pending)

    def start(self) -> None:
        """Starts the threads; answers will be delivered to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for thread in self._all_threads():
            thread.start()

    def close(self) -> None:
        """Answers what was taken, then ends the threads; one that hangs is left behind after `CLOSE_SECONDS`."""
        until = time.monotonic() + CLOSE_SECONDS
        for source, threads in self._threads:
            for _ in threads:
                source.put(None)
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))

    @property
    def is_alive(self) -> bool:
        """Whether every thread is at work."""
        return all(thread.is_alive() for thread in self._all_threads())

    def _all_threads(self) -> list[threading.Thread]:
        return [thread for _, threads in self._threads for thread in threads]

    def submit(
        self, served: Served, pictures: Sequence[tuple[str, bytes]], heatmaps: bool
    ) -> "list[asyncio.Future[Answered]]":
        """Takes pictures of one request, all or none.

        Args:
            served: The model that shall answer.
            pictures: Name and bytes of each.
            heatmaps: Whether the evidence by place is wanted.

        Returns:
            An answer to come for each; cancelling one spares the work that was not begun.

        Raises:
            Busy: The queue has no room for them.
        """
        if self.pending + len(pictures) > self._limits.queue:
            raise Busy(
                f"The queue is full: {self.pending} of {self._limits.queue} places are taken and this request needs "
                f"{len(pictures)}. Try again in a moment.",
                "queue_full",
            )
        loop = asyncio.get_running_loop()
        jobs = [_Job(served, name, content, heatmaps, loop.create_future()) for name, content in pictures]
        self.pending += len(jobs)
        for job in jobs:
            job.future.add_done_callback(partial(_let_go, job))
            self._inbox.put(job)
        return [job.future for job in jobs]

    def _decode_all(self) -> None:
        while (job := self._inbox.get()) is not None:
            self._decode(job, min(self._limits.pixels, LARGE_PIXELS))

    def _decode_large(self) -> None:
        while (job := self._large.get()) is not None:
            self._decode(job, self._limits.pixels)

    def _decode(self, job: _Job, max_pixels: int) -> None:
        began = time.perf_counter()
        content = job.content  # before the look: what is given up loses it at any moment
        try:
            if job.future.cancelled():
                self._deliver([job], [GIVEN_UP])
                return
            preprocess = job.served.model.card.preprocess
            job.decoded = read_input(content, preprocess, reduced=True, max_pixels=max_pixels)
            job.content = b""
            self._ready.put(job)
        except UnreadableImage as error:
            if isinstance(error, TooManyPixels) and max_pixels < self._limits.pixels:
                self._large.put(job)
                return
            self._deliver([job], [Answered(Prediction(job.name, error=error.reason))])
        except Exception as error:  # noqa: BLE001 - a thread that died would take its core from every request
            self._deliver([job], [error])
        self._metrics.decode_seconds.observe(time.perf_counter() - began)

    def _run_all(self) -> None:
        following: _Job | None = None  # taken, but of another model than the batch before it
        while (first := following or self._ready.get()) is not None:
            gathered, following = self._gather(first)
            batch: list[_Job] = []
            for job in gathered:
                if job.future.cancelled():
                    self._deliver([job], [GIVEN_UP])
                else:
                    batch.append(job)
            if batch:
                self._run(batch)

    def _run(self, batch: Sequence[_Job]) -> None:
        began = time.perf_counter()
        outcomes: Sequence[Answered | Exception]
        try:
            outcomes = _answer(batch)
        except Exception as error:  # noqa: BLE001 - the same: these requests fail, the next must not
            outcomes = [error] * len(batch)
        self._metrics.batch_seconds.observe(time.perf_counter() - began)
        self._metrics.batch_pictures.observe(len(batch))
        self._deliver(batch, outcomes)

    def _gather(self, first: _Job) -> tuple[list[_Job], _Job | None]:
        """Takes those pictures that are ready with the first, up to one of another model, which is the next's first."""
        batch = [first]
        until = time.perf_counter() + GATHER_SECONDS
        while len(batch) < self._limits.batch:
            patience = until - time.perf_counter() if not self._inbox.empty() else 0.0
            try:
                job = self._ready.get(timeout=patience) if patience > 0 else self._ready.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._ready.put(None)  # to be met again when this batch is done
                break
            if job.served is not first.served:
                return batch, job
            batch.append(job)
        return batch, None

    def _deliver(self, jobs: Sequence[_Job], outcomes: Sequence[Answered | Exception]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it all who waited
                self._loop.call_soon_threadsafe(self._settle, jobs, outcomes)

    def _settle(self, jobs: Sequence[_Job], outcomes: Sequence[Answered | Exception]) -> None:
        self.pending -= len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.future.done():
                continue  # its request ran out of time, or its sender went away
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)


def _let_go(job: _Job, future: "asyncio.Future[Answered]") -> None:
    """Frees the bytes of what was given up at once: its place in the queue may be far from its turn."""
    if future.cancelled():
        job.content = b""


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    return threading.Thread(target=work, name=name, daemon=True)


def _answer(batch: Sequence[_Job]) -> list[Answered]:
    """Asks the model about pictures that are read."""
    model = batch[0].served.model
    decoded = [job.decoded for job in batch if job.decoded is not None]
    outputs = model.run_all(np.stack([each.pixels for each in decoded]))
    predictions = model.put_into_words(outputs, [job.name for job in batch], [each.notes for each in decoded])
    evidence, temperature = outputs.evidence, model.card.trust.temperature
    return [
        Answered(prediction, relative(evidence[place] / temperature) if evidence is not None and job.heatmap else None)
        for place, (job, prediction) in enumerate(zip(batch, predictions, strict=True))
    ]
