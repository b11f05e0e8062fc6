"""Labels of a pool: the decisions of a corrections file, one step per request of a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.corrections.corrections_file import CorrectionsFile, active_decisions, resolve, utc_now
from belvedere.errors import UsageError
from belvedere.reviewing.labeling.order import NO_CLASS, UNLABELED
from belvedere.reviewing.labeling.pool import Pool
from belvedere.types.data import Decision

STEP_SEPARATOR = "-"  # between the id of a step and the number of a decision


@dataclass(frozen=True)
class Step:
    """The decisions of one request."""

    id: str
    decisions: tuple[Decision, ...]


class LabelStore:
    """Labels on disk, and their present state by row of the pool."""

    def __init__(self, pool: Pool, corrections_file: CorrectionsFile, class_names: Sequence[str]) -> None:
        self.pool, self.corrections_file = pool, corrections_file
        self._given = tuple(class_names)
        self.class_names: tuple[str, ...] = ()  # given ones, then those of decisions
        self.labels: NDArray[np.int64] = np.array([], np.int64)  # (N,) class, UNLABELED or NO_CLASS
        self.tags: Mapping[int, tuple[str, ...]] = {}  # extra labels by row
        self.version = 0  # grows with each change
        self._rebuild()

    def refresh(self) -> None:
        """Read decisions of other processes."""
        if self.corrections_file.read_new():
            self._rebuild()

    def record(self, decisions: Sequence[Decision]) -> bool:
        """Append the decisions of a step, which are on disk when this returns; return whether they are new.

        Raises:
            UsageError: They cannot be written.
        """
        is_new = self.corrections_file.append_all(decisions)
        self._rebuild()
        return is_new

    def steps(self) -> list[Step]:
        """Return the active steps, oldest first."""
        steps: dict[str, list[Decision]] = {}
        for decision in active_decisions(self.corrections_file.decisions):
            steps.setdefault(step_of(decision), []).append(decision)
        return [Step(key, tuple(decisions)) for key, decisions in steps.items()]

    def undo(self, step_id: str, request_id: str, annotator: str) -> Step:
        """Undo a step, by a step with the id of a request; return the undone one.

        Raises:
            UsageError: There is no such step, or it cannot be written.
        """
        repeated = {each.to[0] for each in self.corrections_file.decisions if step_of(each) == request_id}
        if repeated:
            undone = (each for each in self.corrections_file.decisions if each.id in repeated)
            return Step(step_id, tuple(undone))
        step = next((each for each in self.steps() if each.id == step_id), None)
        if step is None:
            raise UsageError("There is no such step to undo. Reload the page.")
        now = utc_now()
        undoing = [
            replace(
                each,
                id=f"{request_id}{STEP_SEPARATOR}{number}",
                timestamp=now,
                annotator=annotator,
                action="undo",
                to=(each.id,),
            )
            for number, each in enumerate(step.decisions)
        ]
        self.record(undoing)
        return step

    def num_labeled(self) -> int:
        """Return the number of images with a class."""
        return int((self.labels >= 0).sum())

    def num_left(self) -> int:
        """Return the number of images without a decision."""
        return int((self.labels == UNLABELED).sum())

    def counts(self) -> dict[str, int]:
        """Return the number of labels of each class."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def _rebuild(self) -> None:
        decisions = self.corrections_file.decisions
        active = active_decisions(decisions)
        named = (name for each in active if each.action in ("relabel", "tag") for name in each.to)
        self.class_names = tuple(dict.fromkeys((*self._given, *named)))
        index = {name: number for number, name in enumerate(self.class_names)}
        labels, tags = np.full(len(self.pool.samples), UNLABELED, np.int64), {}
        for key, resolution in resolve(decisions).items():
            row = self.pool.row_of(key)
            if row is None:
                continue
            if resolution.copies and resolution.copies[-1].excluded:  # the latest decision, on whichever path
                labels[row] = NO_CLASS
            elif resolution.label is not None:
                labels[row] = index.get(resolution.label, UNLABELED)
            if resolution.extra_labels:
                tags[row] = resolution.extra_labels
        self.labels, self.tags = labels, tags
        self.version += 1


def step_of(decision: Decision) -> str:
    """Return the id of the step that a decision is part of."""
    return decision.id.partition(STEP_SEPARATOR)[0]


def default_labels_file(data: Path) -> Path:
    """Return the default path: beside the folder."""
    path = data.resolve()
    return path.with_name(path.name + ".labels.jsonl")
