import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from belvedere.errors import BelvedereError, DatasetError, InvalidModelError, OutputExistsError
from belvedere.evaluation.evaluate import evaluate
from belvedere.evaluation.metrics import compute_metrics
from belvedere.evaluation.report.tiles import TILE_SIZE, mistake_tiles, sample_tiles
from belvedere.evaluation.run_folder import write_results
from belvedere.evaluation.run_results import RunResults
from belvedere.inference.model import Model
from belvedere.types.data import Sample
from belvedere.types.evaluation import EpochMetrics
from conftest import CARD, CLASS_NAMES, MODEL, make_prediction, write_classes, write_image

PROMISED = {
    *(
        "accuracy",
        "macro_f1",
        "log_loss",
        "ece",
        "class_names",
        "per_class",
        "confusion_matrix",
        "num_images",
        "total_seconds",
    ),
    *("training_seconds", "epochs", "device", "recipe", "seed", "versions"),
}


def strict(path: Path) -> dict[str, object]:
    """Reads JSON as other languages do: NaN and Infinity are no numbers."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert isinstance(content, dict)
    return content


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine images, one in a wrong folder and one more that cannot be read."""
    folder = write_classes(tmp_path / "photos", 3)
    write_image(folder / "red/2.png", "blue")
    (folder / "red/broken.png").write_text("no image")
    return folder


def test_evaluation_writes_its_folder(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluation = evaluate(tiny_model, photos, out=out)
    assert {"metrics.json", "predictions.csv", "figures", "report.html"} <= set(names(out))
    content = strict(out / "metrics.json")
    assert set(content) >= PROMISED
    assert (content["accuracy"], content["num_images"], content["num_unreadable"]) == (8 / 9, 9, 1)
    assert (content["class_names"], content["confusion_matrix"]) == (
        list(CLASS_NAMES),
        [[3, 0, 0], [0, 3, 0], [1, 0, 2]],
    )
    assert (content["recipe"], content["seed"], content["epochs"], content["training_seconds"]) == (
        "article",
        7,
        3,
        12.5,
    )
    assert content["versions"] == {"torch": "2.13.0"}
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [answer.label for answer in evaluation.predictions]
    assert [row["image"] for row in rows if row["error"]] == [str(photos / "red/broken.png")]
    assert "1 image not measured" in (out / "report.html").read_text(encoding="utf-8")
    assert names(tmp_path) == ["out", "photos"]


def test_without_a_folder_nothing_is_written(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert evaluate(tiny_model, photos).num_images == 9
    assert names(tmp_path) == ["photos"]


def test_existing_folder_is_refused_or_replaced_when_asked(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for overwrite in (False, True):
        evaluate(tiny_model, photos, out=out, overwrite=overwrite)
    before = (out / "metrics.json").read_bytes()
    with pytest.raises(OutputExistsError):
        evaluate(tiny_model, photos, out=out, overwrite=False)
    with pytest.raises(OutputExistsError):
        evaluate(tiny_model, photos, out=photos, overwrite=True)
    assert (out / "metrics.json").read_bytes() == before
    assert names(tmp_path) == ["out", "photos"]


def test_results_among_the_images_are_never_taken_for_a_class(photos: Path, tiny_model: Path) -> None:
    for _ in range(2):
        evaluation = evaluate(tiny_model, photos, out=photos / "out", overwrite=True)
        assert evaluation.class_names == CLASS_NAMES


@pytest.mark.parametrize("kind", ["missing", "empty", "unreadable", "unknown class", "no model"])
def test_failure_leaves_nothing(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    if kind != "missing":
        photos.mkdir()
    if kind == "unreadable":
        (photos / "red").mkdir()
        (photos / "red/1.png").write_text("no image")
    if kind == "unknown class":
        write_image(photos / "pink/1.png", "red")
    expected = {"unknown class": BelvedereError, "no model": InvalidModelError}.get(kind, DatasetError)
    before = names(tmp_path)
    with pytest.raises(expected):
        model = tmp_path / "gone" if kind == "no model" else tiny_model
        evaluate(model, photos, out=tmp_path / "out", overwrite=False)
    assert names(tmp_path) == before


def test_class_names_that_could_be_paths_or_markup_are_only_names(
    named_model: Callable[[Sequence[str]], Model], tmp_path: Path
) -> None:
    odd = ("..", "<script>alert(1)</script>", "naïve café")
    model = named_model(odd)
    colors = dict(zip(odd, CLASS_NAMES, strict=True))
    lines = ["image,label"]
    for number, (name, color) in enumerate(colors.items()):
        write_image(tmp_path / f"{number}.png", color)
        lines.append(f"{number}.png,{name}")
    lines.append("0.png,naïve café")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    before = names(tmp_path)
    evaluate(model.name, tmp_path / "t.csv", out=tmp_path / "out", overwrite=False)
    assert names(tmp_path) == sorted([*before, "out"])
    assert strict(tmp_path / "out/metrics.json")["class_names"] == list(odd)
    assert "<script>alert" not in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_history_is_written_where_there_is_one(tmp_path: Path) -> None:
    evaluation = compute_metrics([make_prediction("gone.png", "red", 1.0, 0.0, 0.0)], CLASS_NAMES, split="test")
    rows = tuple(EpochMetrics(n, 1.5, 100.0, 0.001, 1.0 / n, 0.5, 0.9, 0.6) for n in (1, 2))
    samples = [Sample(tmp_path / "gone.png", "gone.png", "red", "test")]
    write_results(
        tmp_path, RunResults("run", tmp_path, evaluation, MODEL, CARD, (), {"Test": samples}, "belvedere", 3.0, rows)
    )
    with (tmp_path / "history.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(row["epoch"], float(row["loss"])) for row in read] == [("1", 1.0), ("2", 0.5)]
    content = strict(tmp_path / "metrics.json")
    assert content["per_class"][0]["recall"] is None  # type: ignore[index]
    assert math.isclose(content["log_loss"], 15.942, abs_tol=0.001)  # type: ignore[arg-type]


def test_sample_grid_takes_every_class_evenly(tmp_path: Path) -> None:
    write_classes(tmp_path, 20)
    samples = [Sample(path, str(path), path.parent.name, "") for path in sorted(tmp_path.rglob("*.png"))]
    tiles = sample_tiles(samples, CLASS_NAMES)
    assert [tile.caption for tile in tiles] == ["blue"] * 8 + ["green"] * 8 + ["red"] * 8
    assert sample_tiles([Sample(tmp_path / "gone.png", "gone.png", "red", "")], CLASS_NAMES) == []


def test_mistakes_are_shown_most_confident_first_with_both_labels(tmp_path: Path) -> None:
    rows = [("1.png", (0.6, 0.4, 0.0)), ("2.png", (0.1, 0.9, 0.0)), ("3.png", (0.0, 0.0, 1.0)), ("gone.png", (1, 0, 0))]
    for name, _ in rows[:3]:
        write_image(tmp_path / name, "red", side=400)
    evaluation = compute_metrics(
        [make_prediction(name, "red", *values) for name, values in rows], CLASS_NAMES, split="test"
    )
    tiles = mistake_tiles(evaluation, {name: tmp_path / name for name, _ in rows})
    assert [tile.caption for tile in tiles] == [
        "labeled red\npredicted green 90.0%\n2.png",
        "labeled red\npredicted blue 60.0%\n1.png",
    ]
    assert all(tile.pixels.shape == (TILE_SIZE, TILE_SIZE, 3) for tile in tiles)
