"""One contract for the writers of all formats: what is written is read back, and no file is lost."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from belvedere.errors import OutputExistsError, UsageError
from belvedere.inference.batch import predict_files
from belvedere.inference.model import Model
from belvedere.inference.writers.detect import is_predictions_file
from belvedere.inference.writers.resumable import RESUMABLE, open_resumable
from belvedere.inference.writers.text import WRITERS, open_writer
from belvedere.types.prediction import Prediction, Tag
from conftest import CLASS_NAMES, MODEL, write_classes

FORMATS = ("csv", "jsonl", "json", "parquet")
Row = dict[str, Any]  # the same keys in each format; None where there is no value

# Probabilities of eighths are exact in six digits, in float32 and in JSON.
PLAIN = Prediction(
    "images/1.png",
    "green",
    0.625,
    (0.25, 0.625, 0.125),
    tags=(Tag("green", 0.75, 0.875), Tag("blue", 0.25, 0.5)),
    prediction_set=("green", "blue"),
    none_of_these=False,
    none_of_these_score=0.375,
    class_names=CLASS_NAMES,
)
NONE = Prediction(
    "images/2.png",
    "red",
    0.5,
    (0.25, 0.25, 0.5),
    none_of_these=True,
    none_of_these_score=1.0,
    prediction_set=("red",),
    class_names=CLASS_NAMES,
)
UNKNOWN = Prediction(
    "images/3.png", "blue", 1.0, (1.0, 0.0, 0.0), class_names=CLASS_NAMES
)  # of a model without uncertainty
UNREADABLE = Prediction("images/4.png", error="empty file")
SURROGATE = Prediction("images/caf\udce9.png", error="no such file: caf\udce9.png")
ODD = [
    Prediction(f"{name}.png", "red", 0.5, (0.25, 0.25, 0.5), class_names=CLASS_NAMES)
    for name in ("a,b", 'q"uote', "two\nlines", "a\r\nb", "=1+1", "naïve", "\u2028")
]


def write(format: str, predictions: Iterable[Prediction], path: Path) -> Path:
    """Write predictions through the writer that `predict` uses for files of a format."""
    if format in RESUMABLE:
        with open_resumable(path, format, CLASS_NAMES, MODEL, "fingerprint", resume=False) as (rows, _):
            for each in predictions:
                rows.write(each)
    else:
        with open_writer(format, path, CLASS_NAMES, MODEL) as writer:
            for each in predictions:
                writer.write(each)
    return path


def read_csv(path: Path) -> list[Row]:
    def number(cell: str) -> float | None:
        return float(cell) if cell else None

    with path.open(encoding="utf-8", newline="") as file:
        return [
            {
                "image": row["image"],
                "answer": row["answer"] or None,
                "predicted_label": row["predicted_label"] or None,
                "confidence": number(row["confidence"]),
                "probabilities": [number(row[f"prob_{name}"]) for name in CLASS_NAMES] if row["confidence"] else None,
                "tags": [(tag.rpartition(":")[0], float(tag.rpartition(":")[2])) for tag in split(row["tags"])],
                "prediction_set": split(row["prediction_set"]),
                "none_of_these": {"": None, "true": True, "false": False}[row["none_of_these"]],
                "none_of_these_score": number(row["none_of_these_score"]),
                "error": row["error"] or None,
            }
            for row in csv.DictReader(file, strict=True)
        ]


def split(cell: str) -> list[str]:
    return cell.split("|") if cell else []


def from_json(row: Row) -> Row:
    values = row["probabilities"]
    return {
        **{key: row[key] for key in ("image", "answer", "predicted_label", "confidence")},
        "probabilities": None if values is None else [values[name] for name in CLASS_NAMES],
        "tags": [(tag["name"], tag["area_fraction"]) for tag in row["tags"]],
        **{key: row[key] for key in ("prediction_set", "none_of_these", "none_of_these_score", "error")},
    }


def read_parquet(path: Path) -> list[Row]:
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        values = [row[f"prob_{name}"] for name in CLASS_NAMES]
        row["probabilities"] = None if None in values else dict(zip(CLASS_NAMES, values, strict=True))
    return [from_json(row) for row in rows]


READERS: dict[str, Callable[[Path], list[Row]]] = {
    "csv": read_csv,
    "jsonl": lambda path: [from_json(json.loads(line)) for line in path.read_text("utf-8").split("\n")[:-1]],
    "json": lambda path: [from_json(row) for row in json.loads(path.read_text("utf-8"))["predictions"]],
    "parquet": read_parquet,
}


def expected(prediction: Prediction) -> Row:
    return {
        "image": prediction.image,
        "answer": prediction.answer,
        "predicted_label": prediction.predicted_label,
        "confidence": prediction.confidence,
        "probabilities": list(prediction.probability_values) or None,
        "tags": [(tag.name, tag.area_fraction) for tag in prediction.tags],
        "prediction_set": list(prediction.prediction_set),
        "none_of_these": prediction.none_of_these,
        "none_of_these_score": prediction.none_of_these_score,
        "error": prediction.error,
    }


def test_every_format_is_covered() -> None:
    assert {*FORMATS} == {*WRITERS, *RESUMABLE} - {"table"} == {*READERS}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "predictions",
    [[PLAIN], [NONE], [UNKNOWN], [UNREADABLE], [UNREADABLE, PLAIN, NONE, UNKNOWN], ODD, []],
    ids=["plain", "none-of-these", "no-uncertainty", "unreadable", "mixed", "odd-names", "empty"],
)
def test_values_round_trip(format: str, predictions: Sequence[Prediction], tmp_path: Path) -> None:
    path = write(format, predictions, tmp_path / f"out.{format}")
    assert READERS[format](path) == [expected(each) for each in predictions]
    assert is_predictions_file(path, format) or (format == "jsonl" and not predictions)  # an empty file
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("format", FORMATS)
def test_probabilities_keep_six_digits(format: str, tmp_path: Path) -> None:
    values = (0.123456, 0.876543, 0.000001)
    path = write(
        format, [Prediction("a.png", "green", values[1], values, class_names=CLASS_NAMES)], tmp_path / f"out.{format}"
    )
    [row] = READERS[format](path)
    assert row["probabilities"] == pytest.approx(values, abs=5e-7)
    assert row["confidence"] == pytest.approx(values[1], abs=5e-7)


@pytest.mark.parametrize("format", FORMATS)
def test_none_of_these_keeps_the_predicted_label(format: str, tmp_path: Path) -> None:
    [row] = READERS[format](write(format, [NONE], tmp_path / f"out.{format}"))
    assert (row["answer"], row["predicted_label"], row["none_of_these"]) == ("none of these", "red", True)


@pytest.mark.parametrize("format", FORMATS)
def test_an_unreadable_image_has_a_row_with_its_error_only(format: str, tmp_path: Path) -> None:
    [row] = READERS[format](write(format, [UNREADABLE], tmp_path / f"out.{format}"))
    assert {key: value for key, value in row.items() if value not in (None, [])} == {
        "image": "images/4.png",
        "error": "empty file",
    }


@pytest.mark.parametrize("format", FORMATS)
def test_surrogates_are_escaped(format: str, tmp_path: Path) -> None:
    """A name that is not UTF-8 leaves a valid file, and rows of other images intact."""
    path = write(format, [SURROGATE, PLAIN], tmp_path / f"out.{format}")
    first, second = READERS[format](path)
    assert first["image"] in ("images/caf\\udce9.png", "images/caf\udce9.png")  # JSON has an escape of its own
    assert first["error"] in ("no such file: caf\\udce9.png", "no such file: caf\udce9.png")
    assert second == expected(PLAIN)
    if format != "parquet":
        path.read_bytes().decode("utf-8")


@pytest.mark.parametrize("format", FORMATS)
def test_the_model_is_named(format: str, tmp_path: Path) -> None:
    path = write(format, [PLAIN], tmp_path / f"out.{format}")
    if format == "parquet":
        metadata = pq.read_schema(path).metadata
        assert metadata[b"belvedere.model.name"].decode() == MODEL.name
        assert metadata[b"belvedere.model.sha256"].decode() == MODEL.sha256
    else:
        assert MODEL.short in path.read_text("utf-8")


@pytest.mark.parametrize("format", FORMATS)
def test_a_failure_leaves_no_file_and_the_old_one(format: str, tmp_path: Path) -> None:
    def fail() -> Iterable[Prediction]:
        yield PLAIN
        raise UsageError("full")

    path = tmp_path / f"out.{format}"
    with pytest.raises(UsageError, match="full"):
        write(format, fail(), path)
    assert not path.exists()
    write(format, [NONE], path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="full"):
        write(format, fail(), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("format", FORMATS)
def test_another_file_is_replaced_only_with_overwrite(format: str, opened: Model, tmp_path: Path) -> None:
    images, path = write_classes(tmp_path / "images", 1), tmp_path / f"out.{format}"
    path.write_text("notes\n")
    with pytest.raises(OutputExistsError) as raised:
        predict_files(opened, [images], format, out=path)
    assert (raised.value.path, raised.value.can_overwrite) == (path, True)
    assert path.read_text() == "notes\n"
    predict_files(opened, [images], format, out=path, overwrite=True)
    rows = READERS[format](path)
    assert [row["predicted_label"] for row in rows] == list(CLASS_NAMES)
    predict_files(opened, [images], format, out=path)  # an older prediction file is replaced
    assert READERS[format](path) == rows


@pytest.mark.parametrize("format", RESUMABLE)
def test_an_interrupted_file_is_resumed(format: str, tmp_path: Path) -> None:
    predictions = [PLAIN, UNREADABLE, NONE, *ODD, UNKNOWN]
    path = tmp_path / f"out.{format}"

    def stop() -> Iterable[Prediction]:
        yield from predictions[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(format, stop(), path)
    assert not path.exists()
    with open_resumable(path, format, CLASS_NAMES, MODEL, "fingerprint", resume=True) as (rows, before):
        found = list(before)
        assert [(row.image, row.unreadable) for row in found] == [
            (each.image, each.error is not None) for each in predictions[:4]
        ]
        for each in predictions[len(found) :]:
            rows.write(each)
    assert READERS[format](path) == [expected(each) for each in predictions]
    assert path.read_bytes() == write(format, predictions, tmp_path / f"whole.{format}").read_bytes() or (
        format == "parquet"  # which has a row group a part
    )


@pytest.mark.parametrize("format", sorted({*FORMATS} - {*RESUMABLE}))
def test_other_formats_refuse_to_resume(format: str, opened: Model, tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", 1)
    with pytest.raises(UsageError) as raised:
        predict_files(opened, [images], format, out=tmp_path / "out", resume=True)
    assert all(name in str(raised.value) for name in RESUMABLE)
    assert not (tmp_path / "out").exists()
