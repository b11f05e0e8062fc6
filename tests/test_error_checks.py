"""Tests check the types, fields and values of errors, not their sentences, so that a message can be reworded."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
PHRASE = re.compile(r"(?<![\w-])[A-Z]?[a-z]+ [a-z]+\b")  # two words in a row


def strings(node: ast.AST) -> Iterator[str]:
    """Yield the string literals of an expression, and the literal pieces of its f-strings."""
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def parametrized(function: ast.FunctionDef, name: str) -> Iterator[str]:
    """Yield the strings that `pytest.mark.parametrize` gives to an argument."""
    for decorator in function.decorator_list:
        if not isinstance(decorator, ast.Call) or len(decorator.args) < 2:
            continue
        names, rows = decorator.args[:2]
        given = [each.strip() for text in strings(names) for each in text.split(",")]
        if name in given and isinstance(rows, ast.List | ast.Tuple):
            for row in rows.elts:
                is_tuple = len(given) > 1 and isinstance(row, ast.Tuple)
                yield from strings(row.elts[given.index(name)] if is_tuple else row)  # type: ignore[attr-defined]


def matched(source: str) -> Iterator[str]:
    """Yield the strings that a test module looks for in messages: `match=` and `in str(...)`."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.keyword) and node.arg == "match":
                yield from (
                    parametrized(function, node.value.id) if isinstance(node.value, ast.Name) else strings(node.value)
                )
            elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]).startswith("str("):
                yield from strings(node.left)


def phrases(source: str) -> list[str]:
    """Return the strings with words of a sentence; text in quotes and backticks is a value."""
    return sorted({text for text in matched(source) if PHRASE.search(QUOTED.sub("", text))})


def test_phrases_are_found() -> None:
    source = """
@pytest.mark.parametrize(("value", "words"), [(1, "never replaced"), (2, "`out`"), (3, "more than 2")])
def test(value, words):
    with pytest.raises(ValueError, match=words):
        pass
    with pytest.raises(ValueError, match=f"{value} is a folder|'two words' `out` 32 x 32 pixels"):
        pass
    with pytest.raises(ValueError, match=r"model\\.onnx .* 'not red' --out 5 images") as caught:
        pass
    assert "No images" in str(caught.value)
"""
    assert phrases(source) == [
        " is a folder|'two words' `out` 32 x 32 pixels",
        "No images",
        "more than 2",
        "never replaced",
    ]


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_sentence_is_matched(path: Path) -> None:
    assert phrases(path.read_text("utf-8")) == []
