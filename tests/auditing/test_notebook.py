"""An audit in a notebook: its checks, and the images with the highest scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import belvedere
from belvedere.auditing.checks import CHECKS
from belvedere.auditing.notebook import MAX_CHECK_IMAGES
from belvedere.types.audit import Audit
from conftest import write_classes
from notebook_html import NotebookHtml

DARK = f"{CHECKS['dark'].title} (10)"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Return an audit of ten dark images, a file that is no image, and three copies."""
    data = tmp_path_factory.mktemp("data") / "images"
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        for index in range(10):
            pixels = random.integers(0, 255 if index < 5 else 6, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(data / name / f"{index}.png")
    (data / "b" / "copy.png").write_bytes((data / "a" / "0.png").read_bytes())
    (data / "b" / "again.png").write_bytes((data / "a" / "0.png").read_bytes())
    (data / "b" / "<broken>.png").write_bytes(b"no image")
    return belvedere.audit(data, label_issues=False)


def test_the_flagged_images_are_shown(audit: Audit) -> None:
    html = audit._repr_html_() or ""
    read = NotebookHtml(html)
    assert {"Duplicates with conflicting labels", "Duplicates with conflicting labels (3)", "group 1"} <= {*read.texts}
    assert {DARK, "not readable", "b/<broken>.png"} <= {*read.texts}
    assert len(html) < 300_000


def test_a_group_is_shown_once_and_a_check_shows_a_few_images(audit: Audit) -> None:
    texts = NotebookHtml(audit._repr_html_()).texts
    assert "Duplicate files" in texts
    assert "Duplicate files (3)" not in texts
    dark = texts[texts.index(DARK) :]
    assert len([text for text in dark[: 2 * MAX_CHECK_IMAGES + 1] if text.endswith(".png")]) == MAX_CHECK_IMAGES


def test_an_audit_without_issues_is_one_line(tmp_path: Path) -> None:
    audit = belvedere.audit(write_classes(tmp_path / "images", 12), label_issues=False, near_duplicates=False)
    clean = replace(
        audit,
        issues=(),
        groups=(),
        class_issues=(),
        checks=tuple(replace(each, num_flagged=0) for each in audit.checks),
    )
    read = NotebookHtml(clean._repr_html_())
    assert "table" not in read.tags
    assert f"{len(audit.checks)} of {len(audit.checks)} checks found nothing." in read.texts[1]


def test_images_of_a_table_are_found_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    for index in range(4):
        Image.fromarray(np.full((40, 40, 3), index, np.uint8)).save(tmp_path / "images" / "a" / f"{index}.png")
    rows = "".join(f"images/a/{index}.png,a\n" for index in range(4))
    (tmp_path / "data.csv").write_text(f"image,label\n{rows}")
    read = NotebookHtml(belvedere.audit(tmp_path / "data.csv", label_issues=False)._repr_html_())
    assert read.sources
    assert "not readable" not in read.texts
