"""Checks names of new classes."""

import re
import unicodedata
from collections.abc import Iterable

from belvedere.data.folders import IGNORED_FOLDERS
from belvedere.data.labels import normalize_label
from belvedere.data.split_names import split_of
from belvedere.errors import UsageError
from belvedere.types.data import NONE_OF_THESE

MAX_NAME_BYTES = 200  # in UTF-8; folder names may have 255
SEPARATORS = "|/\\"  # of labels in a table, and of folders
RESERVED = {NONE_OF_THESE, *IGNORED_FOLDERS}
_FRACTION = re.compile(r":\s*[\d.]*$")  # sea:0.6 in a table is a label with its area fraction
_CONTROL_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")  # of Unicode


def check_new_class(name: str, known: Iterable[str]) -> str:
    """Check the name of a new class, which must be valid in a folder, a table and a corrections file.

    Args:
        name: Name as typed.
        known: Existing classes.

    Returns:
        The name in Unicode form NFC, with single spaces.

    Raises:
        UsageError: The name is invalid, or differs from a known class only in case or spelling.
    """
    name = " ".join(unicodedata.normalize("NFC", name).split())
    same = next((each for each in known if normalize_label(each) == normalize_label(name)), None)
    if same is not None:
        raise UsageError(f"The class {same!r} already exists. Choose it.")
    if problem := _find_problem(name):
        raise UsageError(f"Invalid class name: {name[:80]!r} ({problem}). Choose another name.")
    return name


def _find_problem(name: str) -> str:
    if not name:
        return "it is empty"
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    if any(unicodedata.category(each) in _CONTROL_CATEGORIES for each in name):
        return "it contains a control character"
    if separator := next((each for each in SEPARATORS if each in name), ""):
        return f"{separator} separates names"
    if _FRACTION.search(name):
        return "a number after a colon means an area fraction"
    if name.startswith("."):
        return "a name that begins with a dot is hidden"
    return "it has another meaning" if name.casefold() in RESERVED or split_of(name) else ""
