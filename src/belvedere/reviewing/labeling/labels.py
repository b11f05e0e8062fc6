"""Labels of a pool: the decisions of a corrections file, one step per request of a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.corrections.corrections_file import CorrectionsFile, active_decisions, resolve, utc_now
from belvedere.errors import UsageError
from belvedere.reviewing.labeling.order import NO_CLASS, UNLABELED
from belvedere.reviewing.labeling.pool import Pool
from belvedere.runtime.files import beside
from belvedere.types.data import Decision, Resolution

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
        self._num_applied = 0  # decisions of the file
        self._reset()
        self._apply_new()

    def refresh(self) -> None:
        """Read decisions of other processes."""
        if self.corrections_file.read_new():
            self._apply_new()

    def record(self, decisions: Sequence[Decision]) -> bool:
        """Append the decisions of a step, which are on disk when this returns; return whether they are new.

        Raises:
            UsageError: They cannot be written.
        """
        is_new = self.corrections_file.append_all(decisions)
        self._apply_new()
        return is_new

    def steps(self, number: int | None = None) -> list[Step]:
        """Return the active steps, latest first; some or all."""
        return [Step(key, tuple(each)) for key, each in islice(reversed(self._steps.items()), number)]

    def undo(self, step_id: str, request_id: str, annotator: str) -> Step:
        """Undo a step, by a step with the id of a request; return the undone one.

        Raises:
            UsageError: There is no such step, the request has the id of another one, or it cannot be written.
        """
        repeated = [each for each in self.corrections_file.decisions if step_of(each) == request_id]
        if any(each.action != "undo" for each in repeated):
            raise UsageError("The id of this request is that of an earlier step. Reload the page.")
        if repeated:
            ids = {each.to[0] for each in repeated}
            undone = (each for each in self.corrections_file.decisions if each.id in ids)
            return Step(step_id, tuple(undone))
        if step_id not in self._steps:
            raise UsageError("There is no such step to undo. Reload the page.")
        step = Step(step_id, tuple(self._steps[step_id]))
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

    def _reset(self) -> None:
        self.class_names = self._given
        self.labels, self.tags = np.full(len(self.pool.samples), UNLABELED, np.int64), {}
        self._steps: dict[str, list[Decision]] = {}  # active decisions by step
        self._of_image: dict[str, list[Decision]] = {}  # and by SHA-256

    def _apply_new(self) -> None:
        """Apply new decisions to their images; an undo makes all be applied again."""
        decisions = self.corrections_file.decisions
        new: Sequence[Decision] = decisions[self._num_applied :]
        self._num_applied = len(decisions)
        if any(each.action == "undo" for each in new):
            new = active_decisions(decisions)
            self._reset()
        for decision in new:
            self._steps.setdefault(step_of(decision), []).append(decision)
            self._of_image.setdefault(decision.sha256, []).append(decision)
        self.class_names = tuple(dict.fromkeys((*self.class_names, *list_classes(new))))
        index = {name: number for number, name in enumerate(self.class_names)}
        labels, tags = self.labels.copy(), dict(self.tags)
        for key in {each.sha256 for each in new}:
            if (row := self.pool.row_of(key)) is not None:
                resolution = resolve(self._of_image[key]).get(key, Resolution())
                labels[row], tags[row] = _label_of(resolution, index), resolution.extra_labels or ()
        self.labels, self.tags = labels, {row: names for row, names in tags.items() if names}
        self.version += 1


def _label_of(resolution: Resolution, index: Mapping[str, int]) -> int:
    """Return the class of an image by the indices of the classes, `NO_CLASS` or `UNLABELED`."""
    if resolution.copies and resolution.copies[-1].excluded:  # the latest decision, on whichever path
        return NO_CLASS
    return UNLABELED if resolution.label is None else index.get(resolution.label, UNLABELED)


def list_classes(decisions: Iterable[Decision]) -> list[str]:
    """Return the classes that decisions name."""
    return [name for each in decisions if each.action in ("relabel", "tag") for name in each.to]


def step_of(decision: Decision) -> str:
    """Return the id of the step that a decision is part of."""
    return decision.id.partition(STEP_SEPARATOR)[0]


def default_labels_file(data: Path) -> Path:
    """Return the default path: beside the folder."""
    return beside(data.resolve(), ".labels.jsonl")
