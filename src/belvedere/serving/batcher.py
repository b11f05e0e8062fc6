"""Pictures of many requests, read side by side and taken through the model together.

    submit (event loop) -> decoders (a thread a core) -> runners (a thread a core, each a batch) -> event loop
                                  '-> one thread for large pictures -^

Knows queues, threads and batches; does not know HTTP. The queue is bounded: what does not fit is refused at once, so
that waiting stays short and memory flat. A batch is what is ready when a runner is free; a picture alone does not
wait for company, and one that is being followed by others waits `MAX_BATCH_DELAY` at most. Large pictures, which take
hundreds of megabytes to decode, are decoded one at a time, and the others don't wait for them. What nobody waits
for is not begun, and the model is stopped in the middle of it; a thread that is stuck all the same is replaced.
"""

import asyncio
import os
import queue
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import ImageTooLargeError, InvalidImageError
from belvedere.images.decode import DecodedImage, read_input
from belvedere.images.heatmap import relative
from belvedere.inference.session import Cancellation
from belvedere.runtime.http.errors import Busy
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel
from belvedere.serving.workers import Pool, Worker
from belvedere.types.prediction import Prediction

MAX_BATCH_DELAY = 0.004
CLOSE_SECONDS = 5.0  # at the end, for a thread in the middle of something that nobody waits for any more
LOOK_SECONDS = 0.25  # between two looks at what the threads are at
STOP_SECONDS = 5.0  # for the model to stop when nobody waits for it any more
LARGE_PIXELS = 16_000_000  # of a picture; more are decoded one at a time
LARGE_TIMES = 3  # as much time for one of these


@dataclass(frozen=True, slots=True)
class Answered:
    """What was said of one picture."""

    prediction: Prediction
    shares: NDArray[np.float32] | None = None  # (K, h, w): each class's share of the evidence at each place


CANCELLED = Answered(Prediction("", error="given up"))  # seen by nobody: its request is gone


@dataclass(slots=True, eq=False)
class _Job:
    served: LoadedModel
    name: str
    content: bytes
    heatmap: bool
    future: "asyncio.Future[Answered]"
    decoded: DecodedImage | None = None
    is_settled: bool = False  # answered, or given up


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    jobs: Sequence[_Job]
    cancellation: Cancellation = field(default_factory=Cancellation)


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
        seconds = limits.decode_seconds
        self._decoders = Pool("decoder", cores, seconds, self._decode_all, partial(self._inbox.put, None))
        self._large_decoder = Pool(
            "large-decoder", 1, LARGE_TIMES * seconds, self._decode_large, partial(self._large.put, None)
        )
        seconds = limits.answer_seconds + STOP_SECONDS
        self._runners = Pool("model", cores, seconds, self._run_all, partial(self._ready.put, None))
        # In the order of the work: so they start, and so they end.
        self._pools = (self._decoders, self._large_decoder, self._runners)
        metrics.queue.set_function(lambda: self.pending)

    def start(self) -> None:
        """Starts the threads; answers will be delivered to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for pool in self._pools:
            pool.start()

    def close(self) -> None:
        """Answers what was taken, then ends the threads; one that hangs is left behind after `CLOSE_SECONDS`."""
        until = time.monotonic() + CLOSE_SECONDS
        for pool in self._pools:
            pool.close(until)

    @property
    def is_alive(self) -> bool:
        """Whether every thread is at work."""
        return all(pool.is_alive for pool in self._pools)

    def list_stuck(self) -> list[str]:
        """Name the threads that do not come back from a picture or from the model, and for how long."""
        return [each for pool in self._pools for each in pool.list_stuck()]

    async def watch(self) -> None:
        """Look after the threads, again and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Stop the model where nobody waits for it, and give up what takes too long."""
        for batch in self._runners.list_work():
            if all(job.future.done() for job in batch.jobs):
                batch.cancellation.cancel()
        for decoders in (self._decoders, self._large_decoder):
            for job in decoders.give_up_late():
                reason = f"it was not read within {decoders.seconds:g} s"
                self._settle([job], [Answered(Prediction(job.name, error=reason))])
        for batch in self._runners.give_up_late():
            late = Busy("The model did not answer in time. Try again later.", "too_late")
            self._settle(batch.jobs, [late] * len(batch.jobs))

    def submit(
        self, served: LoadedModel, pictures: Sequence[tuple[str, bytes]], heatmaps: bool
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

    def _decode_all(self, worker: Worker[_Job]) -> None:
        while not worker.is_replaced and (job := self._inbox.get()) is not None:
            with worker.at(job):
                self._decode(job, min(self._limits.pixels, LARGE_PIXELS))

    def _decode_large(self, worker: Worker[_Job]) -> None:
        while not worker.is_replaced and (job := self._large.get()) is not None:
            with worker.at(job):
                self._decode(job, self._limits.pixels)

    def _decode(self, job: _Job, max_pixels: int) -> None:
        began = time.perf_counter()
        content = job.content  # before the look: what is given up loses it at any moment
        try:
            if job.future.done():
                self._deliver([job], [CANCELLED])
                return
            preprocess = job.served.model.card.preprocess
            job.decoded = read_input(content, preprocess, reduced=True, max_pixels=max_pixels)
            job.content = b""
            self._ready.put(job)
        except InvalidImageError as error:
            if isinstance(error, ImageTooLargeError) and max_pixels < self._limits.pixels:
                self._large.put(job)
                return
            self._deliver([job], [Answered(Prediction(job.name, error=error.reason))])
        except Exception as error:  # noqa: BLE001 - a thread that died would take its core from every request
            self._deliver([job], [error])
        self._metrics.decode_seconds.observe(time.perf_counter() - began)

    def _run_all(self, worker: Worker[_Batch]) -> None:
        while (first := self._take_ready(worker)) is not None:
            gathered = self._gather(first)
            given_up = [job for job in gathered if job.future.done()]
            self._deliver(given_up, [CANCELLED] * len(given_up))
            if wanted := [job for job in gathered if job not in given_up]:
                batch = _Batch(wanted)
                with worker.at(batch):
                    self._run(batch)

    def _take_ready(self, worker: Worker[_Batch]) -> _Job | None:
        return None if worker.is_replaced else self._ready.get()

    def _run(self, batch: _Batch) -> None:
        began = time.perf_counter()
        outcomes: Sequence[Answered | Exception]
        try:
            outcomes = _answer(batch)
        except Exception as error:  # noqa: BLE001 - the same: these requests fail, the next must not
            outcomes = [error] * len(batch.jobs)
        self._metrics.batch_seconds.observe(time.perf_counter() - began)
        self._metrics.batch_pictures.observe(len(batch.jobs))
        self._deliver(batch.jobs, outcomes)

    def _gather(self, first: _Job) -> list[_Job]:
        """Takes those pictures that are ready with the first, up to one of another model, which is left to others."""
        batch = [first]
        until = time.perf_counter() + MAX_BATCH_DELAY
        while len(batch) < self._limits.batch:
            patience = until - time.perf_counter() if not self._inbox.empty() else 0.0
            try:
                job = self._ready.get(timeout=patience) if patience > 0 else self._ready.get_nowait()
            except queue.Empty:
                break
            if job is None or job.served is not first.served:
                self._ready.put(job)  # the end is met again when this batch is done
                break
            batch.append(job)
        return batch

    def _deliver(self, jobs: Sequence[_Job], outcomes: Sequence[Answered | Exception]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it all who waited
                self._loop.call_soon_threadsafe(self._settle, jobs, outcomes)

    def _settle(self, jobs: Sequence[_Job], outcomes: Sequence[Answered | Exception]) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            self.pending -= not job.is_settled
            job.is_settled = True
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


def _answer(batch: _Batch) -> list[Answered]:
    """Asks the model about pictures that are read."""
    jobs = batch.jobs
    model = jobs[0].served.model
    decoded = [job.decoded for job in jobs if job.decoded is not None]
    outputs = model.forward_all(np.stack([each.pixels for each in decoded]), batch.cancellation)
    predictions = model.to_predictions(outputs, [job.name for job in jobs], [each.notes for each in decoded])
    evidence, temperature = outputs.evidence, model.card.trust.temperature
    return [
        Answered(prediction, relative(evidence[place] / temperature) if evidence is not None and job.heatmap else None)
        for place, (job, prediction) in enumerate(zip(jobs, predictions, strict=True))
    ]
