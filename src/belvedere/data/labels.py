"""Spellings of labels, and cells with several labels: `a|b`, and `a:0.6|b:0.3` with area fractions."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from belvedere.errors import DatasetError

SEPARATOR = "|"
PERCENT = 100
_INVISIBLE = ("Cc", "Cf")  # categories of Unicode
_FRACTION = re.compile(r"0?\.\d+|1\.0*|[01]")  # such as 0.27; 0 and 1 only in a table with other fractions
_LABEL_WITH_FRACTION = re.compile(r":\s*(0?\.\d+|1\.0*)\s*(\||$)")
_OTHER_NUMBER = re.compile(r":\s*(\d+(?:[.,]\d+)?)\s*(%?)$")
_TOLERANCE = 0.01 + 1e-9  # by which the sum of the fractions may exceed 1


def compose(label: str) -> str:
    """Return a label in Unicode form NFC: macOS writes an accent as a character of its own, Linux does not."""
    return unicodedata.normalize("NFC", label)


def normalize_label(label: str) -> str:
    """Return a label without differences in case, spaces, Unicode form and invisible signs, to compare spellings."""
    visible = "".join(each for each in compose(label) if each.isspace() or unicodedata.category(each) not in _INVISIBLE)
    return " ".join(visible.casefold().split())


def has_fractions(cell: str) -> bool:
    """Return whether a cell has several labels with area fractions; the number of a single one belongs to its name."""
    return SEPARATOR in cell and _LABEL_WITH_FRACTION.search(cell) is not None


@lru_cache(maxsize=1000)  # each row of a table has one
def parse_labels(cell: str, with_fractions: bool) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the distinct labels of a cell, and the area fraction of each if given.

    Args:
        cell: One cell of a table.
        with_fractions: Whether a cell of the table `has_fractions`.

    Raises:
        DatasetError: Some labels lack a fraction, or the fractions do not add up.
    """
    entries = [compose(entry.strip()) for entry in cell.split(SEPARATOR)]
    pairs = [entry.rpartition(":") for entry in entries]
    is_pair = [bool(name.strip()) and _FRACTION.fullmatch(number.strip()) is not None for name, _, number in pairs]
    if SEPARATOR in cell and _has_other_fractions(entries):
        raise DatasetError(
            "area fractions are numbers up to 1 with a decimal point, such as sea:0.6|forest:0.4. "
            f"Received: {cell[:200]!r}."
        )
    if not with_fractions or not any(is_pair):
        return tuple(dict.fromkeys(entries)), ()
    if not all(is_pair):
        raise DatasetError(
            "some labels have no area fraction. Give one to every label, such as sea:0.6|forest:0.4, or to none. "
            f"Received: {cell[:200]!r}."
        )
    fractions = {name.strip(): float(number) for name, _, number in pairs if float(number)}
    if not fractions or sum(fractions.values()) > 1 + _TOLERANCE:
        raise DatasetError(f"area fractions must be over 0 and add up to 1 at most. Received: {cell[:200]!r}.")
    return tuple(fractions), tuple(fractions.values())


def _has_other_fractions(entries: Sequence[str]) -> bool:
    """Return whether all labels have a fraction with a decimal comma or in percent."""
    matches = [match for entry in entries if (match := _OTHER_NUMBER.search(entry))]
    if len(matches) < len(entries):
        return False
    is_hundred = round(sum(float(match[1].replace(",", ".")) for match in matches)) == PERCENT
    return is_hundred or all(match[2] or "," in match[1] for match in matches)
