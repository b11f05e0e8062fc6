"""Photographs without labels that join in a training, for a teacher to answer for.

Knows how they are found and kept apart from the others; does not know what is learnt of them.
"""

from pathlib import Path

from belvedere.data.hashing import Contents, read_contents
from belvedere.data.splits import DataSplit
from belvedere.errors import UsageError
from belvedere.images.listing import list_pictures
from belvedere.runtime.output_folder import MARK
from belvedere.runtime.progress import Progress
from belvedere.training.log import LoggedProgress
from belvedere.training.recipes import Recipe
from belvedere.types.data import Note, Sample

UNLABELLED = ""  # in place of a class


def find_unlabeled(recipe: Recipe, division: DataSplit, log: LoggedProgress) -> Contents:
    """Finds the photographs without a label that a recipe names and that are not among any others.

    Raises:
        UsageError: It names no folder, or one without pictures.
    """
    if not recipe.unlabeled:
        return Contents((), (), ())
    known = {*division.train.hashes, *division.validation.hashes, *division.test_contents.hashes}
    found = find_unlabelled(recipe.unlabeled, log)
    new = [(sample, key) for sample, key in zip(found.samples, found.hashes, strict=True) if key not in known]
    log.say(f"{len(new)} photographs without labels join in; {len(found.samples) - len(new)} were among the others.")
    return Contents(tuple(sample for sample, _ in new), tuple(key for _, key in new), found.unreadable)


def find_unlabelled(folder: str, progress: Progress) -> Contents:
    """Finds the pictures of a folder but for those in results of ours below it, for a teacher to answer for.

    Raises:
        UsageError: It is no folder, or holds no picture.
    """
    place = Path(folder)
    try:
        results = {mark.parent for mark in place.rglob(MARK)} - {place}
        paths = [path for path in list_pictures(place) if results.isdisjoint(path.parents)]
    except OSError as error:
        raise UsageError(f"Can't read the folder {folder}: {error.strerror}. Give another --unlabeled.") from error
    if not paths:
        raise UsageError(f"There are no pictures in {folder}. Give another --unlabeled.")
    return read_contents([Sample(path, str(path), UNLABELLED, "train") for path in paths], progress)


def unopened_notes(found: Contents) -> tuple[Note, ...]:
    """Names what of an unlabeled folder can't be opened."""
    names = tuple(f"{sample.image}: {reason}" for sample, reason in found.unreadable)
    return (Note(f"{len(names)} without labels left out: can't be opened", names),) if names else ()
