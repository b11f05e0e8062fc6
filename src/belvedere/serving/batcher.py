"""Dynamic batching: images of many requests are decoded in parallel and predicted together.

    submit (event loop) -> decoders (`threads`) -> runners (`threads`, a batch each) -> event loop
                                  '-> one decoder for large images -^

The queue is bounded: images beyond it are rejected at once, so waiting times and memory stay bounded. A batch is what
is ready for one model when a runner is free: a lone image is not delayed, otherwise a runner waits up to
`MAX_BATCH_DELAY`. Cancelled images are skipped, the model is interrupted if all requests of its batch are cancelled,
and stuck threads are replaced.
"""

import asyncio
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
from belvedere.images.heatmap import softmax_over_classes
from belvedere.images.resize import resize_image
from belvedere.inference.session import Cancellation
from belvedere.runtime.cpus import num_usable_cpus
from belvedere.runtime.http.errors import ServiceUnavailableError
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel
from belvedere.serving.ready_queue import ReadyQueue
from belvedere.serving.workers import Worker, WorkerPool
from belvedere.types.model import Preprocess
from belvedere.types.prediction import Prediction

Content = bytes | DecodedImage  # of a file, or pixels

MAX_BATCH_DELAY = 0.004  # seconds
CLOSE_SECONDS = 5.0  # for running threads at shutdown
CHECK_SECONDS = 0.25  # between two checks of the threads
INTERRUPT_SECONDS = 5.0  # for the model to end after its requests timed out
LARGE_PIXELS = 16_000_000  # larger images take hundreds of megabytes to decode: one at a time
LARGE_TIME_FACTOR = 3  # decoding time of a large image, relative to the limit of the others


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """The prediction of one image, and its heatmap where wanted: (K, h, w), fractions of the classes per position."""

    prediction: Prediction
    heatmap: NDArray[np.float32] | None = None
    embedding: NDArray[np.float32] | None = None  # (D,); None if the image could not be read


CANCELLED = PredictionResult(Prediction("", error="cancelled"))  # for a future that is done already


@dataclass(slots=True, eq=False)
class _Request:
    """One image in the queue."""

    loaded: LoadedModel
    name: str
    content: Content
    wants_heatmap: bool
    future: "asyncio.Future[PredictionResult]"
    decoded: DecodedImage | None = None
    is_settled: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    requests: Sequence[_Request]
    cancellation: Cancellation = field(default_factory=Cancellation)


class Batcher:
    """Predicts images of many requests in batches."""

    def __init__(self, limits: Limits, metrics: Metrics, threads: int | None = None) -> None:
        """Create the threads; `start` starts them.

        Args:
            limits: Limits of requests.
            metrics: Counts batches and measures their time.
            threads: Number of decoders and of runners. Default: the cores that the process may use.
        """
        self._limits = limits
        self._metrics = metrics
        self.num_pending = 0  # images submitted and not settled; changed in the event loop only
        self._inbox: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._large: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._ready: ReadyQueue[LoadedModel, _Request] = ReadyQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        threads, seconds = threads or num_usable_cpus(), limits.decode_seconds
        decode = partial(self._decode_from, self._inbox, False)
        decode_large = partial(self._decode_from, self._large, True)
        self._decoders = [
            WorkerPool("decoder", threads, seconds, decode, partial(self._inbox.put, None)),
            WorkerPool("large-decoder", 1, LARGE_TIME_FACTOR * seconds, decode_large, partial(self._large.put, None)),
        ]
        seconds = limits.response_seconds + INTERRUPT_SECONDS
        self._runners = WorkerPool("model", threads, seconds, self._run_batches, self._ready.stop_one)
        metrics.queue_length.set_function(lambda: self.num_pending)

    def start(self) -> None:
        """Start the threads; results are delivered to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for pool in (*self._decoders, self._runners):
            pool.start()

    def close(self) -> None:
        """Finish the submitted images and stop the threads, for at most `CLOSE_SECONDS`."""
        deadline = time.monotonic() + CLOSE_SECONDS
        for pool in (*self._decoders, self._runners):
            pool.close(deadline)

    @property
    def is_alive(self) -> bool:
        """Whether every thread is running."""
        return all(pool.is_alive for pool in (*self._decoders, self._runners))

    def describe_stuck(self) -> list[str]:
        """Return name and duration of the threads over their time limit."""
        return [each for pool in (*self._decoders, self._runners) for each in pool.describe_stuck()]

    async def watch(self) -> None:
        """Check the threads until this task is cancelled: interrupt cancelled batches and replace stuck threads."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for batch in self._runners.current_tasks():
                if all(request.future.done() for request in batch.requests):
                    batch.cancellation.cancel()
            for decoders in self._decoders:
                for request in decoders.replace_late():
                    reason = f"it was not decoded within {decoders.seconds:g} s"
                    self._settle([request], [PredictionResult(Prediction(request.name, error=reason))])
            for batch in self._runners.replace_late():
                error = ServiceUnavailableError("The model did not finish in time. Try again later.", "timeout")
                self._settle(batch.requests, [error] * len(batch.requests))

    def submit(
        self, loaded: LoadedModel, images: Sequence[tuple[str, Content]], heatmaps: bool
    ) -> "list[asyncio.Future[PredictionResult]]":
        """Queue the images of one request, all or none.

        Args:
            loaded: Model for the predictions.
            images: Name and content of each image; pixels are (H, W, 3).
            heatmaps: Whether to compute heatmaps.

        Returns:
            A future for each image. A cancelled one is skipped.

        Raises:
            ServiceUnavailableError: The queue has too little room.
        """
        if self.num_pending + len(images) > self._limits.max_queue:
            raise ServiceUnavailableError(
                f"The queue is full: it holds {self.num_pending} of {self._limits.max_queue} images, and this request "
                f"has {len(images)}. Try again in a moment.",
                "queue_full",
            )
        loop = asyncio.get_running_loop()
        requests = [_Request(loaded, name, content, heatmaps, loop.create_future()) for name, content in images]
        self.num_pending += len(requests)
        for request in requests:
            request.future.add_done_callback(partial(_free_if_cancelled, request))
            self._inbox.put(request)
        return [request.future for request in requests]

    def _decode_from(
        self, source: "queue.SimpleQueue[_Request | None]", takes_large: bool, worker: Worker[_Request]
    ) -> None:
        while not worker.is_replaced and (request := source.get()) is not None:
            with worker.working_on(request):
                self._decode(request, takes_large)

    def _decode(self, request: _Request, takes_large: bool) -> None:
        started = time.perf_counter()
        max_pixels = self._limits.max_pixels if takes_large else min(self._limits.max_pixels, LARGE_PIXELS)
        content = request.content  # before the check: cancelling empties it at any moment
        try:
            if request.future.done():
                self._deliver([request], [CANCELLED])
                return
            preprocess = request.loaded.model.card.preprocess
            request.decoded = _read(content, preprocess, max_pixels, takes_large)
            request.content = b""
            self._ready.put(request.loaded, request)
        except InvalidImageError as error:
            if isinstance(error, ImageTooLargeError) and not takes_large:
                self._large.put(request)
                return
            self._deliver([request], [PredictionResult(Prediction(request.name, error=error.reason))])
        except Exception as error:  # noqa: BLE001 - the thread must survive
            self._deliver([request], [error])
        self._metrics.decode_seconds.observe(time.perf_counter() - started)

    def _run_batches(self, worker: Worker[_Batch]) -> None:
        while not worker.is_replaced and (ready := self._collect()):
            cancelled = [request for request in ready if request.future.done()]
            self._deliver(cancelled, [CANCELLED] * len(cancelled))
            if requests := [request for request in ready if request not in cancelled]:
                batch = _Batch(requests)
                with worker.working_on(batch):
                    self._run(batch)

    def _collect(self) -> list[_Request]:
        return self._ready.take(self._limits.max_batch_size, MAX_BATCH_DELAY, lambda: not self._inbox.empty())

    def _run(self, batch: _Batch) -> None:
        started = time.perf_counter()
        results: Sequence[PredictionResult | Exception]
        try:
            results = _predict(batch)
        except Exception as error:  # noqa: BLE001 - only the requests of this batch fail
            results = [error] * len(batch.requests)
        self._metrics.count_batch(batch.requests[0].loaded.served_name, len(results), time.perf_counter() - started)
        self._deliver(batch.requests, results)

    def _deliver(self, requests: Sequence[_Request], results: Sequence[PredictionResult | Exception]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._settle, requests, results)

    def _settle(self, requests: Sequence[_Request], results: Sequence[PredictionResult | Exception]) -> None:
        for request, result in zip(requests, results, strict=True):
            self.num_pending -= not request.is_settled
            request.is_settled = True
            if request.future.done():
                continue  # timeout, or the client disconnected
            if isinstance(result, Exception):
                request.future.set_exception(result)
            else:
                request.future.set_result(result)


def _free_if_cancelled(request: _Request, future: "asyncio.Future[PredictionResult]") -> None:
    """Free the bytes of a cancelled image, which may stay in the queue for a while."""
    if future.cancelled():
        request.content = b""


def _read(content: Content, preprocess: Preprocess, max_pixels: int, reduce: bool) -> DecodedImage:
    if isinstance(content, DecodedImage):  # its size was checked when it was submitted
        return DecodedImage(resize_image(content.pixels, preprocess), content.warnings)
    return read_input(content, preprocess, draft=True, max_pixels=max_pixels, reduce=reduce)


def _predict(batch: _Batch) -> list[PredictionResult]:
    requests = batch.requests
    model = requests[0].loaded.model
    decoded = [request.decoded for request in requests if request.decoded is not None]
    outputs = model.forward_all(np.stack([each.pixels for each in decoded]), batch.cancellation)
    predictions = model.to_predictions(outputs, [each.name for each in requests], [each.warnings for each in decoded])
    maps, temperature = outputs.class_activation_maps, model.card.uncertainty.temperature
    return [
        PredictionResult(
            prediction,
            softmax_over_classes(maps[index] / temperature) if maps is not None and request.wants_heatmap else None,
            outputs.embedding[index],
        )
        for index, (request, prediction) in enumerate(zip(requests, predictions, strict=True))
    ]
