"""Monitoring: statistics computed by hand, estimates, the choice of images, records and whole reports."""

import base64
import csv
import errno
import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import belvedere
from belvedere.errors import OutputExistsError, UsageError
from belvedere.evaluation.monitoring import two_sample
from belvedere.evaluation.monitoring.compare_samples import run_tests
from belvedere.evaluation.monitoring.estimates import estimate_class_frequencies, expect_accuracy
from belvedere.evaluation.monitoring.periods import split_by_time
from belvedere.evaluation.monitoring.records import read_records, to_line
from belvedere.evaluation.monitoring.result import ChosenImage
from belvedere.evaluation.monitoring.samples import Sampled, sample_records
from belvedere.evaluation.monitoring.selection import choose_to_label
from belvedere.evaluation.report.monitoring import _write_to_label
from belvedere.images.listing import list_images
from belvedere.inference.model import Model
from conftest import CLASS_NAMES, make_prediction, write_classes, write_image
from run_folders import write_run

NAMES = ("a", "b")


def draw(seed: int, size: int, confidence: float = 8.0, center: float = 0.0) -> Sampled:
    """Return random predictions of two classes; a lower `confidence` is less certain, `center` moves embeddings."""
    rng = np.random.default_rng(seed)
    high = rng.beta(confidence, 1, size) / 2 + 0.5
    is_first = rng.random(size) < 0.5
    probabilities = np.where(is_first[:, None], np.stack([high, 1 - high], 1), np.stack([1 - high, high], 1))
    embeddings = rng.normal(center, 1, (size, 8)).astype(np.float32)
    names = tuple(f"{number}.png" for number in range(size))
    return Sampled(NAMES, probabilities.round(6), rng.random(size), embeddings, names)


def test_chi_square() -> None:
    """Expected are 15 of each class in each sample, so that four cells differ by 5: 4 * 25 / 15."""
    assert two_sample.chi_square(np.array([30, 30]), np.array([[20, 10], [15, 15]])) == pytest.approx([20 / 3, 0])


def test_p_values_of_permutations() -> None:
    rng = np.random.default_rng(0)
    same, other = np.array([50, 0, 0]), np.array([0, 50, 0])
    assert two_sample.compare_counts(same, same, rng) == 1
    assert two_sample.compare_counts(same, other, rng) == 1 / 1000


def test_fisher_exact() -> None:
    """Fisher's tea: 3 of 4 against 1 of 4 has the probability 34/70."""
    assert two_sample.fisher_exact((1, 4), (3, 4)) == pytest.approx(34 / 70)
    assert two_sample.fisher_exact((0, 100), (0, 100)) == 1


def test_kolmogorov_smirnov() -> None:
    assert two_sample.ks_statistic(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])) == 0.5
    first, second = np.arange(100.0), np.arange(100.0) + 20  # 0.2 apart: 2 * exp(-2 * 50 * 0.2 ** 2)
    assert two_sample.ks_statistic(first, second) == pytest.approx(0.2)
    assert two_sample.compare_values(first, second) == pytest.approx(2 * np.exp(-4), rel=1e-4)
    assert two_sample.compare_values(first, first) == 1


def test_gaussian_kernel() -> None:
    """Orthogonal vectors of length 1 have the squared distance 2, which is also the median."""
    kernel = two_sample.gaussian_kernel(np.array([[1.0, 0], [0, 3]]))
    assert kernel == pytest.approx(np.array([[1, np.exp(-0.5)], [np.exp(-0.5), 1]]))


def test_holm() -> None:
    adjusted = two_sample.holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_expected_accuracy() -> None:
    correct, confidence = np.array([True, True, True, False]), np.array([1.0, 0.9, 0.7, 0.6])
    expected = expect_accuracy(correct, confidence, np.array([0.5, 0.7]))
    assert expected.value == 0.5  # above 0.675, which 3 of 4 test images exceed
    tied = np.array([0.5] * 10 + [1.0] * 90)  # the same images on both sides, 85% correct
    assert expect_accuracy(np.arange(100) >= 15, tied, tied).value == pytest.approx(0.85)
    few = np.array([1.0] * 5 + [0.9] * 5)  # above 0.9 are 5, and 2 of the 5 that are equal to it
    assert expect_accuracy(np.arange(10) < 7, few, np.array([0.9] * 10)).value == pytest.approx(0.4)
    assert expected.difference_of_confidences == pytest.approx(0.75 + 0.6 - 0.8)
    assert (expected.ci_low, expected.ci_high) == (0, 1)  # of two images


def test_estimated_frequencies() -> None:
    """Of 0.9 and 0.1, the mixture with 80% predicted as the first class has 0.9 p + 0.1 (1 - p) = 0.8."""
    probabilities = np.array([[0.9, 0.1]] * 8 + [[0.1, 0.9]] * 2)
    found = estimate_class_frequencies(np.array([0, 0, 1, 1]), probabilities)
    assert found == pytest.approx([0.875, 0.125], abs=1e-4)


def test_unchanged_images_are_rarely_reported() -> None:
    alarms = sum(
        any(each.is_changed for each in run_tests(draw(seed, 100), draw(seed + 1000, 80), 0.95, seed))
        for seed in range(40)
    )
    assert alarms <= 4


@pytest.mark.parametrize(
    ("new", "name"), [(draw(1, 100, confidence=3), "confidence"), (draw(1, 100, center=1), "embeddings")]
)
def test_a_change_is_found(new: Sampled, name: str) -> None:
    assert [each.name for each in run_tests(draw(0, 100), new, 0.95, 0) if each.is_changed] == [name]


def test_images_to_label_are_diverse() -> None:
    """Of three groups of equal images, each gives one image."""
    embeddings = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    probabilities = np.full((15, 2), 0.5)
    names = tuple(f"{group}{number}" for group in "xyz" for number in range(5))
    chosen = choose_to_label(Sampled(NAMES, probabilities, None, embeddings, names), 3)
    assert sorted(each.image[0] for each in chosen) == ["x", "y", "z"]


def test_periods() -> None:
    day = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
    new = replace(draw(0, 4), times=day + np.array([0, 3, 10, 10]) * 86_400.0, images=())
    found = split_by_time(new, 0.5)
    assert [each.num_images for each in found] == [1, 1, 2]
    assert [each.start[:10] for each in found] == ["2026-03-02", "2026-03-05", "2026-03-12"]
    assert found[0].mean_confidence == new.confidence[0]


def test_damaged_records_are_skipped(tmp_path: Path) -> None:
    line = to_line(1000.5, "ab" * 32, make_prediction("secret.png", None, 0.7, 0.2, 0.1), np.array([1e9, -0.5], "f4"))
    assert b"secret" not in line
    half, no_number = line[: len(line) // 2], line.replace(b"0.7", b"NaN")
    (tmp_path / "records-1.jsonl").write_bytes(line + no_number + b"[]\n" + half)
    (tmp_path / "records-2.jsonl").write_bytes(line)
    first, *damaged, second = read_records(tmp_path)
    assert damaged == [None] * 3
    assert first is not None
    assert second is not None
    assert (first.time, first.probabilities) == (1000.5, (0.7, 0.2, 0.1))
    assert first.embedding.tolist() == [65504, -0.5]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, opened: Model) -> Path:
    """Return a results folder with 20 images of each class."""
    folder = tmp_path_factory.mktemp("monitoring")
    images = write_classes(folder / "images", 20)
    predictions = [replace(each, label=Path(each.image).parent.name) for each in opened.predict(images)]
    return write_run(folder / "run", predictions)


def test_the_same_images(run: Path, opened: Model) -> None:
    report = belvedere.monitor(run, run.parent / "images", model=opened, progress=False)
    assert not report.is_changed
    assert (report.num_images, report.num_reference, report.reference_accuracy) == (60, 60, 1)
    assert [each.name for each in report.tests] == ["predicted_labels", "confidence", "embeddings"]
    assert report.expected_accuracy.value == pytest.approx(1, abs=1e-5)
    assert report.ood is None


def test_report(run: Path, opened: Model, tmp_path: Path) -> None:
    for number in range(40):
        write_image(tmp_path / "new" / f"{number}.png", "red", number)
    (tmp_path / "new" / "bad.png").write_bytes(b"no image")
    out, metrics = tmp_path / "out", tmp_path / "m.prom"
    report = belvedere.monitor(run, tmp_path / "new", model=opened, out=out, metrics_file=metrics, progress=False)
    assert report.is_changed
    found = json.loads((out / "monitor.json").read_text())
    assert found["is_changed"] is True
    assert {each["name"]: each["new"] for each in found["classes"]} == {"blue": 0, "green": 0, "red": 1}
    page = (out / "report.html").read_text()
    assert "red" in page
    assert "bad.png" in page
    with (out / "to_label.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert all((out / "to_label" / row["copy"]).read_bytes() == Path(row["image"]).read_bytes() for row in rows)
    lines = metrics.read_text().splitlines()
    assert any(line.startswith("belvedere_monitor_changed{") and line.endswith("} 1.0") for line in lines)
    assert sum(line.startswith("belvedere_monitor_prediction_ratio{") for line in lines) == len(CLASS_NAMES)


def chosen(path: Path) -> ChosenImage:
    return ChosenImage(str(path), "red", 0.5, None, "uncertain")


@pytest.mark.parametrize("name", ["é" * 125 + ".png", "é" * 127, "x." + "y" * 250, "short.PNG"])
def test_images_to_label_with_long_names_are_copied(name: str, tmp_path: Path) -> None:
    image, out = tmp_path / "images" / name, tmp_path / "out"
    write_image(tmp_path / "a.png", "red")
    image.parent.mkdir()
    (tmp_path / "a.png").rename(image)
    gone = tmp_path / "images" / "gone.png"
    out.mkdir()
    assert _write_to_label(out, [chosen(gone), chosen(image)]) == [chosen(image)]
    [copy] = list_images(out / "to_label")
    assert copy.read_bytes() == image.read_bytes()
    assert copy.name.startswith(f"02-{name[:1]}")


def test_a_full_disk_is_no_missing_image(run: Path, opened: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(UsageError, match=os.strerror(errno.ENOSPC)):
        belvedere.monitor(run, run.parent / "images", model=opened, out=run.parent / "full", progress=False)
    assert not (run.parent / "full").exists()


@pytest.mark.parametrize(
    ("name", "overwrite"), [("notes.txt", False), ("run/predictions.csv", True), ("images/red/0.png", True)]
)
def test_other_files_are_not_replaced(run: Path, opened: Model, name: str, overwrite: bool) -> None:
    file = run.parent / name
    if name == "notes.txt":
        file.write_text("mine")
    before = file.read_bytes()
    with pytest.raises(OutputExistsError, match="metrics_file"):
        belvedere.monitor(
            run, run.parent / "images", model=opened, metrics_file=file, overwrite=overwrite, progress=False
        )
    assert file.read_bytes() == before


def test_older_metrics_are_replaced(run: Path, opened: Model, tmp_path: Path) -> None:
    file = tmp_path / "m.prom"
    file.write_text("# HELP belvedere_monitor_images x\n")
    belvedere.monitor(run, run.parent / "images", model=opened, metrics_file=file, progress=False)
    assert "belvedere_monitor_changed{" in file.read_text()


@pytest.mark.parametrize("recorded", ["null", "5", "[]"])
def test_metrics_of_another_form_leave_the_comparison(recorded: str, run: Path, opened: Model, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").write_text(f'{{"model": {recorded}}}')
    report = belvedere.monitor(tmp_path / "run", run.parent / "images", model=opened, progress=False)
    assert report.num_images == 60


def test_records(run: Path, opened: Model, tmp_path: Path) -> None:
    images = sorted((run.parent / "images").rglob("*.png"))
    predictions, embeddings = opened.predict(images), opened.embed(images)
    lines = [
        to_line(1e9 + 3600 * number, opened.sha256, prediction, embedding)
        for number, (prediction, embedding) in enumerate(zip(predictions, embeddings, strict=True))
    ]
    other = lines[0].replace(opened.sha256.encode(), b"0" * 64)
    (tmp_path / "records-1.jsonl").write_bytes(b"".join(lines) + other + lines[0][:9])
    report = belvedere.monitor(run, tmp_path, model=opened, progress=False)
    assert (report.num_images, report.is_changed, len(report.warnings)) == (60, False, 2)
    assert len(report.periods) == 3  # days, since it is more than two
    assert report.unusual == report.to_label == ()
    later = belvedere.monitor(
        run, tmp_path, model=opened, since=datetime.fromtimestamp(1e9 + 3600 * 50, UTC), progress=False
    )
    assert later.num_images == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"embedding": base64.b64encode(np.zeros(2, "<f2").tobytes()).decode()},
        {"probabilities": [0.5, 0.5]},
        {"probabilities": [0.5, 0.5, 10**400]},
        {"none_of_these_score": 10**400},
        {"time": "0001-01-01T00:00:00+14:00"},
        {"time": "1969-12-31T23:59:59+00:00"},
        {"time": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_a_damaged_record_leaves_the_others(
    changes: dict[str, object], run: Path, opened: Model, tmp_path: Path
) -> None:
    image = run.parent / "images" / "red" / "0.png"
    line = to_line(1e9, opened.sha256, opened.predict(image)[0], opened.embed(image)[0])
    damaged = json.dumps(json.loads(line) | changes).encode() + b"\n"
    (tmp_path / "records-1.jsonl").write_bytes(damaged + line * 2)
    new = sample_records(tmp_path, opened, None)
    assert (len(new), len(new.warnings)) == (2, 1)
    assert sum(each.num_images for each in split_by_time(new, 0.95)) == 2


def test_a_part_of_the_test_images(run: Path, opened: Model, tmp_path: Path) -> None:
    """Of 60 images, at least 54 have to be there."""
    images = write_classes(tmp_path / "images", 20)
    predictions = [replace(each, label=Path(each.image).parent.name) for each in opened.predict(images)]
    write_run(tmp_path / "run", predictions)
    tests = []
    for number in (6, 1):
        for each in sorted((tmp_path / "images" / "red").iterdir())[:number]:
            each.unlink()
        report = belvedere.monitor(tmp_path / "run", run.parent / "images", model=opened, progress=False)
        tests.append(("embeddings" in [each.name for each in report.tests], len(report.warnings)))
    assert tests == [(True, 0), (False, 1)]


@pytest.mark.parametrize(
    ("case", "word"),
    [
        ("other model", "models"),
        ("earlier", "since"),
        ("damaged", "damaged"),
        ("no records", "yet"),
        ("since", "since"),
        ("year 1", "since"),
        ("no images", "image"),
    ],
)
def test_errors(run: Path, opened: Model, tmp_path: Path, case: str, word: str) -> None:
    since = None
    if case == "no records":
        (tmp_path / "records-1.jsonl").touch()
    elif case == "damaged":
        (tmp_path / "records-1.jsonl").write_text("{")
    elif case in ("other model", "earlier"):
        since = datetime.now(UTC) if case == "earlier" else None
        line = to_line(1, "0" * 64, make_prediction("x", None, 0.7, 0.2, 0.1), np.zeros(3, "f4"))
        (tmp_path / "records-1.jsonl").write_bytes(line)
    elif case == "year 1":
        since = datetime.min
        (tmp_path / "records-1.jsonl").touch()
    elif case == "since":
        since = datetime.now(UTC)
        write_image(tmp_path / "x.png", "red")
    with pytest.raises(UsageError, match=word):
        belvedere.monitor(run, tmp_path, model=opened, since=since, progress=False)
