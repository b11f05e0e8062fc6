"""Two runs compared: the arithmetic against brute force, the matching, and the page."""

import json
import math
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere import compare
from belvedere.errors import OutputExistsError, UsageError
from belvedere.evaluation.report.comparison import describe_change, write_comparison
from belvedere.evaluation.run_folder import read_predictions
from belvedere.evaluation.significance import bootstrap_interval, compare_paired, mcnemar_exact
from conftest import make_prediction
from run_folders import SURE, write_both, write_run

IMAGE = re.compile('data:image/jpeg;base64,([^"]+)')


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    n = gained + lost
    point = [math.comb(n, k) / 2**n for k in range(n + 1)]
    expected = sum(p for k, p in enumerate(point) if abs(k - n / 2) >= abs(gained - n / 2))
    assert mcnemar_exact(gained, lost) == pytest.approx(min(1.0, expected))


def test_mcnemar_known_values() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(1, 9) == pytest.approx(22 / 1024)
    assert 0 < mcnemar_exact(3000, 2000) < 1e-40  # whole numbers do not overflow
    started = time.perf_counter()
    assert mcnemar_exact(20_000, 20_300) == pytest.approx(math.erfc(299 / math.sqrt(2 * 40_300)), rel=1e-3)
    assert time.perf_counter() - started < 10  # one step a count, not one binomial coefficient from scratch


def test_interval_equals_that_of_resampled_images() -> None:
    random = np.random.default_rng(1)
    gained, lost, images = 30, 12, 400
    changes = np.array([1] * gained + [-1] * lost + [0] * (images - gained - lost))
    drawn = changes[random.integers(0, images, (20_000, images))].mean(1)
    expected = np.quantile(drawn, [0.025, 0.975])
    assert bootstrap_interval(gained, lost, images) == pytest.approx(expected, abs=0.004)
    assert bootstrap_interval(gained, lost, images) == bootstrap_interval(gained, lost, images)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_metrics_are_consistent(pairs: list[tuple[bool, bool]]) -> None:
    before, after = (np.array(column) for column in zip(*pairs, strict=True))
    paired = compare_paired(before, after)
    assert paired.num_correct_after - paired.num_correct_before == paired.num_gained - paired.num_lost
    assert paired.accuracy_change == pytest.approx(after.mean() - before.mean())
    assert paired.ci_low <= paired.accuracy_change + 1e-9
    assert paired.ci_high >= paired.accuracy_change - 1e-9
    assert 0 < paired.p_value <= 1


def test_changed_predictions(tmp_path: Path) -> None:
    said = [
        ("blue", "blue", "blue"),
        ("blue", "red", "blue"),
        ("green", "green", "red"),
        ("red", "blue", "green"),
        ("red", "green", "red"),
    ]
    comparison = compare(*write_both(tmp_path, said))
    sides = {side: [Path(p.image).stem for p in comparison.changed(side)] for side in ("gained", "lost")}
    assert sides == {"gained": ["1", "4"], "lost": ["2"]}
    assert [Path(p.image).stem for p in comparison.changed("still_wrong")] == ["3"]
    assert (comparison.overall.num_gained, comparison.overall.num_lost, comparison.overall.num_images) == (2, 1, 5)
    assert comparison.per_class["blue"].accuracy_change == pytest.approx(0.5)
    assert comparison.warnings == ()
    content = json.loads(json.dumps(comparison.to_dict()))
    assert content["accuracy_change"] == pytest.approx(0.2)
    assert len(content["changed"]) == 4
    assert "Not statistically significant" in describe_change(comparison)


def test_images_are_matched_by_content_if_paths_differ(tmp_path: Path) -> None:
    run_a, run_b = write_both(tmp_path, [("blue", "blue", "red"), ("red", "blue", "red"), ("green", "green", "green")])
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "photos", moved)
    text = (run_b / "predictions.csv").read_text().replace(str(tmp_path / "photos"), str(moved))
    (run_b / "predictions.csv").write_text(text)
    comparison = compare(run_a, run_b)
    assert (comparison.overall.num_images, comparison.overall.num_gained, comparison.overall.num_lost) == (3, 1, 1)


def test_unmatched_images_are_reported(tmp_path: Path) -> None:
    run_a, run_b = write_both(tmp_path, [("blue", "blue", "red"), ("red", "blue", "red")])
    lines = (run_b / "predictions.csv").read_text().splitlines()
    lines[2] = lines[2].replace(",red,", ",green,", 1)  # a corrected label
    torn = make_prediction("torn.png", "red")
    (run_b / "predictions.csv").write_text("\n".join(lines) + "\n")
    old = [*read_predictions(run_a).predictions, torn]
    shutil.rmtree(run_a)
    comparison = compare(write_run(run_a, old), run_b)
    messages = [note.message for note in comparison.warnings]
    assert messages[0] == "Other label in the second run, used for both: 1 image"
    assert messages[1] == f"1 image only in {run_a}: not compared"
    assert comparison.per_class["green"].num_correct_after == 0


def test_runs_without_a_common_image_raise(tmp_path: Path) -> None:
    run_a, _ = write_both(tmp_path / "one", [("blue", "blue", "red")])
    run_b = write_run(tmp_path / "two", [make_prediction("other.png", "red", *SURE["red"])])
    with pytest.raises(UsageError, match=f"{re.escape(str(run_a))}.*{re.escape(str(run_b))}"):
        compare(run_a, run_b)


@pytest.mark.parametrize(
    "content", [None, b"", b"image,label\n", b"image,prediction,confidence,a,tags,error,label\nx\n"]
)
def test_folder_without_a_run_raises(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "run").mkdir()
    if content is not None:
        (tmp_path / "run" / "predictions.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"predictions\.csv"):
        read_predictions(tmp_path / "run")


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=4, unique=True), st.text(min_size=1, max_size=9))
def test_predictions_round_trip(tmp_path: Path, names: list[str], image: str) -> None:
    names = [name for name in names if name.encode(errors="replace").decode() == name] + ["image", "tags"]
    if image.encode(errors="replace").decode() != image:
        return
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    probabilities = [0.5, 0.5, *([0.0] * (len(set(names)) - 2))]
    names = list(dict.fromkeys(names))
    written = [
        make_prediction(image, names[0], *probabilities, names=names),
        make_prediction("torn", names[1], names=names),
    ]
    run = write_run(tmp_path / "run", written, names)
    (run / "metrics.json").write_text(json.dumps({"class_names": names}))
    read = read_predictions(run)
    assert read.class_names == tuple(names)
    assert list(read.predictions) == written


def test_page_is_self_contained(tmp_path: Path) -> None:
    run_a, run_b = write_both(tmp_path, [("blue", "blue", "red"), ("red", "blue", "red"), ("green", "red", "blue")])
    (tmp_path / "photos" / "green" / "2.png").unlink()
    page = write_comparison(tmp_path / "out", compare(run_a, run_b), overwrite=False).read_text()
    assert page.count("data:image/jpeg") == 2
    assert "no longer there" in page
    assert not re.search(r"https?://|<script.*src|@import|src=\"(?!data:)", page)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["num_gained"] == 1
    with pytest.raises(OutputExistsError):
        write_comparison(tmp_path / "out", compare(run_a, run_b), overwrite=False)


def test_page_finds_images_relative_to_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are relative to the working folder of the runs, which is not the current one."""
    for run in write_both(tmp_path / "job", [("blue", "blue", "red"), ("red", "blue", "red")]):
        table = run / "predictions.csv"
        table.write_text(table.read_text().replace(f"{tmp_path / 'job'}{os.sep}", ""))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    comparison = compare(Path("..", "job", "a"), Path("..", "job", "b"))
    assert comparison.pairs[0].image == str(Path("photos", "blue", "0.png"))
    page = write_comparison(tmp_path / "out", comparison, overwrite=False).read_text()
    assert page.count("data:image/jpeg") == 2
    shutil.copytree(tmp_path / "job" / "photos", "photos")  # then they are where they are said to be
    shutil.rmtree(tmp_path / "job" / "photos")
    moved = write_comparison(tmp_path / "out", comparison, overwrite=True).read_text()
    assert IMAGE.findall(moved) == IMAGE.findall(page)


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ("<b>", "x")
    for run, said in (("a", (0.9, 0.1)), ("b", (0.1, 0.9))):
        write_run(tmp_path / run, [make_prediction("<img src=x>.png", "<b>", *said, names=names)], names)
    page = write_comparison(tmp_path / "out", compare(tmp_path / "a", tmp_path / "b"), overwrite=False).read_text()
    assert "<b>" not in page
    assert "<img src=x>" not in page
