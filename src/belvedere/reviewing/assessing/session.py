"""Keeps the answers, and hands out images: the first unanswered one that is not open on another page.

Answers are decisions of a corrections file. They are found by the content of an image, so that another model, or a
larger budget, needs answers for new images only. Estimates use the images in the order drawn, up to the first without
an answer; any other choice would bias them.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from belvedere.data.corrections.corrections_file import ASSESSED, CorrectionsFile, active_decisions, utc_now
from belvedere.errors import UsageError
from belvedere.evaluation.assessment.assess import Estimator
from belvedere.evaluation.assessment.outcomes import NONE, UNSURE
from belvedere.reviewing.assessing.images import AssessmentData
from belvedere.reviewing.items import is_unchanged
from belvedere.reviewing.queue import LOCK_SECONDS
from belvedere.types.assessment import UNSURE as UNSURE_ANSWER
from belvedere.types.assessment import Estimate
from belvedere.types.data import NONE_OF_THESE, Decision

MIN_ANSWERS = 10  # before the page shows estimates


@dataclass(frozen=True)
class Answer:
    """One person's answer on an image."""

    value: int  # index of a class, NONE or UNSURE
    annotator: str
    decision: Decision


@dataclass(frozen=True)
class LiveEstimate:
    """What the page shows."""

    num_answers: int  # that count
    accuracy: Estimate
    change: Estimate | None  # of the other model


class AssessmentSession:
    """The images to classify, and their answers."""

    def __init__(
        self,
        data: AssessmentData,
        corrections_file: CorrectionsFile,
        budget: int,
        repeats: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the answers so far.

        Args:
            data: All images.
            corrections_file: File with the answers.
            budget: Number of images to classify.
            repeats: Number of these, the first ones, that two people classify.
            clock: Seconds.
        """
        self.data, self.corrections_file = data, corrections_file
        self.budget = min(budget, len(data.hashes))
        self.repeats = min(repeats, self.budget)
        self._clock = clock
        self._lock = threading.RLock()
        self._open: dict[str, tuple[int, float]] = {}  # by tab: image and time
        self._answers: dict[str, dict[str, Answer]] = {}  # by hash, then annotator
        self._index = {name: k for k, name in enumerate(data.population.class_names)}
        self._estimate: tuple[tuple[int, ...], LiveEstimate] | None = None
        self._rebuild()

    def next(self, tab: str, annotator: str) -> int | None:
        """Return the row of the image of a page: its own while unanswered, else the next free one; None at the end.

        Images that are missing, or changed since they were listed, are left out.
        """
        with self._lock:
            self._refresh()
            waiting = self._waiting(annotator)
            oldest = self._clock() - LOCK_SECONDS
            taken = {row for name, (row, since) in self._open.items() if name != tab and since >= oldest}
            own = self._open.get(tab, (-1, 0.0))[0]
            order = [own, *waiting] if own in waiting else waiting
            row = next((each for each in order if each not in taken and self.is_available(each)), None)
            self._set_open(tab, row)
            return row

    def show(self, tab: str, row: int) -> None:
        """Open an image on a page, answered or not."""
        with self._lock:
            self._set_open(tab, row)

    def record(self, tab: str, request_id: str, annotator: str, row: int, value: int) -> Answer:
        """Record an answer, which is on disk when this returns."""
        with self._lock:
            self._refresh()
            decision = self._to_decision(request_id, annotator, row, value)
            self.corrections_file.append(decision)
            self._rebuild()
            self._set_open(tab, None)
            return Answer(value, annotator, decision)

    def undo(self, request_id: str, annotator: str, decision_id: str) -> int | None:
        """Undo an answer; return the row of its image, None if it is not among them any more.

        Raises:
            UsageError: There is no such answer, or it cannot be written.
        """
        with self._lock:
            self._refresh()
            found = next((each for each in self.corrections_file.decisions if each.id == decision_id), None)
            if found is None:
                raise UsageError("There is no such answer to undo. Reload the page.")
            undoing = Decision(
                *(request_id, utc_now(), annotator, found.sha256, found.image, "undo", found.old_label, (found.id,)),
                issue_type=found.issue_type,
                size_bytes=found.size_bytes,
                split=found.split,
            )
            self.corrections_file.append(undoing)
            self._rebuild()
            return next((row for row in self.rows() if self.data.hashes[row] == found.sha256), None)

    def is_available(self, row: int) -> bool:
        """Return whether the file of an image is there and unchanged."""
        return is_unchanged(self.data.samples[row].path, self.data.hashes[row])

    def rows(self) -> list[int]:
        """Return the rows of all images to classify, in the order drawn."""
        return [int(row) for row in self.data.population.order[: self.budget]]

    def answers_of(self, row: int) -> list[Answer]:
        """Return the answers on an image, that of the first person first."""
        with self._lock:
            return list(self._answers.get(self.data.hashes[row], {}).values())

    def num_answered(self) -> int:
        """Return the number of images to classify that have an answer."""
        return sum(bool(self.answers_of(row)) for row in self.rows())

    def counted(self) -> list[Answer]:
        """Return the answers that count: those in the order drawn, up to the first image without one."""
        with self._lock:
            found = []
            for row in self.rows():
                if not (answers := self.answers_of(row)):
                    break
                found.append(answers[0])
            return found

    def recent(self, number: int) -> list[tuple[int, Answer]]:
        """Return the latest answers on images to classify, newest first, with their rows."""
        with self._lock:
            rows = {self.data.hashes[row]: row for row in self.rows()}
            found = [
                (rows[sha256], answer)
                for sha256, answers in self._answers.items()
                if sha256 in rows
                for answer in answers.values()
            ]
            return sorted(found, key=lambda each: each[1].decision.timestamp, reverse=True)[:number]

    def live_estimate(self) -> LiveEstimate | None:
        """Return the present estimate; None with too few answers."""
        values = tuple(each.value for each in self.counted())
        if len(values) < MIN_ANSWERS:
            return None
        if self._estimate is None or self._estimate[0] != values:
            models = self.data.population.models
            estimator = Estimator(self.data.population, values)
            change = estimator.accuracy_change(*models) if len(models) > 1 else None
            self._estimate = values, LiveEstimate(len(values), estimator.accuracy(models[0]), change)
        return self._estimate[1]

    def describe(self, value: int) -> str:
        """Return an answer as text."""
        names = {NONE: NONE_OF_THESE, UNSURE: UNSURE_ANSWER}
        return names.get(value) or self.data.population.class_names[value]

    def _waiting(self, annotator: str) -> list[int]:
        """Return the rows that one person may be given, in order: unanswered ones, then those for a second person."""
        rows = self.rows()
        first = [row for row in rows if not self.answers_of(row)]
        second = [
            row
            for row in rows[: self.repeats]
            if len(answers := self.answers_of(row)) == 1 and answers[0].annotator != annotator
        ]
        return first + second

    def _set_open(self, tab: str, row: int | None) -> None:
        self._open[tab] = -1 if row is None else row, self._clock()

    def _to_decision(self, request_id: str, annotator: str, row: int, value: int) -> Decision:
        sample, actions = self.data.samples[row], {NONE: "exclude", UNSURE: "unsure"}
        label = sample.label or None
        name = "" if value < 0 else self.data.population.class_names[value]
        action = actions.get(value) or ("keep" if name == label else "relabel")
        return Decision(
            *(request_id, utc_now(), annotator, self.data.hashes[row], sample.name, action, label),
            to=(name,) if action == "relabel" else (),
            issue_type=ASSESSED,
            size_bytes=sample.path.stat().st_size,
            split=sample.split,
        )

    def _refresh(self) -> None:
        """Read answers of other processes."""
        if self.corrections_file.read_new():
            self._rebuild()

    def _rebuild(self) -> None:
        self._answers = collect_answers(self.corrections_file.decisions, self._index)


def collect_answers(decisions: Sequence[Decision], index: dict[str, int]) -> dict[str, dict[str, Answer]]:
    """Return the answers by hash and annotator; the last one of a person counts.

    A class that is not in the index is none of these.
    """
    answers: defaultdict[str, dict[str, Answer]] = defaultdict(dict)
    for decision in active_decisions(decisions):
        if decision.issue_type != ASSESSED:
            continue
        name = decision.to[0] if decision.action == "relabel" else str(decision.old_label)
        value = {"exclude": NONE, "unsure": UNSURE}.get(decision.action, index.get(name, NONE))
        answers[decision.sha256][decision.annotator] = Answer(value, decision.annotator, decision)
    return dict(answers)
