"""HTML for notebooks: escaped, complete, and exact in its numbers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere.runtime import notebook
from notebook_html import NotebookHtml

NASTY = "<script>alert('1')</script>\"&"


@given(st.text(), st.text(), st.text())
def test_any_text_is_escaped(name: str, text: str, caption: str) -> None:
    html = notebook.block(
        notebook.title(name),
        notebook.line(text),
        notebook.row(notebook.table((name, "b"), [(text, caption)]), notebook.matrix([name], [[3]], [[1.0]])),
        notebook.images([notebook.Figure("", (caption, text))]),
        notebook.curves([(name, notebook.BLUE, [0.5])]),
    )
    read = NotebookHtml(html)
    assert read.tags.count("table") == 2
    assert html.encode()  # without invalid characters


def test_texts_survive() -> None:
    read = NotebookHtml(notebook.block(notebook.table((NASTY, "n"), [(NASTY, "1")])))
    assert read.texts == [NASTY, "n", NASTY, "1"]


def test_long_names_are_shortened_and_control_characters_shown() -> None:
    read = NotebookHtml(notebook.table(("a",), [("x" * 100,), ("a\x1b[0m\udcff",)]))
    assert read.texts[1] == "x" * 39 + "…"
    assert read.texts[2] == r"a\x1b[0m\udcff"


def test_the_matrix_has_counts_and_shades() -> None:
    html = notebook.matrix(["a", "b"], [[1200, 0], [3, 1]], [[1.0, 0.0], [0.75, 0.25]])
    assert NotebookHtml(html).texts == ["label → prediction", "a", "b", "a", "1,200", "b", "3", "1"]
    shades = re.findall(r"background: (#\w{6})(\w\w)", html)
    assert [color for color, _ in shades] == [notebook.BLUE, notebook.ORANGE, notebook.BLUE]
    assert [int(alpha, 16) for _, alpha in shades] == [round(255 * (0.08 + 0.5 * shade)) for shade in (1, 0.75, 0.25)]


def test_many_classes_have_vertical_names() -> None:
    names = [str(index) for index in range(9)]
    counts = [[0] * 9] * 9
    assert 'class="matrix vertical"' in notebook.matrix(names, counts, counts)


def test_an_image_that_cannot_be_read_leaves_a_note() -> None:
    read = NotebookHtml(
        notebook.images([notebook.Figure("", ("a", "b")), notebook.Figure("data:image/jpeg;base64,", ("c",))])
    )
    assert read.texts == ["not readable", "a", "b", "c"]
    assert notebook.images([]) == ""


def test_curves_end_at_their_values() -> None:
    html = notebook.curves([("a", notebook.BLUE, [0.5, 1.0]), ("b", notebook.GREEN, [0.5])])
    low = 0.5 - 0.05
    [first, second] = re.findall(r'points="([^"]*)"', html)
    assert first == f"40.0,{130 - 122 * (0.5 - low) / (1 - low):.1f} 310.0,8.0"
    assert second.startswith("175.0,")
    assert "epoch 2" in html
    assert 'aria-label="Curves that end at epoch 2: a 100.0%, b 50.0%"' in html


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [0.0, 0.0]])
def test_constant_curves_are_finite(values: list[float]) -> None:
    assert "nan" not in notebook.curves([("a", notebook.BLUE, values)])
