"""Predictions for requests: what all routes with images share."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.types import Receive

from belvedere.runtime.http.errors import ClientDisconnectedError, ServiceUnavailableError
from belvedere.runtime.terminal import count
from belvedere.serving.batcher import Batcher, Content, PredictionResult
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel
from belvedere.serving.recorder import Recorder


class Predictor:
    """Submits the images of requests, waits for their predictions, counts and records them."""

    def __init__(self, batcher: Batcher, limits: Limits, metrics: Metrics, recorder: Recorder | None = None) -> None:
        self._batcher, self._limits, self._metrics, self._recorder = batcher, limits, metrics, recorder

    def check_queue(self, num_unread: int = 0) -> None:
        """Check that the queue has room, before the images of a request are read.

        Args:
            num_unread: Number of other requests that wait to be read.

        Raises:
            ServiceUnavailableError: It is full.
        """
        if self._batcher.num_pending + num_unread >= self._limits.max_queue:
            message = f"The queue is full: it holds {count(self._limits.max_queue, 'image')}. Try again in a moment."
            raise ServiceUnavailableError(message, "queue_full")

    async def predict(
        self, loaded: LoadedModel, images: Sequence[tuple[str, Content]], request: Request, heatmaps: bool = False
    ) -> list[PredictionResult]:
        """Predict the images of a request.

        Args:
            loaded: The model.
            images: Name and content of each image.
            request: The request, whose body has been read.
            heatmaps: Whether to compute heatmaps.

        Returns:
            One result per image, in order.

        Raises:
            HTTPError: The queue is full, the predictions take too long, or the client has gone.
        """
        futures = self._batcher.submit(loaded, images, heatmaps)
        results = await self._wait_for_all(futures, request.receive)
        self._metrics.count_predictions(loaded.served_name, (result.prediction for result in results))
        if self._recorder is not None:
            self._recorder.record(loaded, results)
        request.scope["log"]["images"] = len(results)
        return results

    async def _wait_for_all(
        self, futures: "Sequence[asyncio.Future[PredictionResult]]", receive: Receive
    ) -> list[PredictionResult]:
        """Wait for all predictions; cancel pending work on timeout or client disconnect."""
        seconds = self._limits.response_seconds

        def cancel(*_: object) -> None:
            for future in futures:
                future.cancel()

        disconnected = asyncio.ensure_future(_wait_for_disconnect(receive))
        disconnected.add_done_callback(cancel)
        try:
            await asyncio.wait(futures, timeout=seconds)
        finally:
            disconnected.remove_done_callback(cancel)
            disconnected.cancel()
            cancel()
        # Retrieve every exception, so that asyncio does not log one as never retrieved.
        errors = [future.exception() for future in futures if not future.cancelled()]
        for error in filter(None, errors):
            raise error
        if len(errors) == len(futures):
            return [future.result() for future in futures]
        if disconnected.done():
            raise ClientDisconnectedError
        raise ServiceUnavailableError(f"The prediction took more than {seconds:g} s. Try again later.", "timeout")


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
