"""Reads the names of classes that a table gives as numbers: classes.txt or classes.json beside it."""

import json
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from belvedere.errors import DatasetError
from belvedere.images.listing import IMAGE_SUFFIXES

_NAMES = (
    "classes",
    "class_names",
    "classnames",
    "labels",
    "label_names",
    "categories",
    "names",
    "id2label",
    "cat_to_name",
)
MAX_BYTES = 10_000_000
_IMAGE = re.compile(rf"({'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})(?!\w)", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d+)[\s,;:=]+(\S.*)")


def read_class_list(folder: Path, numbers: Collection[str]) -> tuple[Path, dict[str, str]] | None:
    """Return the list of classes in a folder, and the name of each number; None without a list.

    A list has one name in each line, with or without its number, or is a JSON array or object. Without numbers, the
    first name is that of 0, or of 1 if the labels do not hold 0 but the number of names.

    Raises:
        DatasetError: The list cannot be read, has a name twice or one that is none, or has no name for a number.
    """
    paths = (folder / f"{name}{suffix}" for name in _NAMES for suffix in (".txt", ".json"))
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
        names = _parse_json(text) if path.suffix == ".json" else _parse_lines(text)
        _check_names(names if isinstance(names, list) else names.values())
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"Not a list of classes: {path} ({error}). Write one name per line.") from error
    if isinstance(names, list):
        present = {int(number) for number in numbers}
        first = int(0 not in present and len(names) in present)
        names = dict(enumerate(names, first))
    named = {number: names[int(number)] for number in numbers if int(number) in names}
    if missing := sorted(set(numbers) - named.keys(), key=int):
        raise DatasetError(f"{path} has no name for the label {missing[0]}. Add it, or remove the file.")
    return path, named


def _check_names(names: Collection[str]) -> None:
    for name, number in Counter(name.strip() for name in names).items():
        if number > 1:
            raise ValueError(f"{name[:80]!r} occurs twice")
        if "|" in name or _IMAGE.search(name):
            raise ValueError(f"{name[:80]!r} is no name of a class")


def _parse_lines(text: str) -> list[str] | dict[int, str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered):
        return {int(match[1]): match[2].strip() for match in numbered if match}
    return lines


def _parse_json(text: str) -> list[str] | dict[int, str]:
    content = json.loads(text)
    if isinstance(content, list) and all(isinstance(each, str) for each in content):
        return content
    if isinstance(content, dict) and all(key.isdecimal() and isinstance(name, str) for key, name in content.items()):
        return {int(key): name for key, name in content.items()}
    if isinstance(content, dict) and all(type(number) is int for number in content.values()):
        return {number: name for name, number in content.items()}
    raise ValueError("neither an array of names nor an object with a name for each number")
