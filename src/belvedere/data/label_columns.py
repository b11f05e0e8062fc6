"""Recognizes the columns of a table of labels by their names, in English, German and French."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from belvedere.data.split_names import names_division
from belvedere.errors import DatasetError, UsageError, find_named
from belvedere.images.listing import IMAGE_SUFFIXES

MAX_SHOWN = 20  # columns in a message
MAX_NAME = 80  # characters of a name in a message
# Names without case, spaces and signs, the most likely first.
# fmt: off
_IMAGE = (
    "image", "images", "imagepath", "imagepaths", "filepath", "filepaths", "path", "paths", "imagefile",
    "imagefilename", "filename", "filenames", "file", "files", "imagename", "img", "imgpath", "imgfile", "imgname",
    "fname", "relpath", "relativepath", "fullpath", "photo", "photopath", "dateiname", "datei", "bilddatei", "bild",
    "pfad", "fichier", "nomfichier", "nomdufichier", "chemin", "imageid", "imgid", "photoid", "name", "id",
)
_LABEL = (
    "label", "labels", "class", "classes", "classname", "classnames", "labelname", "labelnames", "category",
    "categories", "categoryname", "target", "targets", "targetname", "species", "speciesname", "breed", "diagnosis",
    "dx", "groundtruth", "tag", "tags", "klasse", "klassen", "kategorie", "etikett", "art", "classe", "categorie",
    "etiquette", "espece", "classid", "classindex", "labelid", "labelindex", "labelidx", "categoryid", "targetid",
)
_GROUP = ("group", "groupid")
_GROUPING = (
    "patient", "subject", "person", "camera", "burst", "video", "scene", "site", "location", "sequence", "session",
)
# fmt: on
_UNNAMED = re.compile(r"|unnamed\d*|index|indexlevel\d+")  # such as the numbers of rows that pandas writes


class Header(Protocol):
    """Properties of a table that are known before its rows are read."""

    title: str  # file, and sheet if there are several
    columns: list[str]
    is_delimited: bool  # whether signs separate its cells


@dataclass(frozen=True)
class Columns:
    """Columns of a table by their meaning, as indices."""

    image: int
    labels: tuple[int, ...]  # that may be the label, the most likely first; none: perhaps one column per class
    split: int | None
    divisions: tuple[int, ...]  # named like a column of splits; they are splits if their values are names of splits
    group: int | None
    others: tuple[int, ...]  # with a name


def choose_columns(table: Header, group_column: str | None = None) -> Columns:
    """Choose the columns of a table by their names.

    Args:
        table: The table.
        group_column: Name of the column of groups; default: `group`.

    Raises:
        DatasetError: There is no header, or no column for the images or the labels, or two with one name.
        UnknownNameError: There is no such `group_column`.
        UsageError: The `group_column` holds the images, the labels or the splits.
    """
    names = table.columns
    if first := next((name for name in names if _names_image(name)), None):
        commas = " and separate the cells by commas" if len(names) == 1 and table.is_delimited else ""
        raise DatasetError(
            f"No header in {table.title}: its first line holds {first[:MAX_NAME]!r}. "
            f"Add a first line with the names of the columns, image and label{commas}."
        )
    plain = [_plain(name) for name in names]
    counts = Counter(plain)
    if twice := next((name for name in (*_IMAGE, *_LABEL, "split", *_GROUP) if counts[name] > 1), None):
        raise column_error(table, f"Two columns {twice}")
    indices = {name: index for index, name in enumerate(plain)}
    images, labels, splits, groups = (_find(indices, known) for known in (_IMAGE, _LABEL, ("split",), _GROUP))
    if not images:
        pixels = "Pixels in a table are not read: save them as image files. " if "pixel0" in indices else ""
        raise column_error(table, f"{pixels}No column of images")
    if not labels and len(names) < 3:
        raise column_error(table, "No column of labels")
    image, split = images[0], splits[0] if splits else None
    labels = [index for index in labels if index != image]
    if group_column is not None:
        groups = [_find_group(table, group_column, image, labels, split)]
    group = groups[0] if groups else None
    labels = [index for index in labels if index != group]
    used = {image, group, split, *labels}
    others = [index for index, name in enumerate(plain) if index not in used and not _UNNAMED.fullmatch(name)]
    divisions = tuple(index for index in others if split is None and names_division(names[index]))
    return Columns(image, tuple(labels), split, divisions, group, tuple(others))


def _find_group(table: Header, name: str, image: int, labels: Sequence[int], split: int | None) -> int:
    """Return the column of groups that is asked for."""
    names = table.columns
    group = find_named("column", name, {each: index for index, each in enumerate(names)})
    if names.count(names[group]) > 1:
        raise column_error(table, f"Two columns {names[group][:MAX_NAME]}")
    is_label = is_exact(names[group], "label") or list(labels) == [group]
    meanings = {"images": group == image, "labels": is_label, "splits": group == split}
    if held := next((meaning for meaning, is_held in meanings.items() if is_held), None):
        raise UsageError(
            f"The column {names[group][:MAX_NAME]!r} of {table.title} holds the {held}, not groups. Name a column of "
            "what several images have in common, such as the patient or the day, or leave it out."
        )
    return group


def is_exact(name: str, meaning: str) -> bool:
    """Return whether a column is called as it should be, but for its case and spaces."""
    return name.strip().strip("\ufeff").casefold() == meaning


def is_grouping(name: str) -> bool:
    """Return whether a column seems to name what several images share, such as a patient."""
    return _plain(name).removesuffix("id").removesuffix("name") in _GROUPING


def column_error(table: Header, problem: str) -> DatasetError:
    """Return the error for columns that are missing or unclear."""
    names = table.columns
    hidden = len(names) - MAX_SHOWN
    received = ", ".join(name[:MAX_NAME] for name in names[:MAX_SHOWN]) or "no columns"
    is_separated = len(names) > 1 or not table.is_delimited
    separate = "" if is_separated else "Separate the columns by commas, semicolons, tabs or |. "
    return DatasetError(
        f"{problem} in {table.title}: {received}{f' and {hidden:,} more' if hidden > 0 else ''}. "
        f"{separate}Expected image and label and, optionally, split and group, each once."
    )


def _find(indices: Mapping[str, int], known: Sequence[str]) -> list[int]:
    return [indices[name] for name in known if name in indices]


def _names_image(name: str) -> bool:
    return any(word.lower().endswith(tuple(IMAGE_SUFFIXES)) for word in name[: 4 * MAX_NAME].split())


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name[: 2 * MAX_NAME]).casefold()
    return "".join(each for each in letters if each.isalnum())
