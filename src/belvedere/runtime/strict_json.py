"""JSON that every parser reads.

Knows what JSON can't hold; does not know files.
"""

import json
import math
from collections.abc import Mapping


def dump_json(content: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Return strict JSON: numbers that it can't hold, NaN and infinity, become null."""
    try:
        return json.dumps(content, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        return json.dumps(_only_finite(content), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _only_finite(content: object) -> object:
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, Mapping):
        return {key: _only_finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_only_finite(value) for value in content]
    return content
