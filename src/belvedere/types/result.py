"""Base class of results: a short text, plain values for JSON, and HTML for a notebook.

The HTML needs packages that come after this one, so `belvedere/__init__.py` registers their functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

_HTML_FUNCTIONS: dict[str, Callable[[Any], str]] = {}  # by the name of the class


class Result:
    """A result that a notebook shows as HTML."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        to_html = _HTML_FUNCTIONS.get(type(self).__name__)
        return None if to_html is None else to_html(self)


def register_html(name: str, function: Callable[[Any], str]) -> None:
    """Set the function that returns the HTML of results of the class with this name."""
    _HTML_FUNCTIONS[name] = function


def short_repr(result: object, **values: object) -> str:
    """Return a class name and a few values in one line; fractional numbers have four digits."""
    texts = (f"{value:.4g}" if isinstance(value, float) else repr(value) for value in values.values())
    return f"{type(result).__name__}({', '.join(map('='.join, zip(values, texts, strict=True)))})"


def to_plain(value: object) -> Any:
    """Return a value as JSON holds it: records and mappings as dict, sequences and arrays as list, paths as str."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value
