import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from belvedere.data.dataset import load_dataset
from belvedere.errors import DatasetError, UnknownNameError
from belvedere.evaluation.evaluate import evaluate, measure, most_confident_errors, to_metrics
from belvedere.inference.model import Model
from belvedere.types.evaluation import Evaluation
from conftest import CLASS_NAMES, answer, write_classes, write_picture


def worked() -> Evaluation:
    """Six photographs of three classes, one of them unreadable: small enough to work out by hand."""
    return measure(
        [
            answer("1", "blue", 0.9, 0.1, 0.0),
            answer("2", "blue", 0.7, 0.2, 0.1),
            answer("3", "blue", 0.1, 0.8, 0.1),
            answer("4", "blue"),
            answer("5", "green", 0.3, 0.7, 0.0),
            answer("6", "green", 1.0, 0.0, 0.0),
        ],
        CLASS_NAMES,
        part="test",
    )


def test_figures_are_those_worked_out_by_hand() -> None:
    figures = worked()
    assert (figures.images, figures.unreadable, figures.part) == (5, 1, "test")
    assert figures.accuracy == 3 / 5
    assert figures.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 0))
    assert [(pair.label, pair.predicted_label, pair.images, pair.share) for pair in figures.confused_pairs] == [
        ("blue", "green", 1, 1 / 3),
        ("green", "blue", 1, 1 / 2),
    ]
    blue, green, red = figures.per_class
    assert (blue.precision, blue.recall, blue.images) == (2 / 3, 2 / 3, 3)
    assert blue.f1 == pytest.approx(2 / 3)
    assert (green.precision, green.recall, green.f1, green.images) == (0.5, 0.5, 0.5, 2)
    assert (red.precision, red.recall, red.f1, red.images) == (None, None, None, 0)
    assert figures.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_probability_of_zero_is_a_large_but_finite_loss() -> None:
    least = float(np.finfo(np.float32).eps)
    by_hand = -(math.log(0.9) + 2 * math.log(0.7) + math.log(0.1) + math.log(least)) / 5
    assert worked().log_loss == pytest.approx(by_hand)


def test_calibration_error_is_that_worked_out_by_hand() -> None:
    # Bins of 1/15: 0.7 twice (both right) in (10/15, 11/15]; 0.8 (wrong) ends (11/15, 12/15]; 0.9 right; 1.0 wrong.
    assert worked().ece == pytest.approx((2 * 0.3 + 0.8 + 0.1 + 1.0) / 5)
    filled = {index: row for index, row in enumerate(worked().calibration) if row.images}
    assert {index: (row.images, row.accuracy) for index, row in filled.items()} == {
        10: (2, 1.0),
        11: (1, 0.0),
        13: (1, 1.0),
        14: (1, 0.0),
    }
    assert filled[10].confidence == pytest.approx(0.7)


def test_class_that_is_answered_but_not_there_is_precise_never() -> None:
    figures = measure([answer("1", "blue", 0.1, 0.9, 0.0), answer("2", "red", 0.0, 0.0, 1.0)], CLASS_NAMES, part="val")
    blue, green, _ = figures.per_class
    assert (green.precision, green.recall) == (0.0, None)
    assert (blue.precision, blue.recall, blue.f1) == (None, 0.0, 0.0)
    assert figures.macro_f1 == 0.5  # over blue and red: no photograph shows green


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.floats(0.01, 1), min_size=3, max_size=3)), min_size=1, max_size=40
)


@given(ROWS)
def test_figures_agree_with_scikit_learn(rows: Sequence[tuple[int, list[float]]]) -> None:
    labels = np.array([label for label, _ in rows])
    weights = np.array([values for _, values in rows])
    probabilities = weights / weights.sum(1, keepdims=True)
    predictions = [answer("x", CLASS_NAMES[label], *row) for label, row in zip(labels, probabilities, strict=True)]
    figures = measure(predictions, CLASS_NAMES, part="test")
    answers = probabilities.argmax(1)
    present = np.unique(labels)
    macro_f1 = metrics.f1_score(labels, answers, labels=present, average="macro", zero_division=0)
    assert figures.accuracy == metrics.accuracy_score(labels, answers)
    assert figures.macro_f1 == pytest.approx(macro_f1)
    assert figures.log_loss == pytest.approx(metrics.log_loss(labels, probabilities, labels=[0, 1, 2]))
    assert np.array_equal(figures.confusion, metrics.confusion_matrix(labels, answers, labels=[0, 1, 2]))
    assert sum(row.images for row in figures.calibration) == len(rows)
    assert sum(pair.images for pair in figures.confused_pairs) == len(rows) - round(figures.accuracy * len(rows))


def test_nothing_readable_is_refused() -> None:
    with pytest.raises(DatasetError, match="None of the 2 photographs to measure on could be read"):
        measure([answer("1", "blue"), answer("2", "red")], CLASS_NAMES, part="test")


def test_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'green'"):
        measure([answer("1", "greens", 1, 0, 0)], CLASS_NAMES, part="test")


def test_surest_mistakes_come_first_and_unreadable_ones_are_none() -> None:
    assert [mistake.image for mistake in most_confident_errors(worked(), 9)] == ["6", "3"]
    assert [mistake.image for mistake in most_confident_errors(worked(), 1)] == ["6"]


def test_metrics_hold_no_single_answers() -> None:
    figures = to_metrics(worked())
    assert figures["classes"] == CLASS_NAMES
    assert figures["accuracy"] == 0.6
    assert "predictions" not in figures
    assert "class_names" not in figures


# On photographs


def test_folder_is_measured_with_labels_and_unreadable_files(opened: Model, tmp_path: Path) -> None:
    write_classes(tmp_path, 4)
    write_picture(tmp_path / "red/mislabelled.png", "blue")
    (tmp_path / "red/broken.png").write_text("no picture")
    figures = evaluate(opened, load_dataset(tmp_path))
    assert (figures.images, figures.unreadable, figures.part) == (13, 1, "all")
    assert figures.accuracy == 12 / 13
    assert [(pair.label, pair.predicted_label, pair.images) for pair in figures.confused_pairs] == [("red", "blue", 1)]
    assert {answer.label for answer in figures.predictions} == set(CLASS_NAMES)
    broken = next(answer for answer in figures.predictions if answer.error)
    assert (broken.image, broken.label) == (str(tmp_path / "red/broken.png"), "red")


@pytest.mark.parametrize(("parts", "measured"), [(("train", "val", "test"), "test"), (("train", "val"), "val")])
def test_part_to_report_on_is_chosen(parts: Sequence[str], measured: str, opened: Model, tmp_path: Path) -> None:
    for number, part in enumerate(parts):
        write_classes(tmp_path / part, number + 1)
    figures = evaluate(opened, load_dataset(tmp_path))
    assert (figures.part, figures.images) == (measured, 3 * len(parts))


def test_training_part_alone_is_refused(opened: Model, tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 1)
    with pytest.raises(DatasetError, match="has a training part only"):
        evaluate(opened, load_dataset(tmp_path))


def test_class_that_the_model_does_not_know_is_refused_with_the_nearest(opened: Model, tmp_path: Path) -> None:
    write_picture(tmp_path / "greeen/1.png", "green")
    with pytest.raises(UnknownNameError, match=r"for the label 'greeen'. Did you mean 'green'\?") as caught:
        evaluate(opened, load_dataset(tmp_path))
    assert caught.value.exit_code == 2
