"""The state of a labeling: pool, labels, the probe that is fitted again in the background, and open questions."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from belvedere.reviewing.labeling.estimate import (
    Accuracy,
    Forecast,
    estimate_accuracy,
    forecast,
    predict_out_of_fold,
)
from belvedere.reviewing.labeling.labels import LabelStore, Step
from belvedere.reviewing.labeling.order import (
    CHOSEN,
    NO_CLASS,
    RANDOM,
    RARE,
    UNLABELED,
    Question,
    QuestionOrder,
    find_random_sample,
)
from belvedere.reviewing.labeling.pool import Pool
from belvedere.reviewing.labeling.probe import Floats, Labels, Probe, fit_probe
from belvedere.reviewing.queue import LOCK_SECONDS
from belvedere.runtime.parallel import BackgroundThread
from belvedere.types.data import Decision

GRID_SIZE = 24  # images on a page at most
STOP_SECONDS = 10.0
BUSY_SECONDS = 0.2  # after a step, in which fits wait
MIN_GRID_COSINE = 0.3  # of images shown with the one asked about


@dataclass(frozen=True)
class Fitted:
    """Predictions of a probe."""

    class_names: tuple[str, ...]  # K
    probabilities: Floats  # (N, K)
    predicted: Labels  # (N,)

    def select(self, class_names: tuple[str, ...]) -> "Fitted":
        """Return the predictions of some classes, one at least; 0 for those that the probe does not have."""
        if class_names == self.class_names:
            return self
        columns = [self.class_names.index(name) if name in self.class_names else -1 for name in class_names]
        probabilities = np.pad(self.probabilities, ((0, 0), (0, 1)))[:, columns]
        return Fitted(class_names, probabilities, probabilities.argmax(1))


@dataclass(frozen=True)
class _Fit:
    """A probe, and the labels that it was fitted to."""

    probe: Probe
    class_names: tuple[str, ...]  # K
    labels: Labels  # (N,)
    version: int
    skipped: set[int]


@dataclass(frozen=True)
class CurvePoint:
    """The estimated accuracy at a number of labels."""

    num_labels: int
    accuracy: Accuracy


@dataclass
class _Tab:
    """State of an open page."""

    skipped: set[int] = field(default_factory=set)
    open_rows: tuple[int, ...] = ()
    question: Question | None = None
    is_grid: bool = False
    since: float = 0.0


class LabelingSession:
    """Shared by all pages; every method may be called from several threads."""

    def __init__(self, pool: Pool, store: LabelStore, clock: Callable[[], float] = time.monotonic) -> None:
        self.pool, self.store = pool, store
        self.curve: list[CurvePoint] = []
        self.forecast: Forecast | None = None
        self.recalls: dict[str, float] = {}  # of the labeled images, by class
        self.lock = threading.RLock()
        self.order = QuestionOrder(pool.features, pool.random_order)
        self._fitted: Fitted | None = None
        self._clock = clock
        self._tabs: defaultdict[str, _Tab] = defaultdict(_Tab)
        self._latest: _Fit | None = None
        self._busy_until = 0.0
        self._changed, self._refitted, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._changed.set()
        work = (self._fit_until_stopped, self._estimate_until_stopped)  # a probe does not wait for estimates
        self._threads = [BackgroundThread(each, "labeling") for each in work]

    @property
    def fitted(self) -> Fitted | None:
        """The latest predictions, of the present classes: these may have changed since the fit."""
        with self.lock:
            if self._fitted is not None:
                class_names = self.store.class_names
                self._fitted = self._fitted.select(class_names) if class_names else None
            return self._fitted

    def start(self) -> None:
        """Fit and estimate in threads, until `stop`."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after their current work."""
        for event in (self._stopped, self._changed, self._refitted):
            event.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_SECONDS)

    def next(self, tab: str, *, grid: bool) -> tuple[Question, tuple[int, ...]] | None:
        """Return the question of a page and the rows that it shows; None if no image is left.

        A page keeps its question while it is not answered.
        """
        with self.lock:
            self.store.refresh()
            here = self._tabs[tab]
            rows = tuple(row for row in here.open_rows if self._is_open(row, here))
            if here.question is not None and here.question.row in rows and here.is_grid == grid:
                return here.question, rows
            question = self._choose(tab)
            if question is None:
                self._open(tab, None, ())
                return None
            rows = self._fill(tab, question) if grid else (question.row,)
            self._open(tab, question, rows)
            here.is_grid = grid
            return question, rows

    def skip(self, tab: str, rows: Sequence[int]) -> None:
        """Leave out images on a page until `unskip`."""
        with self.lock:
            self._tabs[tab].skipped.update(rows)
            self._open(tab, None, ())

    def unskip(self, tab: str) -> None:
        """Return the skipped images to a page."""
        with self.lock:
            self._tabs[tab].skipped.clear()

    def num_skipped(self, tab: str) -> int:
        """Return the number of unlabeled images that a page skipped."""
        with self.lock:
            return sum(self.store.labels[row] == UNLABELED for row in self._tabs[tab].skipped)

    def record(self, decisions: Sequence[Decision]) -> bool:
        """Record a step, which is on disk when this returns; return whether it is new."""
        self._busy_until = time.monotonic() + BUSY_SECONDS
        with self.lock:
            is_new = self.store.record(decisions)
        self._changed.set()
        return is_new

    def undo(self, step_id: str, request_id: str, annotator: str) -> Step:
        """Undo a step; return it."""
        with self.lock:
            step = self.store.undo(step_id, request_id, annotator)
        self._changed.set()
        return step

    def show(self, tab: str, row: int, *, similar: bool = False) -> tuple[Question, tuple[int, ...]]:
        """Open a certain image on a page, with unlabeled ones like it if wanted; return as `next`."""
        with self.lock:
            question = Question(row, CHOSEN)
            self._tabs[tab].skipped.discard(row)
            rows = (row, *(self.similar(row, GRID_SIZE - 1, tab, any_class=True) if similar else ()))
            self._open(tab, question, rows)
            return question, rows

    def suggest(self, row: int) -> tuple[str, float] | None:
        """Return the predicted class of an image and its probability; None if the probe has no present class."""
        found = max(self.class_probabilities(row).items(), key=lambda each: each[1], default=("", 0.0))
        return found if found[1] else None

    def class_probabilities(self, row: int) -> dict[str, float]:
        """Return the probability of each class for an image; empty before the first fit."""
        fitted = self.fitted
        if fitted is None:
            return {}
        return dict(zip(fitted.class_names, map(float, fitted.probabilities[row]), strict=True))

    def similar(self, row: int, count: int, tab: str, *, any_class: bool = False) -> list[int]:
        """Return the open images that are most similar to one, most similar first.

        Unless any class is wanted, the same class must be predicted for them.
        """
        with self.lock:
            cosines = self.order.directions @ self.order.directions[row]
            is_candidate = self._open_rows(tab) & (cosines >= MIN_GRID_COSINE)
            if (fitted := self.fitted) is not None and not any_class:
                is_candidate &= fitted.predicted == fitted.predicted[row]
            is_candidate[row] = False
            rows = np.flatnonzero(is_candidate)
            return [int(each) for each in rows[np.argsort(-cosines[rows], kind="stable")[:count]]]

    def fit_once(self) -> bool:
        """Fit to the present labels, and then estimate; return False if there are none."""
        fit = self._fit()
        self._estimate(fit)
        return fit is not None

    def _fit_until_stopped(self) -> None:
        while self._wait(self._changed):
            self._let_pages_respond()
            self._latest = self._fit()
            self._refitted.set()

    def _estimate_until_stopped(self) -> None:
        while self._wait(self._refitted):
            self._estimate(self._latest)

    def _wait(self, event: threading.Event) -> bool:
        event.wait()
        event.clear()
        return not self._stopped.is_set()

    def _fit(self) -> _Fit | None:
        """Fit a probe to the present labels, and predict all images."""
        with self.lock:
            self.store.refresh()
            labels, version = self.store.labels.copy(), self.store.version
            class_names = self.store.class_names
            skipped = {row for each in self._tabs.values() for row in each.skipped}
        rows = np.flatnonzero(labels >= 0)
        if not len(rows):
            with self.lock:
                self._fitted = None
            return None
        features = self.pool.features
        probe = fit_probe(features, rows, labels[rows], len(class_names))
        probabilities = probe.probabilities(features.values)
        with self.lock:
            self._fitted = Fitted(class_names, probabilities, probabilities.argmax(1))
        return _Fit(probe, class_names, labels, version, skipped)

    def _estimate(self, fit: _Fit | None) -> None:
        """Estimate what the page shows of a fit; without one, remove older estimates."""
        if fit is None:
            with self.lock:
                self.curve, self.forecast, self.recalls = [], None, {}
            return
        features, labels, num_classes = self.pool.features, fit.labels, len(fit.class_names)
        out_of_fold = predict_out_of_fold(features, labels, num_classes, self._let_pages_respond)
        accuracy, expected = None, None
        if out_of_fold is not None:
            sample = find_random_sample(labels, self.order.random_order, fit.skipped)
            no_class = np.flatnonzero(labels == NO_CLASS)
            accuracy = estimate_accuracy(features, out_of_fold, sample, fit.probe, no_class)
        if accuracy is not None:
            expected = forecast(features, labels, accuracy, num_classes, fit.version, self._let_pages_respond)
        num_labels = int((labels >= 0).sum())
        with self.lock:
            recalls = {} if out_of_fold is None else out_of_fold.recalls()
            self.recalls = {fit.class_names[label]: recall for label, recall in recalls.items()}
            self.forecast = expected
            self.curve = [each for each in self.curve if each.num_labels < num_labels]
            if accuracy is not None:
                self.curve.append(CurvePoint(num_labels, accuracy))

    def _let_pages_respond(self) -> None:
        """Wait for a moment after a step, whose page asks for the next images: these need the processor."""
        self._stopped.wait(max(self._busy_until - time.monotonic(), 0))

    def _choose(self, tab: str) -> Question | None:
        fitted, class_names = self.fitted, self.store.class_names
        probabilities = None if fitted is None else fitted.probabilities
        for is_open in (self._open_rows(tab), self._own_rows(tab)):  # those open elsewhere last, so that nobody waits
            for question in self.order.choose(self.store.labels, is_open, probabilities):
                return replace(question, class_name=class_names[question.rare_class] if question.reason == RARE else "")
        return None

    def _fill(self, tab: str, question: Question) -> tuple[int, ...]:
        """Return the rows of a grid: similar images, or random ones for a random question."""
        if question.reason != RANDOM:
            return (question.row, *self.similar(question.row, GRID_SIZE - 1, tab))
        is_open = self._open_rows(tab)
        wanted = 1 + int(self.order.random_shortage(self.store.labels, is_open))
        rows = self.order.random_order[is_open[self.order.random_order]]
        return tuple(rows[: min(wanted, GRID_SIZE)].tolist()) or (question.row,)  # open elsewhere

    def _is_open(self, row: int, tab: _Tab) -> bool:
        return bool(self.store.labels[row] == UNLABELED) and row not in tab.skipped

    def _open_rows(self, tab: str) -> NDArray[np.bool_]:
        """Return which images are unlabeled, not skipped on this page and not open on another."""
        is_open, oldest = self._own_rows(tab), self._clock() - LOCK_SECONDS
        for name, each in self._tabs.items():
            if name != tab and each.since >= oldest:
                is_open[list(each.open_rows)] = False
        return is_open

    def _own_rows(self, tab: str) -> NDArray[np.bool_]:
        """Return which images are unlabeled and not skipped on this page."""
        is_open: NDArray[np.bool_] = self.store.labels == UNLABELED
        is_open[list(self._tabs[tab].skipped)] = False
        return is_open

    def _open(self, tab: str, question: Question | None, rows: tuple[int, ...]) -> None:
        here = self._tabs[tab]
        here.question, here.open_rows, here.since = question, rows, self._clock()
