"""Results: one line of text, plain values that equal the files, arrays, and HTML without what is above them."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import belvedere
from belvedere.demo.demo import DetectionScore
from belvedere.evaluation.calibrate import CalibrationMetrics
from belvedere.evaluation.metrics import compute_metrics
from belvedere.training.run import Run
from belvedere.types.audit import Audit
from belvedere.types.evaluation import Evaluation
from belvedere.types.model import Uncertainty
from belvedere.types.prediction import Prediction
from belvedere.types.result import short_repr, to_plain
from conftest import CLASS_NAMES, make_prediction, write_classes
from run_folders import write_both


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data") / "images", 3)


def read_json(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text("utf-8"))
    return content


def test_short_repr_and_plain_values() -> None:
    assert short_repr(Prediction("a"), name="x\n", value=0.123456, count=None) == (
        r"Prediction(name='x\n', value=0.1235, count=None)"
    )
    value = {"a": (1, Path("b")), "c": [np.arange(2), np.float32(0.5)], 3: DetectionScore("d", 1, 2, 0)}
    assert to_plain(value) == {
        "a": [1, "b"],
        "c": [[0, 1], 0.5],
        "3": {"name": "d", "planted": 1, "flagged": 2, "correct": 0},
    }


def test_an_evaluation_is_its_file(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    evaluation = belvedere.evaluate(tiny_model, data, out=tmp_path / "out")
    assert repr(evaluation) == "Evaluation(split='all', num_images=9, accuracy=1, macro_f1=1)"
    metrics, content = evaluation.to_dict(), read_json(tmp_path / "out" / "metrics.json")
    assert metrics == {name: content[name] for name in metrics}
    assert list(content)[: len(metrics)] == list(metrics)
    assert json.loads(json.dumps(metrics)) == metrics
    assert evaluation == pickle.loads(pickle.dumps(evaluation))  # noqa: S301 - our own
    assert evaluation != replace(evaluation, accuracy=0.5)


@pytest.mark.parametrize("normalize", ["true", "pred", "all"])
def test_the_confusion_matrix_is_that_of_scikit_learn(normalize: str) -> None:
    random = np.random.default_rng(0)
    labels, predicted = random.choice(CLASS_NAMES[:2], 40), random.choice(CLASS_NAMES[1:], 40)
    one_hot = {name: [float(name == other) for other in CLASS_NAMES] for name in CLASS_NAMES}
    predictions = [
        make_prediction(f"{index}", label, *one_hot[name])
        for index, (label, name) in enumerate(zip(labels, predicted, strict=True))
    ]
    evaluation = compute_metrics(predictions, CLASS_NAMES, split="test")
    matrix = evaluation.confusion_matrix
    assert matrix.dtype == np.int64
    assert np.array_equal(matrix, confusion_matrix(labels, predicted, labels=CLASS_NAMES))
    expected = confusion_matrix(labels, predicted, labels=CLASS_NAMES, normalize=normalize)
    assert evaluation.normalized_confusion_matrix(normalize) == pytest.approx(expected)  # type: ignore[arg-type]


def test_the_confusion_matrix_is_read_only_and_normalizations_are_named(data: Path, tiny_model: Path) -> None:
    evaluation = belvedere.evaluate(tiny_model, data)
    with pytest.raises(ValueError, match="read-only"):
        evaluation.confusion_matrix[0, 0] = 5
    with pytest.raises(belvedere.UnknownNameError, match="pred"):
        evaluation.normalized_confusion_matrix("prediction")  # type: ignore[arg-type]


def test_an_audit_is_its_files(data: Path, tmp_path: Path) -> None:
    audit = belvedere.audit(data, out=tmp_path / "out", label_issues=False)
    content, plain = read_json(tmp_path / "out" / "audit.json"), audit.to_dict()
    assert repr(audit) == f"Audit(data={str(data)!r}, num_images=9, num_flagged={audit.num_flagged})"
    assert set(content) - set(plain) == {"versions", "spreadsheet"}
    assert {name: plain[name] for name in plain if name != "issues"} == {
        name: content[name] for name in plain if name in content
    }
    assert [each["image"] for each in plain["issues"]] == [issue.image for issue in audit.issues]
    columns = (tmp_path / "out" / "issues.csv").read_text().splitlines()[0].split(",")
    assert plain["issues"]
    assert all(set(each) == set(columns) for each in plain["issues"])
    assert json.loads(json.dumps(plain)) == plain


def test_a_comparison_is_its_file(tmp_path: Path) -> None:
    before, after = write_both(tmp_path, [("red", "blue", "red"), ("blue", "blue", "green"), ("red", "red", "red")])
    comparison = belvedere.compare(before, after, out=tmp_path / "out")
    assert repr(comparison) == (
        f"Comparison(before={str(before)!r}, after={str(after)!r}, num_images=3, accuracy_change=0, p_value=1)"
    )
    assert comparison.to_dict() == read_json(tmp_path / "out" / "comparison.json")


def test_a_calibration_is_plain() -> None:
    metrics = CalibrationMetrics(log_loss=0.5)
    calibration = belvedere.Calibration(Path("m.onnx"), metrics, metrics, 120, 0, 0, 0.0, Uncertainty(temperature=2.0))
    assert repr(calibration) == (
        "Calibration(path='m.onnx', num_images=120, num_tag_images=0, log_loss_before=0.5, log_loss_after=0.5)"
    )
    plain = calibration.to_dict()
    assert (plain["path"], plain["uncertainty"]["temperature"], plain["before"]["ece"]) == ("m.onnx", 2.0, None)
    assert json.loads(json.dumps(plain)) == plain


def test_a_run_has_its_model_history_and_report(trained: Path) -> None:
    from belvedere.evaluation.run_folder import read_history

    folder = trained / "run"
    history = read_history(folder / "history.csv")
    assert [row.epoch for row in history] == [1, 2, 3]
    assert all(0 <= row.validation_accuracy <= 1 for row in history)
    evaluation = belvedere.evaluate(folder, trained / "images")
    run = Run(folder, evaluation, read_json(folder / "metrics.json"), history=history)
    assert repr(run) == f"Run(folder={str(folder)!r}, recipe='quick', epochs=3, accuracy={evaluation.accuracy:.4g})"
    assert run.report.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert run.model is run.model
    assert run.model.predict(trained / "images" / "test")[0].error is None
    copy = pickle.loads(pickle.dumps(run))  # noqa: S301 - our own
    assert copy == run
    assert "model" not in vars(copy)
    assert run.to_dict() == read_json(folder / "metrics.json")
    html = run._repr_html_() or ""
    assert "<svg" in html
    assert "3 epochs" in html


def test_a_damaged_history_is_named(tmp_path: Path) -> None:
    from belvedere.evaluation.run_folder import read_history

    assert read_history(tmp_path / "history.csv") == ()
    for text in ("epoch,seconds\n1,x\n", "epoch\n1\n"):
        (tmp_path / "history.csv").write_text(text)
        with pytest.raises(belvedere.UsageError, match=r"history\.csv"):
            read_history(tmp_path / "history.csv")


def test_a_dataset_is_short(data: Path) -> None:
    assert repr(belvedere.load_dataset(data)) == f"Dataset(source={str(data)!r}, num_images=9, num_classes=3)"


def test_an_unpickled_evaluation_shows_html_without_extras(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Neither matplotlib nor Jinja is imported, nor anything else before the notebook asks."""
    (tmp_path / "evaluation.pickle").write_bytes(pickle.dumps(belvedere.evaluate(tiny_model, data)))
    code = (
        "import pickle, sys\n"
        f"evaluation = pickle.load(open({str(tmp_path / 'evaluation.pickle')!r}, 'rb'))\n"
        "assert 'belvedere.evaluation' not in sys.modules\n"
        "assert 'macro F1' in evaluation._repr_html_()\n"
        "print(sorted({'matplotlib', 'jinja2', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_subclasses_of_results_without_a_function_have_no_html() -> None:
    class Other(belvedere.Audit):
        __slots__ = ()

    other = Other("a", (), 0, (), (), (), "", (), 0.0)
    assert other._repr_html_() is None
    assert isinstance(other, Audit)
    assert Evaluation._repr_html_ is Audit._repr_html_
