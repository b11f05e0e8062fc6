"""Audit checks of the user's."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import belvedere
from belvedere.auditing.checks import CHECKS
from belvedere.auditing.register import register_check
from belvedere.errors import UsageError
from conftest import write_classes


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKS, "_values", dict(CHECKS._values))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = write_classes(tmp_path / "data", 3)
    (folder / "red" / "torn.png").write_bytes(b"\x89PNG\r\n")
    return folder


def audit(data: Path, **options: Any) -> belvedere.Audit:
    return belvedere.audit(data, label_issues=False, near_duplicates=False, **options)


def issues_of(found: belvedere.Audit, name: str) -> dict[str, tuple[float, bool, str]]:
    return {
        "/".join(Path(each.image).parts[-2:]): (each.issue_score, each.is_issue, each.message)
        for each in found.issues
        if each.issue_type == name
    }


def test_a_check_of_pixels_is_in_every_file(data: Path, tmp_path: Path) -> None:
    @register_check("redness", title="Red images", advice="Look.", message=lambda pixels: f"red {pixels[1, 1, 0]}")
    def redness(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
        assert pixels.shape == (8, 8, 3)
        with pytest.raises(ValueError, match="read-only"):
            pixels[0] = 0
        return {230: 1.0, 20: 0.3}[int(pixels[1, 1, 0])]

    found = audit(data, out=tmp_path / "audit")
    issues = issues_of(found, "redness")
    assert len(issues) == 9  # the torn file has no pixels
    assert issues["red/0.png"] == (1.0, True, "red 230")
    assert issues["blue/0.png"] == (0.3, False, "red 20")
    with (tmp_path / "audit" / "issues.csv").open(encoding="utf-8", newline="") as file:
        assert sum(row["issue_type"] == "redness" for row in csv.DictReader(file)) == 9
    checks = json.loads((tmp_path / "audit" / "audit.json").read_text("utf-8"))["checks"]
    assert checks["redness"] == {"title": "Red images", "num_flagged": 3}
    assert "Red images: 3" in (tmp_path / "audit" / "report.html").read_text("utf-8")
    assert found.warnings == ()


def test_a_check_of_statistics_gets_readable_images_and_the_medians(data: Path) -> None:
    @register_check("small", on="statistics")
    def small(image: Any, medians: Any) -> float:
        assert image.readable
        return float(image.width <= medians.shorter_side)

    issues = issues_of(audit(data), "small")
    assert len(issues) == 9
    assert set(issues.values()) == {(1.0, True, "score 1.00")}


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), None, "x"])
def test_images_of_a_failing_check_are_named_and_the_others_go_on(score: Any, data: Path) -> None:
    @register_check("odd")
    def odd(pixels: Any) -> Any:
        if pixels[1, 1, 0] == 230:
            raise ValueError("two\nlines")
        return score

    @register_check("even")
    def even(_: Any) -> float:
        return 0.5

    found = audit(data)
    [warning] = [each for each in found.warnings if "'odd'" in each.message]
    assert len(warning.names) == 9
    assert "\n" not in warning.message
    assert issues_of(found, "odd") == {}
    assert len(issues_of(found, "even")) == 9


@pytest.mark.parametrize("name", ["label_issue", "dark", "", "a b", "a/b", None])
def test_impossible_names_are_refused(name: Any) -> None:
    with pytest.raises(UsageError):
        register_check(name)(lambda _: 0.0)


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(UsageError, match="pixels"):
        register_check("mine", on="pixel")  # type: ignore[arg-type]
