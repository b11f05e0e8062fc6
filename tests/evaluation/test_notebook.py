"""Results in a notebook: their tables and images; small, even for many classes and noisy images."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import belvedere
from belvedere.evaluation.calibrate import CalibrationMetrics
from belvedere.evaluation.metrics import compute_metrics
from belvedere.evaluation.report.notebook import MAX_CHANGES, MAX_CLASS_ROWS, MAX_CONFUSIONS, MAX_MISTAKES, MAX_SAMPLES
from belvedere.types.data import DataWarning
from belvedere.types.evaluation import Evaluation, TagMetrics
from belvedere.types.model import Uncertainty
from conftest import CLASS_NAMES, make_prediction, write_classes, write_image
from notebook_html import NotebookHtml
from run_folders import write_both

MAX_BYTES = 300_000


def evaluate_mistakes(folder: Path, number: int) -> Evaluation:
    """Return an evaluation with mistakes only, and one image that is missing."""
    images = [write_image(folder / "red" / f"{index}.png", "red", index) for index in range(number)]
    predictions = [
        make_prediction(str(image), "red", 0.2, 0.5 + index / 1000, 0.1) for index, image in enumerate(images)
    ]
    return compute_metrics([*predictions, make_prediction("gone.png", "red", 0.1, 0.9, 0.0)], CLASS_NAMES, split="test")


def test_a_dataset_shows_numbers_and_a_row_of_images_for_each_round(tmp_path: Path) -> None:
    write_classes(tmp_path / "images" / "train", 8)
    write_classes(tmp_path / "images" / "test", 2, CLASS_NAMES[:1])
    (tmp_path / "images" / "note.txt").touch()
    read = NotebookHtml(belvedere.load_dataset(tmp_path / "images")._repr_html_())
    assert f"{tmp_path / 'images'}: 26 images" in read.texts
    start = read.texts.index("class")
    assert read.texts[start : start + 12] == [
        *("class", "train", "test"),
        *("blue", "8", "2"),
        *("green", "8", "0"),
        *("red", "8", "0"),
    ]
    assert len(read.sources) == MAX_SAMPLES
    assert read.texts[-3:] == list(CLASS_NAMES)
    assert any(text.startswith("Warning: ") for text in read.texts)


def test_the_images_of_each_class_are_in_its_column(tmp_path: Path) -> None:
    for each, name in zip((8, 1, 3), CLASS_NAMES, strict=True):
        write_classes(tmp_path, each, [name])
    html = belvedere.load_dataset(tmp_path)._repr_html_() or ""
    cells = re.findall(r"<div></div>|<figure>.*?</figure>", html[html.index("grid-template-columns: repeat(3,") :])
    assert len(cells) == 6 * 3
    shown = [[NotebookHtml(cell).texts for cell in cells[column::3]] for column in range(3)]
    assert shown == [
        [[name]] * number + [[]] * (6 - number) for name, number in zip(CLASS_NAMES, (6, 1, 3), strict=True)
    ]


def test_a_dataset_without_splits_and_with_many_classes_is_small(tmp_path: Path) -> None:
    names = [f"class {index:03d}" for index in range(120)]
    for name in names:
        write_image(tmp_path / name / "1.png", "red")
    read = NotebookHtml(belvedere.load_dataset(tmp_path)._repr_html_())
    assert {"images", f"{120 - MAX_CLASS_ROWS} more classes"} <= {*read.texts}
    assert len(read.sources) == MAX_CLASS_ROWS


def test_an_evaluation_shows_metrics_matrix_and_mistakes(tmp_path: Path) -> None:
    read = NotebookHtml(evaluate_mistakes(tmp_path, 20)._repr_html_())
    assert {"0.0%", "21 test images", "label → prediction", "21", "Most confident mistakes"} <= {*read.texts}
    assert len(read.sources) == MAX_MISTAKES - 1
    assert read.texts.count("not readable") == 1
    captions = [text for text in read.texts if text.startswith("predicted ")]
    assert captions[0] == "predicted green 90.0%"
    assert "red/19.png" in read.texts


def test_images_of_a_table_are_found_by_their_path(tiny_model: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "1.png", "red")
    (tmp_path / "data.csv").write_text("image,label\nimages/1.png,blue\n")
    evaluation = belvedere.evaluate(tiny_model, tmp_path / "data.csv")
    assert len(NotebookHtml(evaluation._repr_html_()).sources) == 1
    assert "paths" not in evaluation.to_dict()


def test_an_evaluation_without_mistakes_has_no_images() -> None:
    evaluation = compute_metrics([make_prediction("1.png", "red", 0.0, 0.0, 1.0)], CLASS_NAMES, split="all")
    read = NotebookHtml(evaluation._repr_html_())
    assert read.sources == []
    assert "1 image" in read.texts
    assert "Most confident mistakes" not in read.texts


def test_many_classes_show_the_most_frequent_confusions() -> None:
    names = [f"class {index:03d}" for index in range(120)]
    predictions = [
        make_prediction(f"{index}.png", names[index], *np.eye(120)[(index + 1) % 120], names=names)
        for index in range(120)
    ]
    evaluation = compute_metrics(predictions, names, split="val")
    html = evaluation._repr_html_() or ""
    read = NotebookHtml(html)
    assert len(html) < 30_000
    assert {"120 validation images", "predicted as", f"{120 - MAX_CLASS_ROWS} more classes"} <= {*read.texts}
    assert read.tags.count("tr") == 2 + 1 + MAX_CLASS_ROWS + 1 + MAX_CONFUSIONS


def test_noise_stays_below_the_limit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    predictions = []
    for index in range(20):
        path = tmp_path / f"{index}.png"
        Image.fromarray(random.integers(0, 256, (300, 300, 3), np.uint8)).save(path)
        predictions.append(make_prediction(str(path), "red", 0.9, 0.1, 0.0))
    html = compute_metrics(predictions, CLASS_NAMES, split="test")._repr_html_() or ""
    assert len(NotebookHtml(html).sources) == MAX_MISTAKES
    assert len(html) < MAX_BYTES


def test_a_comparison_shows_the_changed_images(tmp_path: Path) -> None:
    changes = [("red", "blue", "red")] * 8 + [("blue", "blue", "green")] * 2 + [("red", "blue", "green")]
    before, after = write_both(tmp_path, changes)
    html = belvedere.compare(before, after)._repr_html_() or ""
    read = NotebookHtml(html)
    assert len(read.sources) == MAX_CHANGES + 2 + 1
    assert {"Gained: correct now, wrong before (8)", "Lost: wrong now, correct before (2)", "blue → red"} <= {
        *read.texts
    }
    assert len(html) < MAX_BYTES
    shutil.rmtree(tmp_path / "photos")
    assert NotebookHtml(belvedere.compare(before, after)._repr_html_()).texts.count("not readable") == 9


def test_only_the_first_warnings_are_shown(tmp_path: Path) -> None:
    comparison = belvedere.compare(*write_both(tmp_path, [("red", "blue", "red")]))
    warned = replace(comparison, warnings=tuple(DataWarning(f"number {index}") for index in range(7)))
    texts = NotebookHtml(warned._repr_html_()).texts
    assert [text for text in texts if text.startswith("Warning")] == [f"Warning: number {index}" for index in range(5)]
    assert "2 more warnings" in texts


@pytest.mark.parametrize("num_images", [0, 120])
def test_a_calibration_shows_what_was_fitted(num_images: int) -> None:
    tags = TagMetrics(40, 0.5, 0.75, None, (), None)
    metrics = CalibrationMetrics(log_loss=0.5 if num_images else None, tags=tags)
    calibration = belvedere.Calibration(Path("<m>.onnx"), metrics, metrics, num_images, 40, 0, 0.0, Uncertainty())
    texts = NotebookHtml(calibration._repr_html_()).texts
    assert texts[0] == "Calibration: <m>.onnx"
    assert {"tags: micro F1", "75.0%", "Fitted on 40 images: tags."} <= {*texts}
    assert ("log loss" in texts) == (num_images > 0)
