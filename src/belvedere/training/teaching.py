"""A teacher's answers as something to learn from beside the labels, and photographs that have no labels at all.

Knows how answers and labels are mixed (Hinton et al. 2015, https://arxiv.org/abs/1503.02531); does not know how either
is learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.embeddings import ModelEmbedder, read_embeddings
from belvedere.errors import UsageError
from belvedere.model import load
from belvedere.progress import Progress
from belvedere.records import Note, Sample
from belvedere.splits import Contents, read_contents
from belvedere.tags import mark_present
from belvedere.training.division import Division
from belvedere.training.log import LoggedProgress
from belvedere.training.recipes import Recipe
from belvedere.walking import list_pictures

UNLABELLED = ""  # in place of a class


@dataclass(frozen=True)
class Teacher:
    """A trained model that is learnt from."""

    answerer: ModelEmbedder  # its probabilities
    name: str  # of its file and content
    share: float  # of its answers in what is learnt
    smoothing: float  # of the labels
    class_names: tuple[str, ...]  # K

    def targets(self, contents: Contents, labels: NDArray[np.int64], progress: Progress) -> NDArray[np.float32]:
        """Mixes its answers with the labels.

        Args:
            contents: N photographs that can be read.
            labels: (N,); -1 where there is none, and the teacher's answer is all.
            progress: Shows how far it is.

        Returns:
            (N, K), each row with the sum 1.
        """
        answers = read_embeddings(contents, self.answerer, progress).values
        given = _share_evenly(mark_present(contents.samples, self.class_names), self.smoothing)
        share = np.where(labels < 0, 1.0, self.share).astype(np.float32)[:, None]
        mixed: NDArray[np.float32] = share * answers + (1 - share) * given
        return mixed


def find_teacher(recipe: Recipe, class_names: Sequence[str]) -> Teacher | None:
    """Opens the teacher that a recipe names, if it names one.

    Raises:
        UnreadableModel: There is no model.
        UsageError: It tells other classes apart.
    """
    if not recipe.teacher:
        return None
    model = load(recipe.teacher)
    if model.class_names != tuple(class_names):
        raise UsageError(
            f"The teacher {recipe.teacher} knows other classes: expected {', '.join(class_names)}. "
            f"Received: {', '.join(model.class_names)}. Train a teacher on these photographs."
        )
    answerer = ModelEmbedder(model, f"answers-{model.sha256[:16]}", "probabilities")
    name = f"{Path(recipe.teacher).name}, SHA-256 {model.sha256}"  # no path of this machine: it goes into the card
    return Teacher(answerer, name, recipe.teacher_share, recipe.label_smoothing, model.class_names)


def share_labels(samples: Sequence[Sample], class_names: Sequence[str], smoothing: float) -> NDArray[np.float32] | None:
    """Divides what is learnt from a photograph evenly among its labels.

    With a softmax this learnt as well as a sigmoid for each class did, or better, elsewhere (Mahajan et al. 2018,
    https://arxiv.org/abs/1805.00932), and the answer for one main class stays what it is.

    Returns:
        (N, K), each row with the sum 1; None where every photograph has one label.
    """
    if not any(sample.also for sample in samples):
        return None
    return _share_evenly(mark_present(samples, class_names), smoothing)


def _share_evenly(present: NDArray[np.bool_], smoothing: float) -> NDArray[np.float32]:
    marks = present.astype(np.float32)
    shares: NDArray[np.float32] = marks / np.maximum(marks.sum(1, keepdims=True), 1)
    return (1 - smoothing) * shares + np.float32(smoothing / present.shape[1])


def find_joining(recipe: Recipe, division: Division, log: LoggedProgress) -> Contents:
    """Finds the photographs without a label that a recipe names and that are not among any others.

    Raises:
        UsageError: It names no folder, or one without pictures.
    """
    if not recipe.unlabelled:
        return Contents((), (), ())
    known = {*division.train.hashes, *division.validation.hashes, *division.test_contents.hashes}
    found = find_unlabelled(recipe.unlabelled, log)
    log.say_notes(_unopened_note(found))
    new = [(sample, key) for sample, key in zip(found.samples, found.hashes, strict=True) if key not in known]
    log.say(f"{len(new)} photographs without labels join in; {len(found.samples) - len(new)} were among the others.")
    return Contents(tuple(sample for sample, _ in new), tuple(key for _, key in new), ())


def find_unlabelled(folder: str, progress: Progress) -> Contents:
    """Finds the pictures of a folder, for a teacher to answer for.

    Raises:
        UsageError: It is no folder, or holds no picture.
    """
    place = Path(folder)
    try:
        paths = list(list_pictures(place))
    except OSError as error:
        raise UsageError(f"Can't read the folder {folder}: {error.strerror}. Give another --unlabelled.") from error
    if not paths:
        raise UsageError(f"There are no pictures in {folder}. Give another --unlabelled.")
    return read_contents([Sample(path, str(path), UNLABELLED, "train") for path in paths], progress)


def _unopened_note(found: Contents) -> list[Note]:
    """Names what of an unlabelled folder can't be opened."""
    names = tuple(f"{sample.image}: {reason}" for sample, reason in found.unreadable)
    return [Note(f"{len(names)} without labels left out: can't be opened", names)] if names else []
