"""One answer wherever people look: the class, or "none of these"."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from belvedere.evaluation.compare import compare
from belvedere.evaluation.metrics import compute_metrics
from belvedere.evaluation.report.comparison import write_comparison
from belvedere.evaluation.report.image_grid import draw_sheet, draw_tags
from belvedere.evaluation.run_folder import read_predictions
from belvedere.inference.batch import predict_files
from belvedere.inference.model import Model, load_model
from belvedere.inference.writers.text import write_predictions
from belvedere.reviewing.items import ReviewItem
from belvedere.reviewing.queue import Entry
from belvedere.reviewing.views import describe_reason
from belvedere.types.data import NONE_OF_THESE
from belvedere.types.prediction import Prediction
from conftest import CLASS_NAMES, make_prediction, write_image

BLUE = (0.9, 0.06, 0.04)


def none(image: str, label: str | None = None) -> Prediction:
    return replace(make_prediction(image, label, *BLUE), none_of_these=True, none_of_these_score=0.99)


@pytest.fixture(scope="module")
def strict() -> Model:
    """The model that comes with Belvedere, to which hardly anything is one of its classes."""
    return load_model(accept_rate=1e-9)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_image(tmp_path / "photo.png", "red", 1, side=64)


def test_the_answer_is_the_class_or_none_of_these() -> None:
    assert make_prediction("x.png", None, *BLUE).answer == "blue"
    assert replace(make_prediction("x.png", None, *BLUE), none_of_these=False).answer == "blue"
    assert (none("x.png").answer, none("x.png").predicted_label) == (NONE_OF_THESE, "blue")
    assert Prediction("x.png", error="empty file").answer is None


def test_none_of_these_has_no_tags_but_its_most_probable_class(strict: Model, photo: Path) -> None:
    [found] = strict.predict(photo)
    [kept] = load_model(accept_rate=1.0).predict(photo)
    assert (found.answer, found.none_of_these, found.tags) == (NONE_OF_THESE, True, ())
    assert kept.answer == kept.predicted_label == found.predicted_label == kept.tags[0].name
    assert (found.probabilities, found.tag_probabilities) == (kept.probabilities, kept.tag_probabilities)


def test_every_form_has_the_same_answer(strict: Model, photo: Path, tmp_path: Path) -> None:
    for form in ("csv", "jsonl", "json", "parquet"):
        predict_files(strict, [photo], form, out=tmp_path / f"out.{form}")
    with (tmp_path / "out.csv").open(newline="") as file:
        [cells] = csv.DictReader(file)
    [row] = pq.read_table(tmp_path / "out.parquet").to_pylist()
    [line] = [json.loads(each) for each in (tmp_path / "out.jsonl").read_text().splitlines()]
    [entry] = json.loads((tmp_path / "out.json").read_text())["predictions"]
    found = [cells, row, line, entry]
    assert [each["answer"] for each in found] == [NONE_OF_THESE] * 4
    assert [each["tags"] for each in found] == ["", [], [], []]
    assert len({each["predicted_label"] for each in found} - {NONE_OF_THESE}) == 1


def test_sheet_and_heat_maps_show_the_answer_and_no_tag(strict: Model, photo: Path) -> None:
    [found] = strict.predict(photo)
    sheet = draw_sheet([(None, found)], strict.class_names)
    bold = [text.get_text() for axes in sheet.axes for text in axes.texts if text.get_fontweight() == "bold"]
    assert bold == [NONE_OF_THESE]
    drawn = draw_tags(strict, found)
    words = [text.get_text() for text in drawn.axes[0].texts]
    assert words == ["None of these", "photo.png", f"most probable: {found.predicted_label}"]


def test_figures_count_the_most_probable_class() -> None:
    found = compute_metrics(
        [none("1", "blue"), replace(none("2", "red"), none_of_these=False)], CLASS_NAMES, split="test"
    )
    assert (found.accuracy, found.num_none_of_these) == (0.5, 1)
    assert compute_metrics([make_prediction("1", "blue", *BLUE)], CLASS_NAMES, split="test").num_none_of_these is None


def test_a_run_s_table_is_read_back_with_its_answers(tmp_path: Path) -> None:
    known = replace(make_prediction("2.png", "red", *BLUE), none_of_these=False)
    write_predictions(tmp_path / "predictions.csv", [none("1.png", "red"), known], CLASS_NAMES)
    assert [each.answer for each in read_predictions(tmp_path).predictions] == [NONE_OF_THESE, "blue"]


def test_mistakes_and_changes_are_found_by_the_answer(tmp_path: Path) -> None:
    image = write_image(tmp_path / "1.png", "red", 1)
    for name, said in (("a", none(str(image), "red")), ("b", make_prediction(str(image), "red", 0.1, 0.1, 0.8))):
        (tmp_path / name).mkdir()
        write_predictions(tmp_path / name / "predictions.csv", [said], CLASS_NAMES)
    page = write_comparison(tmp_path / "out", compare(tmp_path / "a", tmp_path / "b"), overwrite=False).read_text()
    assert "none of these (most probable: blue) → red 80.0%" in page


def test_review_says_what_the_model_said() -> None:
    item = ReviewItem("1.png", Path("1.png"), "label_issue", "red", "blue", {"blue": 0.9}, 0.9, none_of_these=True)
    assert NONE_OF_THESE in describe_reason(Entry("0", item, "0" * 64, 1))
    assert NONE_OF_THESE not in describe_reason(Entry("0", replace(item, none_of_these=False), "0" * 64, 1))
