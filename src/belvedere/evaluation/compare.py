"""Two folders of results brought together: the photographs that both answered for, and what became of each.

Knows how photographs are matched; does not know how they are shown.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from belvedere.errors import InvalidImageError, UsageError
from belvedere.evaluation.significance import Paired, compare_paired
from belvedere.evaluation.stored_predictions import Answers, candidate_paths, read_predictions
from belvedere.images.decode import read_content
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress
from belvedere.types.data import Note
from belvedere.types.prediction import Prediction

SIDES = ("gained", "lost", "wrong otherwise")


@dataclass(frozen=True, slots=True)
class Pair:
    """One photograph and both answers for it."""

    image: str  # as the second run names it
    label: str  # as the second run has it
    before: Prediction
    after: Prediction

    @property
    def side(self) -> str:
        """What became of it: one of `SIDES`, or nothing."""
        was, is_now = self.before.predicted_label == self.label, self.after.predicted_label == self.label
        if was != is_now:
            return "gained" if is_now else "lost"
        return "wrong otherwise" if not is_now and self.before.predicted_label != self.after.predicted_label else ""


@dataclass(frozen=True)
class Comparison:
    """What two runs differ in."""

    before: str
    after: str
    overall: Paired
    per_class: Mapping[str, Paired]  # of the photographs with this label
    pairs: tuple[Pair, ...]
    notes: tuple[Note, ...]

    def changed(self, side: str) -> list[Pair]:
        """Returns the photographs that went to one side, those where the second run is surest first."""
        chosen = [pair for pair in self.pairs if pair.side == side]
        return sorted(chosen, key=lambda pair: (-(pair.after.confidence or 0.0), pair.image))


def compare(run_a: Path | str, run_b: Path | str, *, seed: int = 0, progress: Progress | None = None) -> Comparison:
    """Compares two runs on the photographs that both were measured on.

    Photographs are matched by path, and by content where the paths differ. Where a label was corrected between the
    runs, the second run's holds for both.

    Args:
        run_a: Folder that `train` or `evaluate --out` wrote: what was before.
        run_b: The other one.
        seed: Of the resampling behind the intervals.
        progress: Shows how far it is.

    Raises:
        UsageError: One is no such folder, or they have no photograph in common.
    """
    before, after = read_predictions(run_a), read_predictions(run_b)
    matched = _match(before, after, progress or Progress())
    pairs = tuple(
        Pair(new.image, str(new.label), old, new) for old, new in matched if old.error is None and new.error is None
    )
    if not pairs:
        raise UsageError(
            f"{run_a} and {run_b} have no photograph in common, so they can't be compared. Measure both on the same: "
            "belvedere evaluate RUN PHOTOS --out FOLDER"
        )
    was = np.array([pair.before.predicted_label == pair.label for pair in pairs])
    is_now = np.array([pair.after.predicted_label == pair.label for pair in pairs])
    labels = np.array([pair.label for pair in pairs])
    per_class = {
        str(name): compare_paired(was[labels == name], is_now[labels == name], seed) for name in np.unique(labels)
    }
    notes = _notes(before, after, matched, len(pairs))
    return Comparison(str(run_a), str(run_b), compare_paired(was, is_now, seed), per_class, pairs, notes)


def to_json(comparison: Comparison) -> dict[str, object]:
    """Returns a comparison as JSON holds it: the figures, and every photograph that changed sides."""
    return {
        "before": comparison.before,
        "after": comparison.after,
        **_figures(comparison.overall),
        "per_class": {name: _figures(paired) for name, paired in comparison.per_class.items()},
        "changed": [
            {
                "image": pair.image,
                "label": pair.label,
                "before": pair.before.predicted_label,
                "after": pair.after.predicted_label,
                "change": side,
            }
            for side in SIDES
            for pair in comparison.changed(side)
        ],
        "notes": [{"message": note.message, "names": list(note.names)} for note in comparison.notes],
    }


def _figures(paired: Paired) -> dict[str, object]:
    return {
        "accuracy_before": paired.right_before / paired.images,
        "accuracy_after": paired.right_after / paired.images,
        "accuracy_change": paired.change,
        **asdict(paired),
    }


def _match(before: Answers, after: Answers, progress: Progress) -> list[tuple[Prediction, Prediction]]:
    """Pairs of answers, by path; what is left by content, each file once."""
    by_path = {answer.image: answer for answer in before.predictions}
    if len(by_path) == len(before.predictions) and all(answer.image in by_path for answer in after.predictions):
        return [(by_path[answer.image], answer) for answer in after.predictions]
    same = [(by_path[answer.image], answer) for answer in after.predictions if answer.image in by_path]
    taken = {answer.image for _, answer in same}
    old = [answer for answer in before.predictions if answer.image not in taken]
    new = [answer for answer in after.predictions if answer.image not in taken]
    waiting: dict[str, list[Prediction]] = {}
    for key, answer in _hash(old, before.folder, progress):
        waiting.setdefault(key, []).append(answer)
    found = [(waiting[key].pop(0), answer) for key, answer in _hash(new, after.folder, progress) if waiting.get(key)]
    return same + found


def find_file(folder: Path, image: str) -> Path:
    """Returns the file of a photograph that a run names, or where it was if it is no longer there."""
    written, beside = candidate_paths(folder, image)
    try:
        return beside if beside.is_file() and not written.is_file() else written
    except OSError:  # a name too long, or a folder that may not be looked into: whoever reads it says so
        return written


def _hash(answers: Iterable[Prediction], folder: Path, progress: Progress) -> list[tuple[str, Prediction]]:
    """The answers whose files are still there, each with the hash of its content."""
    answers = list(answers)

    def read(answer: Prediction) -> str | None:
        try:
            return hashlib.sha256(read_content(find_file(folder, answer.image))).hexdigest()
        except InvalidImageError:
            return None

    with progress.task("Comparing files", len(answers)) as task:
        found = []
        for answer, key in zip(answers, parallel_map(read, answers), strict=True):
            task.advance(1)
            if key is not None:
                found.append((key, answer))
    return found


def _notes(
    before: Answers, after: Answers, matched: list[tuple[Prediction, Prediction]], measured: int
) -> tuple[Note, ...]:
    notes = []
    corrected = tuple(f"{new.image}: {old.label} to {new.label}" for old, new in matched if old.label != new.label)
    if corrected:
        notes.append(Note(f"{len(corrected)} have another label in the second run, which holds for both", corrected))
    for answers, side in ((before, 0), (after, 1)):
        here = Counter(id(pair[side]) for pair in matched)
        alone = tuple(answer.image for answer in answers.predictions if id(answer) not in here)
        if alone:
            notes.append(Note(f"{len(alone)} only in {answers.folder}: not compared", alone))
    if unread := len(matched) - measured:
        notes.append(Note(f"{unread} could not be read by one of the two: not compared"))
    unknown = sorted({str(new.label) for _, new in matched} - set(before.class_names))
    if unknown:
        notes.append(Note(f"The first run knows no {', '.join(unknown)}: it can't be right on them"))
    return tuple(notes)
