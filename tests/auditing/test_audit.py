"""The audit, end to end: a folder with planted faults in, every one of them found, and nothing else."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from threadpoolctl import threadpool_limits

import belvedere
from belvedere.auditing import audit as audit_module
from belvedere.auditing.duplicates.groups import NEAR_DUPLICATE
from belvedere.auditing.image_statistics import ImageStatistics, read_statistics
from belvedere.auditing.label_checks import assign_folds
from belvedere.auditing.out_of_fold import check_model
from belvedere.auditing.output import COLUMNS
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.near_duplicates.search import DuplicatePair
from belvedere.errors import (
    DatasetError,
    InvalidModelError,
    OutputExistsError,
    UnknownNameError,
    UsageError,
    WeightsError,
)
from belvedere.inference.model import Model
from belvedere.runtime.progress import Progress, Task
from belvedere.runtime.serialization import write_csv
from belvedere.training import cross_validation
from belvedere.training.recipes import RECIPES
from belvedere.types.audit import Audit, AuditNetwork, DuplicateGroup
from belvedere.types.data import Sample
from blas_threads import num_blas_threads
from textures import draw_texture

EACH = 12  # images of a class


def save(path: Path, pixels: NDArray[np.uint8] | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **({"quality": 95} | options))
    return path


def flagged(audit: Audit, check: str) -> set[str]:
    return {Path(issue.image).name for issue in audit.issues if issue.issue_type == check and issue.is_issue}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes, train and test, without a fault."""
    folder = tmp_path / "data"
    for part, count in (("train", EACH), ("test", 3)):
        for place, name in enumerate(("bark", "moss")):
            for number in range(count):
                seed = 1000 * place + 100 * (part == "test") + number
                save(folder / part / name / f"{part}{number}.jpg", draw_texture(seed, name == "moss"))
    return folder


def test_copies_are_grouped_and_leaks_and_contradictions_reported_first(data: Path) -> None:
    train, test = data / "train", data / "test"
    texture = draw_texture(500, moss=False)
    first = save(train / "bark" / "first.jpg", texture)
    (test / "bark" / "leak.jpg").write_bytes(first.read_bytes())
    (train / "moss" / "against.jpg").write_bytes(first.read_bytes())
    save(train / "bark" / "pixels.png", Image.open(first))
    found = belvedere.audit(data, label_issues=False)
    assert flagged(found, "split_leak") == {"first.jpg", "leak.jpg", "against.jpg", "pixels.png"}
    assert flagged(found, "conflicting_labels") == {"first.jpg", "leak.jpg", "against.jpg", "pixels.png"}
    assert flagged(found, "duplicate_file") == {"first.jpg", "leak.jpg", "against.jpg"}
    assert flagged(found, "duplicate_pixels") == {"first.jpg", "leak.jpg", "against.jpg", "pixels.png"}
    assert flagged(found, "near_duplicate") == set()
    assert [group.kind for group in found.groups] == ["duplicate_file", "duplicate_pixels"]
    assert found.groups[0].is_split_leak
    assert found.groups[0].has_conflicting_labels
    assert [group.number for group in found.groups] == [1, 2]
    assert found.issues[0].issue_type == "split_leak"


@pytest.mark.parametrize("change", ["resized", "compressed", "cut", "mirrored", "lit"])
def test_near_duplicates_are_found(data: Path, change: str) -> None:
    image = Image.open(data / "train" / "bark" / "train0.jpg")
    width, height = image.size
    changed = {
        "resized": image.resize((width * 2 // 3, height * 2 // 3)),
        "compressed": image,
        "cut": image.crop((width // 10, 0, width, height * 9 // 10)),
        "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "lit": ImageEnhance.Brightness(image).enhance(1.3),
    }[change]
    save(data / "train" / "bark" / "copy.jpg", changed, quality=30 if change == "compressed" else 90)
    found = belvedere.audit(data, label_issues=False)
    assert [{Path(image).name for image in group.images} for group in found.groups] == [{"train0.jpg", "copy.jpg"}]
    assert flagged(found, "near_duplicate") == {"train0.jpg", "copy.jpg"}


def test_wrong_labels_are_found_with_a_model_that_has_not_seen_them(data: Path, opened: Model, tmp_path: Path) -> None:
    for number in (3, 7):
        (data / "train" / "bark" / f"train{number}.jpg").rename(data / "train" / "moss" / f"wrong{number}.jpg")
    found = belvedere.audit(data, model=opened, out=tmp_path / "audit")
    assert flagged(found, "label_issue") == {"wrong3.jpg", "wrong7.jpg"}
    issues = [issue for issue in found.issues if issue.issue_type == "label_issue"]
    assert len(issues) == 30
    assert {Path(issue.image).name for issue in issues[:2]} == {"wrong3.jpg", "wrong7.jpg"}
    assert all(issue.suggested_label == "bark" and (issue.suggested_probability or 0) > 0.5 for issue in issues[:2])
    assert "linear probes" in found.label_issue_method
    with (tmp_path / "audit" / "issues.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    listed = {row["image"]: row for row in rows if row["issue_type"] == "label_issue"}
    for image, row in listed.items():
        assert row["sha256"] == hashlib.sha256(Path(image).read_bytes()).hexdigest()
        assert float(row["label_probability"]) + float(row["suggested_probability"]) == pytest.approx(1, abs=2e-4)
    assert len(listed) == 30
    assert sum(row["is_issue"] == "true" for row in listed.values()) == 2
    page = (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert "wrong3.jpg" in page
    assert "suggested: bark" in page
    assert "http" not in page.split("</style>")[1]
    content = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert content["checks"]["label_issue"]["num_flagged"] == 2
    assert content["num_images"] == 30
    with pytest.raises(OutputExistsError):
        belvedere.audit(data, out=tmp_path / "audit", label_issues=False)


@pytest.fixture
def _quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        RECIPES._values, "quick", replace(RECIPES["quick"], min_steps=24, image_size_schedule=((0.0, 32.0),))
    )


@pytest.mark.usefixtures("_quicker")
def test_a_model_that_was_trained_on_the_images_is_refused(data: Path, tmp_path: Path) -> None:
    run = belvedere.train(data, out=tmp_path / "run", recipe="quick", epochs=1)
    with pytest.raises(UsageError, match="`model`"):
        belvedere.audit(data, model=run.folder)


@pytest.mark.usefixtures("_quicker")
def test_a_model_that_kept_some_of_the_images_back_is_refused_too(data: Path, tmp_path: Path) -> None:
    undivided = data / "train"
    run = belvedere.train(undivided, out=tmp_path / "run", recipe="quick", epochs=1)
    assert 0 < len(run.load().card.provenance.data_minhash) < 2 * EACH  # a test part was kept back
    for number in range(2):  # neither hides it
        save(undivided / "bark" / f"new{number}.jpg", draw_texture(700 + number, moss=False))
        (undivided / "moss" / f"train{number}.jpg").unlink()
    with pytest.raises(UsageError, match="`model`"):
        belvedere.audit(undivided, model=run.folder)
    for path in [*undivided.rglob("train*.jpg")][::2] + [*undivided.rglob("train*.jpg")][1::4]:
        save(path, draw_texture(int(hashlib.sha256(str(path).encode()).hexdigest()[:6], 16), moss="moss" in str(path)))
    found = belvedere.audit(undivided, model=run.folder)
    assert "which was trained on about" in found.label_issue_method


def of_files(folder: Path, part: str = "") -> HashedSamples:
    samples = tuple(Sample(path, str(path), path.parent.name, part or None) for path in sorted(folder.rglob("*.jpg")))
    return HashedSamples(samples, tuple(hashlib.sha256(each.path.read_bytes()).hexdigest() for each in samples), ())


@pytest.mark.parametrize(("counts", "part"), [((20, 4, 6), ""), ((24, 6, 2), "train")])
def test_a_model_of_an_older_version_is_known_by_its_counts(
    data: Path,
    named_model: Callable[[Sequence[str]], Model],
    counts: tuple[int, int, int],
    part: str,
) -> None:
    model, contents = named_model(("bark", "moss", "mud")), of_files(data, part)
    assert check_model(model, contents, model.class_names).endswith("as far as its metadata tell")
    made = replace(model.card.provenance, num_images=dict(zip(("train", "validation", "test"), counts, strict=True)))
    model._card = replace(model.card, provenance=made)
    with pytest.raises(UsageError, match="`model`"):
        check_model(model, contents, model.class_names)
    assert check_model(model, contents, ("bark", "moss"))  # of other classes


@pytest.mark.usefixtures("_quicker")
def test_networks_are_trained_where_no_model_is_given(data: Path, tmp_path: Path) -> None:
    for number in (3, 7):
        (data / "train" / "bark" / f"train{number}.jpg").rename(data / "train" / "moss" / f"wrong{number}.jpg")
    found = belvedere.audit(data, out=tmp_path / "audit")
    assert "each trained on the other folds" in found.label_issue_method
    kept = belvedere.load_model(tmp_path / "audit" / "network.onnx")  # the first of them, for a review
    assert kept.class_names == ("bark", "moss")
    assert found.network == AuditNetwork("network.onnx", kept.sha256, None, None)
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["network"] == asdict(found.network)
    issues = [issue for issue in found.issues if issue.issue_type == "label_issue"]
    # Networks that learn from so few images are not the same with another number of threads.
    assert {"wrong3.jpg", "wrong7.jpg"} <= {Path(issue.image).name for issue in issues[:5]}


def test_without_torch_everything_else_is_looked_at(data: Path) -> None:
    code = f"""
import sys

sys.modules.update(dict.fromkeys(("torch", "onnx", "timm", "safetensors")))
import belvedere
found = belvedere.audit({str(data)!r})
print(found.num_images, repr(found.label_issue_method), found.warnings[-1].message)
try:
    belvedere.audit({str(data)!r}, network="resnet18")
except belvedere.MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("30 '' Labels were not checked")
    assert "pip install 'belvedere[train]'" in second


def test_images_are_read_with_one_thread_of_blas(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def record(*_: object) -> list[DuplicatePair]:
        found.append(num_blas_threads())
        return []

    monkeypatch.setattr(audit_module, "find_near_duplicates", record)
    with threadpool_limits(2, "blas"):
        belvedere.audit(data, label_issues=False)
        assert (found, num_blas_threads()) == ([{1}], {2})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"model": True, "network": "resnet18"}, UsageError, "`model`"),
        ({"model": True, "weights": "resnet18.safetensors"}, UsageError, "`model`"),
        ({"network": "resnet81"}, UnknownNameError, "resnet18"),
        ({"network": "resnet18", "weights": "gone.safetensors"}, WeightsError, "gone.safetensors"),
        ({"model": "gone.onnx"}, InvalidModelError, "gone.onnx"),
    ],
)
def test_arguments_are_checked_before_the_work(
    arguments: dict[str, Any],
    error: type[Exception],
    words: str,
    data: Path,
    opened: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("belvedere.auditing.audit.read_statistics", lambda *_: pytest.fail("images were measured"))
    given = arguments | ({"model": opened} if arguments.get("model") is True else {})
    with pytest.raises(error, match=words):
        belvedere.audit(data, **given)


def test_a_file_that_changed_meanwhile_is_left_out(data: Path, opened: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = save(data / "train" / "bark" / "train5.jpg", draw_texture(4320, moss=False))  # not in the cache

    def measure_then_change(paths: Sequence[Path], _: object) -> Iterator[tuple[ImageStatistics, NDArray[np.uint8]]]:
        yield from read_statistics(paths)
        save(changed, draw_texture(4321, moss=False))

    monkeypatch.setattr("belvedere.auditing.audit.read_statistics", measure_then_change)
    found = belvedere.audit(data, model=opened, near_duplicates=False)
    [note] = [note for note in found.warnings if "changed during the audit" in note.message]
    assert note.names == (str(changed),)
    issues = {issue.image: issue for issue in found.issues if issue.issue_type == "label_issue"}
    assert len(issues) == 29
    assert str(changed) not in issues
    assert all((issue.suggested_probability or 0) < 0.5 for issue in issues.values())  # none has another's answers


@pytest.mark.usefixtures("_quicker")
def test_a_file_that_changed_while_networks_were_trained_is_reported(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = save(data / "train" / "bark" / "train5.jpg", draw_texture(4322, moss=False))  # not in the cache
    before = changed.read_bytes()

    def measure_then_change(paths: Sequence[Path], _: object) -> Iterator[tuple[ImageStatistics, NDArray[np.uint8]]]:
        yield from read_statistics(paths)
        save(changed, draw_texture(4323, moss=False))

    monkeypatch.setattr("belvedere.auditing.audit.read_statistics", measure_then_change)
    with pytest.raises(DatasetError):
        belvedere.audit(data, near_duplicates=False)
    assert changed.read_bytes() != before  # the images were read first


@given(st.integers(0, 500))
def test_folds_stay_as_they_were_when_classes_are_left_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = ("a", "b", "lonely")
    samples = [Sample(Path(str(n)), str(n), names[int(n) % 2 if n < 12 else 2], "") for n in range(16)]
    contents = HashedSamples(tuple(samples), tuple(str(n) for n in range(16)), ())
    with_lonely = (*map(str, range(12, 16)), *random.choice(12, 3, replace=False).astype(str).tolist())
    group = DuplicateGroup(1, NEAR_DUPLICATE, with_lonely, ("",) * 7, (None,) * 7, 1.0)
    learnable = assign_folds(contents, names, [group], seed)
    assert learnable.class_names == ("a", "b")
    assert set(learnable.folds.tolist()) == set(range(int(learnable.folds.max()) + 1))
    for name in learnable.class_names:
        own = [s.label == name for s in learnable.contents.samples]
        assert len(set(learnable.folds[own].tolist())) > 1


def test_further_labels_of_a_table_are_no_mistakes(data: Path, opened: Model, tmp_path: Path) -> None:
    rows = []
    for path in sorted((data / "train").rglob("*.jpg")):
        label = path.parent.name
        swapped = path.name in ("train3.jpg", "train7.jpg") and label == "bark"
        rows.append([path, "moss|bark" if swapped else label])
    rows.append([save(tmp_path / "copy.jpg", Image.open(data / "train/bark/train3.jpg")), "bark|moss"])
    rows.append([save(tmp_path / "again.jpg", Image.open(tmp_path / "copy.jpg"), quality=60), "bark|moss"])
    write_csv(tmp_path / "table.csv", ["image", "label"], rows)
    found = belvedere.audit(tmp_path / "table.csv", model=opened)
    assert flagged(found, "label_issue") == set()
    both = [issue for issue in found.issues if issue.issue_type == "label_issue" and "moss|bark" in issue.message]
    assert len(both) == 2
    assert all(issue.label_probability == 1 and issue.issue_score == 0 for issue in both)
    assert flagged(found, "conflicting_labels") == set()
    assert found.groups


def test_a_set_to_test_on_has_no_class_too_small_to_learn(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "test", tmp_path / "only" / "test")
    assert belvedere.audit(tmp_path / "only", label_issues=False).class_issues == ()


def test_the_verdict_counts_images_and_classes_apart(data: Path, tmp_path: Path) -> None:
    (data / "train" / "bark" / "broken.jpg").write_bytes(b"nothing")
    belvedere.audit(data, label_issues=False, out=tmp_path / "audit")
    page = (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert "1 of 31 images and 2 of 2 classes flagged." in page
    content = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert content["num_flagged"] == 1
    assert content["num_images_by_split"]["test"] == {"bark": 3, "moss": 3}


class Counting(Progress):
    """Counts what is reported of each job, beside what was promised."""

    def __init__(self) -> None:
        self.jobs: dict[str, list[int]] = {}

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        job = self.jobs[description] = [images, 0]

        class Counted(Task):
            def advance(self, images: int, figures: str = "") -> None:
                job[1] += images

        yield Counted()


def test_progress_ends_where_it_was_to_end(data: Path, opened: Model) -> None:
    save(data / "train/bark/copy.jpg", Image.open(data / "train/bark/train0.jpg"), quality=50)
    counting = Counting()
    belvedere.audit(data, model=opened, progress=counting)
    assert {
        "Reading images",
        "Searching duplicates",
        "Comparing thumbnails",
        "Comparing images",
    } <= counting.jobs.keys()
    assert all(promised == done for promised, done in counting.jobs.values()), counting.jobs


def test_labels_of_which_there_is_one_image_are_left_out(data: Path, opened: Model) -> None:
    save(data / "train" / "lichen" / "only.jpg", draw_texture(9, moss=True))
    found = belvedere.audit(data, model=opened)
    assert any("1 label not checked" in note.message for note in found.warnings)
    assert "only.jpg" not in {Path(issue.image).name for issue in found.issues if issue.issue_type == "label_issue"}


def list_contents(data: Path) -> tuple[belvedere.Dataset, HashedSamples]:
    dataset = belvedere.load_dataset(data)
    return dataset, hash_samples(dataset.split("train"), Progress())


def test_control_c_ends_an_audit_that_trains(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network has trained until then is enough for a run, but not to judge labels by."""
    dataset, contents = list_contents(data)
    begun = []

    def interrupted(*arguments: object) -> SimpleNamespace:
        begun.append(arguments)
        return SimpleNamespace(interrupted=True)

    monkeypatch.setattr(cross_validation, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cross_validation.cross_val_predict(dataset, contents, np.arange(len(contents.samples)) % 2, 0, Progress())
    assert len(begun) == 1
