"""docs/concepts: each page has its figure, with the command that draws it, and the figures are small."""

from pathlib import Path

import pytest
from PIL import Image

CONCEPTS = Path(__file__).parents[1] / "docs" / "concepts"
MAX_BYTES, MAX_TOTAL_BYTES = 80_000, 400_000
PAGES = sorted(CONCEPTS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_figure(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert f"({page.stem}.png)" in text
    assert f"`python docs/figures.py FOLDER {page.stem}`" in text
    assert f'"{page.stem}": draw_' in (CONCEPTS.parent / "figures.py").read_text(encoding="utf-8")


def test_figures_are_small_and_opaque() -> None:
    figures = sorted(CONCEPTS.glob("*.png"))
    assert [figure.stem for figure in figures] == [page.stem for page in PAGES]
    sizes = [figure.stat().st_size for figure in figures]
    assert max(sizes) < MAX_BYTES
    assert sum(sizes) < MAX_TOTAL_BYTES
    for figure in figures:  # a transparent one would be dark on dark in dark mode
        with Image.open(figure) as image:
            assert not image.has_transparency_data
