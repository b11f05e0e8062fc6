"""Metrics for Prometheus.

Labels come from fixed lists (routes, statuses, models and their classes), so their number stays bounded.
"""

from collections import Counter
from collections.abc import Iterable

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, generate_latest

from belvedere.serving.model_watch import LoadedModel
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
        self.batch_seconds = self._histogram("batch_duration_seconds", "Time of the model for one batch.", "model")
        self.batch_size = self._histogram("batch_size", "Images per batch.", "model", buckets=BATCH_SIZES)
        self.images = self._counter("images", "Images by outcome: predicted or invalid.", "model", "outcome")
        self.predictions = self._counter("predictions", "Predictions by class.", "model", "prediction")
        self.ood = self._counter("ood", "Images that are none of the classes (out of distribution).", "model")
        self.ood_ratio = self._gauge("ood_ratio", "Fraction of images that are none of the classes.", "model")
        self.reloads = self._counter("reloads", "Reloads by outcome: loaded, rejected or missing.", "model", "outcome")
        self.model = self._gauge("model_info", "1 for each model in use.", "model", "name", "sha256")
        self.records = self._counter(
            "monitor_records", "Recorded predictions by outcome: written, dropped or failed.", "model", "outcome"
        )
        self.queue_length = self._gauge("queue_length", "Images waiting or in work.")
        self._shown: dict[str, LoadedModel] = {}
        self._num_scored: Counter[str] = Counter()
        self._num_ood: Counter[str] = Counter()

    def _counter(self, name: str, text: str, *labels: str) -> prometheus_client.Counter:
        return prometheus_client.Counter(f"belvedere_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"belvedere_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        return Histogram(f"belvedere_{name}", text, labels, buckets=buckets, registry=self.registry)

    def count_predictions(self, model: str, predictions: Iterable[Prediction]) -> None:
        """Count the predictions of one request, by the served name of the model."""
        for each in predictions:
            self.images.labels(model, "invalid" if each.error else "predicted").inc()
            if each.predicted_label is not None:
                self.predictions.labels(model, each.predicted_label).inc()
            if each.none_of_these is not None:
                self._num_scored[model] += 1
                self._num_ood[model] += each.none_of_these
                self.ood.labels(model).inc(each.none_of_these)
                self.ood_ratio.labels(model).set(self._num_ood[model] / self._num_scored[model])

    def count_records(self, model: str, outcome: str, number: int) -> None:
        """Count predictions that were recorded, "written", or lost, "dropped" or "failed"."""
        self.records.labels(model, outcome).inc(number)

    def count_batch(self, model: str, num_images: int, seconds: float) -> None:
        """Count a model run."""
        self.batch_seconds.labels(model).observe(seconds)
        self.batch_size.labels(model).observe(num_images)

    def show_model(self, loaded: LoadedModel) -> None:
        """Set the model in use under its name; the first time, start its other metrics at 0."""
        model = loaded.served_name
        if (old := self._shown.get(model)) is not None:
            self.model.remove(model, old.name, old.sha256)
        else:
            for outcome in ("predicted", "invalid"):
                self.images.labels(model, outcome)
            for outcome in ("loaded", "rejected", "missing"):
                self.reloads.labels(model, outcome)
            for metric in (self.ood, self.ood_ratio, self.batch_seconds, self.batch_size):
                metric.labels(model)
        self.model.labels(model, loaded.name, loaded.sha256).set(1)
        self._shown[model] = loaded

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self.registry)
