"""Reads the names of classes that a table gives as numbers: classes.txt or classes.json beside it."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
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
_NUMBER = re.compile(r"(\d{1,9})(?:\.0+)?", re.ASCII)  # 1.0 is how pandas writes the 1 of a column with missing numbers
_NUMBERED = re.compile(r"(\d+)[\s,;:=]+(\S.*)")


def name_numbers(folder: Path, labels: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Return the names of labels that are numbers, and what to say about them.

    Args:
        folder: Folder of the table, which may hold a list of classes.
        labels: All labels of the table.

    Raises:
        DatasetError: As `read_class_list`.
    """
    matches = {label: _NUMBER.fullmatch(label) for label in sorted(labels)}
    numbers = {label: int(match[1]) for label, match in matches.items() if match}
    source = _find_list(folder) if numbers else None
    if other := next((label for label, match in matches.items() if not match), None):
        return {}, [f"labels without the names in {source.name}, since {other[:80]!r} is no number"] if source else []
    decimal = next((label for label in numbers if "." in label), None)
    whole = [f"{decimal} as {numbers[decimal]}"] if decimal is not None else []
    if source is not None:
        names = read_class_list(source, set(numbers.values()))
        return {label: names[number] for label, number in numbers.items()}, [
            f"names of labels from {source.name}",
            *whole,
        ]
    if len({*numbers.values()}) == len(numbers):
        return {}, []
    return {label: str(number) for label, number in numbers.items() if "." in label}, whole


def _find_list(folder: Path) -> Path | None:
    paths = (folder / f"{name}{suffix}" for name in _NAMES for suffix in (".txt", ".json"))
    return next((path for path in paths if path.is_file()), None)


def read_class_list(path: Path, numbers: Collection[int]) -> Mapping[int, str]:
    """Read the name of each number from a list of classes.

    A list has one name in each line, with or without its number, or is a JSON array or object. Without numbers, the
    first name is that of 0, or of 1 if the labels do not hold 0 but the number of names.

    Raises:
        DatasetError: The list cannot be read, has a name twice or one that is none, or has no name for a number.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
        names = _parse_json(text) if path.suffix == ".json" else _parse_lines(text)
        if not names:
            raise ValueError("it is empty")
        for name in names if isinstance(names, list) else names.values():
            if "|" in name or _IMAGE.search(name):
                raise ValueError(f"{name[:80]!r} is no name of a class")
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"Not a list of classes: {path} ({error}). Write one name per line.") from error
    if isinstance(names, list):
        names = dict(enumerate(names, int(0 not in numbers and len(names) in numbers)))
    _check_distinct(path, names)
    if missing := sorted(set(numbers) - names.keys()):
        raise DatasetError(
            f"{path} has no name for the label {missing[0]}, only for {min(names)} to {max(names)}. "
            "Add it, or rename the file if it is no list of classes."
        )
    return names


def _by_number(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Return the name of each number.

    Raises:
        ValueError: A number has two names.
    """
    names: dict[int, str] = {}
    for number, name in pairs:
        if names.setdefault(number, name) != name:
            raise ValueError(f"the number {number} has two names, {names[number][:80]!r} and {name[:80]!r}")
    return names


def _check_distinct(path: Path, names: Mapping[int, str]) -> None:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, name in names.items():
        numbers[name.strip()].append(number)
    if twice := next((name for name, found in numbers.items() if len(found) > 1), None):
        first, second = numbers[twice][:2]
        raise DatasetError(
            f"The classes {first} and {second} have one name in {path}: {twice[:80]!r}. Give them different names, as "
            f"'{twice[:80]} 2'. If the file is no list of classes, rename it."
        )


def _parse_lines(text: str) -> list[str] | dict[int, str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered):
        return _by_number((int(match[1]), match[2].strip()) for match in numbered if match)
    return lines


def _parse_json(text: str) -> list[str] | dict[int, str]:
    content = json.loads(text)
    if isinstance(content, list) and all(isinstance(each, str) for each in content):
        return content
    if isinstance(content, dict) and all(key.isdecimal() and isinstance(name, str) for key, name in content.items()):
        return _by_number((int(key), name) for key, name in content.items())
    if isinstance(content, dict) and all(type(number) is int for number in content.values()):
        return _by_number((number, name) for name, number in content.items())
    raise ValueError("neither an array of names nor an object with a name for each number")
