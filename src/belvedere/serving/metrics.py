"""What the service counts, for Prometheus to fetch.

Knows names and labels of the figures; does not know where they are counted. Labels come from fixed lists (routes,
statuses, the model's classes), never from what a client sends, so that their number stays bounded.
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
PICTURES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "belvedere_requests", "Requests, by route and status.", ("route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "belvedere_request_seconds",
            "From a request's head to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_pictures = Histogram(
            "belvedere_batch_pictures",
            "Pictures that went through the model at once.",
            buckets=PICTURES,
            registry=registry,
        )
        self.decode_seconds = Histogram(
            "belvedere_decode_seconds", "To read one picture.", buckets=SECONDS, registry=registry
        )
        self.batch_seconds = Histogram(
            "belvedere_batch_seconds", "The model, for one batch.", buckets=SECONDS, registry=registry
        )
        self.pictures = Counter(
            "belvedere_pictures", "Pictures, answered or unreadable.", ("outcome",), registry=registry
        )
        self.answers = Counter("belvedere_answers", "Answers, by class.", ("prediction",), registry=registry)
        self.none_of_these = Counter(
            "belvedere_none_of_these", "Pictures unlike every class, among those asked.", registry=registry
        )
        self.refused = Counter("belvedere_refused", "Refused requests, by code.", ("code",), registry=registry)
        self.reloads = Counter(
            "belvedere_reloads", "New model files, taken or kept out.", ("outcome",), registry=registry
        )
        self.model = Gauge(
            "belvedere_model_info", "1 for the model that answers.", ("name", "sha256"), registry=registry
        )
        self._asked = self._none = 0
        share = Gauge("belvedere_none_of_these_share", "Of the pictures asked, since the start.", registry=registry)
        share.set_function(lambda: self._none / self._asked if self._asked else 0.0)
        self.queue = Gauge("belvedere_queue_pictures", "Pictures that wait or are worked on.", registry=registry)

    def count_answers(self, predictions: Iterable[Prediction]) -> None:
        """Counts what was said of pictures."""
        for each in predictions:
            self.pictures.labels("unreadable" if each.error else "answered").inc()
            if each.predicted_label is not None:
                self.answers.labels(each.predicted_label).inc()
            if each.none_of_these is not None:
                self._asked += 1
                self._none += each.none_of_these
                self.none_of_these.inc(each.none_of_these)

    def show_model(self, name: str, sha256: str) -> None:
        """Names the model that answers from now on."""
        self.model.clear()
        self.model.labels(name, sha256).set(1)

    def render(self) -> bytes:
        """Returns all figures in Prometheus' text form."""
        return generate_latest(self.registry)
