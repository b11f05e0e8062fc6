"""Recognizes the columns of a table of labels by their names, in English, German and French."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.errors import DatasetError, find_named
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
_SPLIT = ("split", "splits", "set", "subset", "dataset", "partition", "phase", "usage", "teilmenge", "datensatz", "jeu")
_GROUP = ("group", "groupid")
_GROUPING = (
    "patient", "subject", "person", "camera", "burst", "video", "scene", "site", "location", "sequence", "session",
)
# fmt: on
_UNNAMED = re.compile(r"|unnamed\d*|index")  # such as the numbers of rows that pandas writes


@dataclass(frozen=True)
class Columns:
    """Columns of a table by their meaning, as indices."""

    image: int
    labels: tuple[int, ...]  # that may be the label, the most likely first; none: perhaps one column per class
    split: int | None
    is_split_sure: bool  # otherwise it is a split if its values are names of splits
    group: int | None
    others: tuple[int, ...]  # with a name


def choose_columns(path: Path, names: Sequence[str], group_column: str | None = None) -> Columns:
    """Choose the columns of a table by their names.

    Args:
        path: The table, for messages.
        names: Names of the columns, as they are written.
        group_column: Name of the column of groups; default: `group`.

    Raises:
        DatasetError: There is no header, or no column for the images or the labels, or two with one name.
        UnknownNameError: There is no such `group_column`.
    """
    if first := next((name for name in names if _names_image(name)), None):
        commas = " and separate the cells by commas" if len(names) == 1 else ""
        raise DatasetError(
            f"No header in {path}: its first line holds {first[:MAX_NAME]!r}. Add a first line image,label{commas}."
        )
    plain = [_plain(name) for name in names]
    counts = Counter(plain)
    if twice := next((name for name in (*_IMAGE, *_LABEL, *_SPLIT, *_GROUP) if counts[name] > 1), None):
        raise column_error(path, names, f"Two columns {twice}")
    indices = {name: index for index, name in enumerate(plain)}
    images, labels, splits, groups = (_find(indices, known) for known in (_IMAGE, _LABEL, _SPLIT, _GROUP))
    if group_column is not None:
        groups = [find_named("column", group_column, {name: index for index, name in enumerate(names)})]
    if not images:
        pixels = "Pixels in a table are not read: save them as image files. " if "pixel0" in indices else ""
        raise column_error(path, names, f"{pixels}No column of images")
    if not labels and len(names) < 3:
        raise column_error(path, names, "No column of labels")
    image, group = images[0], groups[0] if groups else None
    split = splits[0] if splits else None
    labels = [index for index in labels if index not in (image, group)]
    used = {image, group, split, *labels}
    others = (index for index, name in enumerate(plain) if index not in used and not _UNNAMED.fullmatch(name))
    is_sure = split is not None and plain[split] == "split"
    return Columns(image, tuple(labels), split, is_sure, group, tuple(others))


def is_exact(name: str, meaning: str) -> bool:
    """Return whether a column is called as it should be, but for its case and spaces."""
    return name.strip().strip("\ufeff").casefold() == meaning


def is_grouping(name: str) -> bool:
    """Return whether a column seems to name what several images share, such as a patient."""
    return _plain(name).removesuffix("id").removesuffix("name") in _GROUPING


def column_error(path: Path, names: Sequence[str], problem: str) -> DatasetError:
    """Return the error for columns that are missing or unclear."""
    hidden = len(names) - MAX_SHOWN
    received = ", ".join(name[:MAX_NAME] for name in names[:MAX_SHOWN]) or "no columns"
    separate = "" if len(names) > 1 else "Separate the columns by commas, semicolons, tabs or |. "
    return DatasetError(
        f"{problem} in {path}: {received}{f' and {hidden:,} more' if hidden > 0 else ''}. "
        f"{separate}Expected image and label and, optionally, split and group, each once."
    )


def _find(indices: Mapping[str, int], known: Sequence[str]) -> list[int]:
    return [indices[name] for name in known if name in indices]


def _names_image(name: str) -> bool:
    return any(word.lower().endswith(tuple(IMAGE_SUFFIXES)) for word in name[: 4 * MAX_NAME].split())


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name[: 2 * MAX_NAME]).casefold()
    return "".join(each for each in letters if each.isalnum())
