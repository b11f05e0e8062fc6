"""Metrics for Prometheus.

Labels come from fixed lists (routes, statuses, the classes of the model), so their number stays bounded.
"""

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from belvedere.types.prediction import Prediction

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Requests by route and status.", "route", "status")
        self.rejected = self._counter("rejected_requests", "Rejected requests by error code.", "code")
        self.request_seconds = self._histogram("request_duration_seconds", "Time from header to response.", "route")
        self.decode_seconds = self._histogram("decode_duration_seconds", "Time to decode one image.")
        self.batch_seconds = self._histogram("batch_duration_seconds", "Time of the model for one batch.")
        self.batch_size = self._histogram("batch_size", "Images per batch.", buckets=BATCH_SIZES)
        self.images = self._counter("images", "Images by outcome: predicted or invalid.", "outcome")
        self.predictions = self._counter("predictions", "Predictions by class.", "prediction")
        self.ood = self._counter("ood", "Images that are none of the classes (out of distribution).")
        self.reloads = self._counter("reloads", "Model reloads by outcome: loaded, rejected or missing.", "outcome")
        self.model = self._gauge("model_info", "1 for the model in use.", "name", "sha256")
        self.queue_length = self._gauge("queue_length", "Images waiting or in work.")
        self._num_scored = self._num_ood = 0
        ratio = self._gauge("ood_ratio", "Fraction of images that are none of the classes, since the start.")
        ratio.set_function(lambda: self._num_ood / self._num_scored if self._num_scored else 0.0)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"belvedere_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"belvedere_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        return Histogram(f"belvedere_{name}", text, labels, buckets=buckets, registry=self.registry)

    def count_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Count the predictions of one request."""
        for each in predictions:
            self.images.labels("invalid" if each.error else "predicted").inc()
            if each.predicted_label is not None:
                self.predictions.labels(each.predicted_label).inc()
            if each.none_of_these is not None:
                self._num_scored += 1
                self._num_ood += each.none_of_these
                self.ood.inc(each.none_of_these)

    def show_model(self, name: str, sha256: str) -> None:
        """Set the model in use."""
        self.model.clear()
        self.model.labels(name, sha256).set(1)

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)
