import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.errors import DatasetError, OutputExistsError, UnknownNameError, UsageError
from belvedere.evaluation.evaluate import _evaluate_dataset, evaluate, evaluate_samples
from belvedere.evaluation.metrics import compute_metrics, most_confident_errors
from belvedere.inference.model import Model
from belvedere.runtime.progress import Progress, Task
from belvedere.types.data import Sample
from belvedere.types.evaluation import Evaluation
from belvedere.types.model import Uncertainty
from belvedere.types.prediction import Prediction, Tag
from conftest import CARD, CLASS_NAMES, make_prediction, write_classes, write_image


def worked() -> Evaluation:
    """Six images of three classes, one of them unreadable: small enough to work out by hand."""
    return compute_metrics(
        [
            make_prediction("1", "blue", 0.9, 0.1, 0.0),
            make_prediction("2", "blue", 0.7, 0.2, 0.1),
            make_prediction("3", "blue", 0.1, 0.8, 0.1),
            make_prediction("4", "blue"),
            make_prediction("5", "green", 0.3, 0.7, 0.0),
            make_prediction("6", "green", 1.0, 0.0, 0.0),
        ],
        CLASS_NAMES,
        split="test",
    )


def test_figures_are_those_worked_out_by_hand() -> None:
    figures = worked()
    assert (figures.num_images, figures.num_unreadable, figures.split) == (5, 1, "test")
    assert figures.accuracy == 3 / 5
    assert figures.confusion_matrix.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert [(pair.label, pair.predicted_label, pair.count, pair.fraction) for pair in figures.confusions] == [
        ("blue", "green", 1, 1 / 3),
        ("green", "blue", 1, 1 / 2),
    ]
    blue, green, red = figures.per_class
    assert (blue.precision, blue.recall, blue.support) == (2 / 3, 2 / 3, 3)
    assert blue.f1 == pytest.approx(2 / 3)
    assert (green.precision, green.recall, green.f1, green.support) == (0.5, 0.5, 0.5, 2)
    assert (red.precision, red.recall, red.f1, red.support) == (None, None, None, 0)
    assert figures.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_probability_of_zero_is_a_large_but_finite_loss() -> None:
    least = float(np.finfo(np.float32).eps)
    by_hand = -(math.log(0.9) + 2 * math.log(0.7) + math.log(0.1) + math.log(least)) / 5
    assert worked().log_loss == pytest.approx(by_hand)


def test_calibration_error_is_that_worked_out_by_hand() -> None:
    # Bins of 1/15: 0.7 twice (both right) in (10/15, 11/15]; 0.8 (wrong) ends (11/15, 12/15]; 0.9 right; 1.0 wrong.
    assert worked().ece == pytest.approx((2 * 0.3 + 0.8 + 0.1 + 1.0) / 5)
    filled = {index: row for index, row in enumerate(worked().reliability_bins) if row.count}
    assert {index: (row.count, row.accuracy) for index, row in filled.items()} == {
        10: (2, 1.0),
        11: (1, 0.0),
        13: (1, 1.0),
        14: (1, 0.0),
    }
    assert filled[10].confidence == pytest.approx(0.7)


def test_class_without_images_has_no_metrics() -> None:
    figures = compute_metrics(
        [make_prediction("1", "blue", 0.1, 0.9, 0.0), make_prediction("2", "red", 0.0, 0.0, 1.0)],
        CLASS_NAMES,
        split="val",
    )
    blue, green, _ = figures.per_class
    assert (green.precision, green.recall, green.f1) == (None, None, None)
    assert (blue.precision, blue.recall, blue.f1) == (None, 0.0, 0.0)
    assert figures.macro_f1 == 0.5  # over blue and red: no image shows green


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.floats(0.01, 1), min_size=3, max_size=3)), min_size=1, max_size=40
)


@given(ROWS)
def test_figures_agree_with_scikit_learn(rows: Sequence[tuple[int, list[float]]]) -> None:
    labels = np.array([label for label, _ in rows])
    weights = np.array([values for _, values in rows])
    probabilities = weights / weights.sum(1, keepdims=True)
    predictions = [
        make_prediction("x", CLASS_NAMES[label], *row) for label, row in zip(labels, probabilities, strict=True)
    ]
    figures = compute_metrics(predictions, CLASS_NAMES, split="test")
    answers = probabilities.argmax(1)
    present = np.unique(labels)
    macro_f1 = metrics.f1_score(labels, answers, labels=present, average="macro", zero_division=0)
    assert figures.accuracy == metrics.accuracy_score(labels, answers)
    assert figures.macro_f1 == pytest.approx(macro_f1)
    assert figures.log_loss == pytest.approx(metrics.log_loss(labels, probabilities, labels=[0, 1, 2]))
    assert np.array_equal(figures.confusion_matrix, metrics.confusion_matrix(labels, answers, labels=[0, 1, 2]))
    assert sum(row.count for row in figures.reliability_bins) == len(rows)
    assert sum(pair.count for pair in figures.confusions) == len(rows) - round(figures.accuracy * len(rows))


def test_nothing_readable_is_refused() -> None:
    with pytest.raises(DatasetError):
        compute_metrics([make_prediction("1", "blue"), make_prediction("2", "red")], CLASS_NAMES, split="test")


def test_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(UnknownNameError) as caught:
        compute_metrics([make_prediction("1", "greens", 1, 0, 0)], CLASS_NAMES, split="test")
    assert (caught.value.name, caught.value.suggestion, caught.value.choices) == ("greens", "green", CLASS_NAMES)


def test_most_confident_mistakes_come_first_and_unreadable_ones_are_none() -> None:
    assert [mistake.image for mistake in most_confident_errors(worked(), 9)] == ["6", "3"]
    assert [mistake.image for mistake in most_confident_errors(worked(), 1)] == ["6"]


def test_metrics_hold_no_single_predictions() -> None:
    figures = worked().to_dict()
    assert figures["class_names"] == list(CLASS_NAMES)
    assert figures["accuracy"] == 0.6
    assert "predictions" not in figures


# On images


def test_folder_is_measured_with_labels_and_unreadable_files(opened: Model, tmp_path: Path) -> None:
    write_classes(tmp_path, 4)
    write_image(tmp_path / "red/mislabelled.png", "blue")
    (tmp_path / "red/broken.png").write_text("no image")
    figures = evaluate(opened, load_dataset(tmp_path))
    assert (figures.num_images, figures.num_unreadable, figures.split) == (13, 1, "all")
    assert figures.accuracy == 12 / 13
    assert [(pair.label, pair.predicted_label, pair.count) for pair in figures.confusions] == [("red", "blue", 1)]
    assert {answer.label for answer in figures.predictions} == set(CLASS_NAMES)
    broken = next(answer for answer in figures.predictions if answer.error)
    assert (broken.image, broken.label) == (str(tmp_path / "red/broken.png"), "red")


@pytest.mark.parametrize(("parts", "measured"), [(("train", "val", "test"), "test"), (("train", "val"), "val")])
def test_split_to_report_on_is_chosen(parts: Sequence[str], measured: str, opened: Model, tmp_path: Path) -> None:
    for number, part in enumerate(parts):
        write_classes(tmp_path / part, number + 1)
    figures = evaluate(opened, load_dataset(tmp_path))
    assert (figures.split, figures.num_images) == (measured, 3 * len(parts))


def test_classes_without_images_are_named(opened: Model, tmp_path: Path) -> None:
    log = Recorded()
    evaluate(opened, write_classes(tmp_path / "some", 2, ("red", "blue")), progress=log)
    evaluate(opened, write_classes(tmp_path / "all", 2), progress=log)
    assert [message for message in log.lines if "No image of" in message] == [
        "Warning: No image of 1 of the 3 classes of the model, which have no metrics: green"
    ]


def test_training_split_alone_is_refused(opened: Model, tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 1)
    with pytest.raises(DatasetError, match=tmp_path.name):
        evaluate(opened, load_dataset(tmp_path))


def test_class_that_the_model_does_not_know_is_refused_with_the_nearest(opened: Model, tmp_path: Path) -> None:
    write_image(tmp_path / "greeen/1.png", "green")
    with pytest.raises(UnknownNameError) as caught:
        evaluate(opened, load_dataset(tmp_path))
    assert (caught.value.name, caught.value.suggestion, caught.value.exit_code) == ("greeen", "green", 2)


# By hand, with a model that gives these predictions


class Recorded(Progress):
    """Records messages, tasks and what they count."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[tuple[str, int, int]] = []  # description, images announced, images done

    def log(self, message: str) -> None:
        self.lines.append(message)

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        done: list[int] = []

        class Counting(Task):
            def advance(self, images: int, figures: str = "") -> None:
                done.append(images)

        yield Counting()
        self.tasks.append((description, images, sum(done)))


def fake_model(
    predictions: Mapping[str, Prediction],
    uncertainty: Uncertainty = Uncertainty(),  # noqa: B008 - immutable
    accept_rate: float | None = None,
) -> Model:
    """A model that has these predictions by file name."""

    def predict_sources(paths: Iterable[Path], **_: object) -> Iterator[Prediction]:
        return (predictions[Path(path).name] for path in paths)

    card = replace(CARD, uncertainty=uncertainty)
    fake = SimpleNamespace(
        name="fake.onnx", class_names=CLASS_NAMES, card=card, accept_rate=accept_rate, predict_sources=predict_sources
    )
    return cast(Model, fake)


def sample(name: str, label: str, *extra: str, areas: tuple[float, ...] = ()) -> Sample:
    return Sample(Path(name), f"given/{name}", label, "test", extra, areas)


def tagged(image: str, *probabilities: float, areas: Mapping[str, float], none: bool = False) -> Prediction:
    """Blue is the most probable class; the tags are those with an area."""
    tags = tuple(Tag(name, area, 0.9) for name, area in areas.items())
    plain = make_prediction(image, None, 0.5, 0.3, 0.2)
    return replace(plain, tags=tags, tag_probability_values=probabilities, none_of_these=none)


def test_tags_are_measured_by_hand() -> None:
    """Images of a threshold: blue+green, green, none of these. Areas count where a table gives them."""
    predictions = {
        "1": tagged("1", 0.1, 0.5, 0.49, areas={"blue": 0.75, "green": 0.25}),
        "2": tagged("2", 0.9, 0.8, 0.1, areas={"blue": 1.0}),
        "3": tagged("3", 0.9, 0.2, 0.6, areas={}, none=True),
        "4": make_prediction("4", None),
    }
    samples = [
        sample("1", "blue", "green", areas=(0.5, 0.5)),
        sample("2", "green", "violet", areas=(0.75, 0.25)),  # violet is no class of the model
        sample("3", "blue", "red", areas=(0.5, 0.5)),
        sample("4", "red"),
    ]
    progress = Recorded()
    found = evaluate_samples(fake_model(predictions), samples, progress, split="test")
    assert progress.tasks == [("Evaluating", 4, 4)]
    assert [(each.image, each.label) for each in found.predictions] == [
        ("given/1", "blue"),
        ("given/2", "green"),
        ("given/3", "blue"),
        ("given/4", "red"),
    ]
    assert (found.num_images, found.num_unreadable, found.split) == (3, 1, "test")
    tags = found.tags
    assert tags is not None
    assert tags.num_images == 3
    # Tagged: blue, green; blue, green; blue, red. True: blue, green; green; blue, red.
    assert tags.micro_f1 == pytest.approx(2 * 5 / (6 + 5))
    assert tags.macro_f1 == pytest.approx((2 * 2 / 5 + 1 + 1) / 3)
    # Areas of the first: |0.75-0.5|, |0.25-0.5|, 0; of the second: |1-0|, |0-0.75|, 0; of the third they do not count.
    assert tags.area_mae == pytest.approx((0.25 + 0.25 + 1 + 0.75) / 6)
    # Blue: 0.9 twice, of which one is true, then 0.1; green: 0.8 and 0.5 are true; red: 0.6 is.
    assert tags.average_precision == pytest.approx((0.5 * 0.5 + 0.5 * 2 / 3, 1.0, 1.0))


def test_tags_need_several_labels_and_tag_probabilities() -> None:
    single = {"1": tagged("1", 0.9, 0.8, 0.1, areas={"blue": 1.0})}
    assert evaluate_samples(fake_model(single), [sample("1", "blue")], Progress(), split="all").tags is None
    plain = {"1": make_prediction("1", None, 0.5, 0.3, 0.2)}
    assert evaluate_samples(fake_model(plain), [sample("1", "blue", "red")], Progress(), split="all").tags is None
    found = evaluate_samples(fake_model(single), [sample("1", "blue", "red")], Progress(), split="all").tags
    assert found is not None
    assert found.area_mae is None  # the table gives no areas


def test_an_area_fraction_without_its_label_is_an_error() -> None:
    single = {"1": tagged("1", 0.9, 0.8, 0.1, areas={"blue": 1.0})}
    with pytest.raises(ValueError, match="zip"):
        evaluate_samples(fake_model(single), [sample("1", "blue", "red", areas=(0.5,))], Progress(), split="all")


def test_known_predictions_are_not_made_again() -> None:
    known = {"given/2": make_prediction("elsewhere", None, 0.0, 1.0, 0.0)}
    model = fake_model({"1": make_prediction("1", None, 1.0, 0.0, 0.0), "3": make_prediction("3", None, 0.0, 0.0, 1.0)})
    samples = [sample("1", "blue"), sample("2", "green"), sample("3", "red")]
    progress = Recorded()
    found = evaluate_samples(model, samples, progress, split="val", known=known)
    assert [(each.image, each.label, each.predicted_label) for each in found.predictions] == [
        ("given/1", "blue", "blue"),
        ("given/2", "green", "green"),
        ("given/3", "red", "red"),
    ]
    assert progress.tasks == [("Evaluating", 3, 3)]
    assert found.uncalibrated is None


def test_figures_without_the_models_temperature() -> None:
    model = fake_model({"1": make_prediction("1", None, 0.8, 0.1, 0.1)}, Uncertainty(temperature=2.0))
    found = evaluate_samples(model, [sample("1", "blue")], Progress(), split="val")
    assert found.uncalibrated is not None
    assert found.uncalibrated.log_loss == pytest.approx(-math.log(0.64 / 0.66))  # 0.8^2, 0.1^2, 0.1^2


def scored(image: str, score: float, confidence: float) -> Prediction:
    rest = (1 - confidence) / 2
    return replace(
        make_prediction(image, None, confidence, rest, rest), none_of_these_score=score, none_of_these=score > 0.9
    )


OOD_PREDICTIONS = {
    "1.png": scored("1", 0.1, 0.9),
    "2.png": scored("2", 0.4, 0.8),
    "3.png": make_prediction("3", None),
    "a.png": scored("a", 0.3, 0.85),
    "b.png": scored("b", 0.95, 0.5),
    "c.png": make_prediction("c", None),
}


def ood_case(tmp_path: Path) -> tuple[Dataset, Path]:
    for name in "123":
        write_image(tmp_path / f"data/blue/{name}.png", "blue", int(name))
    for name in "abc":
        write_image(tmp_path / f"ood/{name}.png", "red")
    return load_dataset(tmp_path / "data"), tmp_path / "ood"


@pytest.mark.parametrize(
    ("accept_rate", "accepted"), [(None, (0.5, 0.5)), (0.4, (1.0, 0.5)), (0.05, (0.0, 0.0)), (0.95, (1.0, 1.0))]
)
def test_detection_by_hand(accept_rate: float | None, accepted: tuple[float, float], tmp_path: Path) -> None:
    """The model's own acceptance is 0.3; of the scores 0.1 and 0.4 of two images, 0.385 is the 95% quantile."""
    dataset, folder = ood_case(tmp_path)
    model = fake_model(OOD_PREDICTIONS, Uncertainty(ood_score_quantiles=(0.0, 1.0), ood_acceptance=0.3), accept_rate)
    progress = Recorded()
    found = _evaluate_dataset(model, dataset, folder, progress)
    assert (found.split, found.num_images, found.num_unreadable, found.num_none_of_these) == ("all", 2, 1, 0)
    ood = found.ood
    assert ood is not None
    assert (ood.num_images, ood.num_unreadable) == (2, 1)
    assert ood.auroc == 0.75
    assert ood.fpr_at_95_tpr == 0.5
    assert (ood.id_acceptance_rate, ood.ood_acceptance_rate) == accepted
    assert ood.msp_auroc == 0.75  # 0.85 is less confident than one of two, 0.5 than both
    assert ood.msp_fpr_at_95_tpr == 0.5  # the quantile of -0.9 and -0.8 is -0.805
    assert progress.tasks == [("Evaluating", 3, 3), ("Evaluating OOD images", 3, 3)]
    [line] = progress.lines
    assert {"1", "3"} <= set(line.split())


def test_every_readable_ood_image_leaves_no_message(tmp_path: Path) -> None:
    dataset, folder = ood_case(tmp_path)
    model = fake_model(OOD_PREDICTIONS | {"c.png": scored("c", 0.5, 0.5)}, Uncertainty(ood_score_quantiles=(0.0, 1.0)))
    progress = Recorded()
    found = _evaluate_dataset(model, dataset, folder, progress).ood
    assert found is not None
    assert (found.num_images, found.num_unreadable, progress.lines) == (3, 0, [])
    assert _evaluate_dataset(model, dataset, None, progress).ood is None


def test_ood_images_that_can_not_be_measured_are_refused(tmp_path: Path) -> None:
    dataset, folder = ood_case(tmp_path)
    with pytest.raises(UsageError) as no_score:
        _evaluate_dataset(fake_model(OOD_PREDICTIONS), dataset, folder, Progress())
    assert "fake.onnx" in str(no_score.value)
    fitted = Uncertainty(ood_score_quantiles=(0.0, 1.0))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError) as no_images:
        _evaluate_dataset(fake_model(OOD_PREDICTIONS, fitted), dataset, empty, Progress())
    assert str(empty) in str(no_images.value)
    unreadable = OOD_PREDICTIONS | {name: make_prediction(name, None) for name in ("a.png", "b.png", "c.png")}
    with pytest.raises(UsageError) as none_readable:
        _evaluate_dataset(fake_model(unreadable, fitted), dataset, folder, Progress())
    assert "3" in str(none_readable.value).split()


def test_results_folder(opened: Model, tiny_model: Path, tmp_path: Path) -> None:
    data, out = write_classes(tmp_path / "data", 2), tmp_path / "out"
    (data / "red/=broken.png").write_text("no image")
    progress = Recorded()
    found = evaluate(str(tiny_model), str(data), out=str(out), spreadsheet=True, progress=progress)
    assert (found.num_images, found.num_unreadable) == (6, 1)
    assert [task for task in progress.tasks if task[0] == "Evaluating"] == [("Evaluating", 7, 7)]
    assert progress.lines[0] == f"Model: {opened.identity}"
    assert any("=broken.png" in line for line in progress.lines[1:])
    written = json.loads((out / "metrics.json").read_text())
    assert (written["num_images"], written["split"], written["accuracy"]) == (6, "all", 1.0)
    report = (out / "report.html").read_text()
    assert f"model.onnx on {data}" in report
    assert "=broken.png" in report
    with pytest.raises(OutputExistsError):
        evaluate(opened, data, out=data)
    (out / "report.html").unlink()
    evaluate(opened, data, out=out, overwrite=True)
    assert (out / "report.html").is_file()
    with pytest.raises(UsageError):
        evaluate(opened, data, out=data / "red", overwrite=True)
    assert len(list((data / "red").iterdir())) == 3
