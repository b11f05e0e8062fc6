"""The audit, end to end: a folder with planted faults in, every one of them found, and nothing else."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from PIL import Image, ImageEnhance, ImageFilter

import belvedere
from belvedere.auditing.checks import FINDINGS, summarise
from belvedere.auditing.duplicates.groups import NEAR
from belvedere.auditing.image_checks import CHECKS
from belvedere.auditing.image_statistics import Measured, measure_all
from belvedere.auditing.label_checks import choose_learnable
from belvedere.auditing.out_of_fold import check_model
from belvedere.auditing.output import COLUMNS
from belvedere.data.hashing import Contents, read_contents
from belvedere.errors import (
    DatasetError,
    InvalidModelError,
    OutputExistsError,
    UnknownNameError,
    UsageError,
    WeightsError,
)
from belvedere.inference.model import Model
from belvedere.runtime.csv_files import write_csv
from belvedere.runtime.progress import Progress, Task
from belvedere.training import cross_validation
from belvedere.training.recipes import RECIPES
from belvedere.training.trainer import Job
from belvedere.types.audit import Audit, AuditNetwork, DuplicateGroup
from belvedere.types.data import Sample
from belvedere.types.model import Preprocess
from pictures import draw_texture

EACH = 12  # photographs of a class


def save(path: Path, pixels: NDArray[np.uint8] | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **({"quality": 95} | options))
    return path


def flagged(audit: Audit, check: str) -> set[str]:
    return {Path(issue.image).name for issue in audit.issues if issue.issue_type == check and issue.is_issue}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two classes, train and test, without a fault."""
    folder = tmp_path / "photographs"
    for part, count in (("train", EACH), ("test", 3)):
        for place, name in enumerate(("bark", "moss")):
            for number in range(count):
                seed = 1000 * place + 100 * (part == "test") + number
                save(folder / part / name / f"{part}{number}.jpg", draw_texture(seed, name == "moss"))
    return folder


def test_nothing_is_found_where_nothing_is_wrong(photographs: Path) -> None:
    found = belvedere.audit(photographs, labels=False)
    assert [issue for issue in found.issues if issue.is_issue] == []
    assert found.groups == ()
    assert {one.issue_type for one in found.classes} == {"small_class"}  # twelve photographs are few
    assert found.images == 30


def spoil(image: Image.Image, file: Path, check: str) -> None:
    """Writes a picture with one fault."""
    width, height = image.size
    exif = Image.Exif()
    exif[0x0112] = 6
    small = image.resize((width // 2, height // 2), Image.Resampling.LANCZOS)
    spoilt = {
        "grayscale": image.convert("L"),
        "odd_size": image.crop((0, 0, 20, 20)),
        "odd_aspect_ratio": image.crop((0, 0, width, 36)),
        "dark": image.point(lambda value: value // 12),
        "light": image.point(lambda value: 225 + value // 9),
        "blurry": image.filter(ImageFilter.GaussianBlur(3)),
        "low_information": Image.new("RGB", image.size, (120, 130, 90)),
        "upscaled": small.resize(image.size, Image.Resampling.BICUBIC),
    }
    content = save(file, spoilt.get(check, image), **({"exif": exif} if check == "exif_rotated" else {})).read_bytes()
    if check == "unreadable":
        file.write_bytes(b"no picture at all")
    if check == "truncated":
        file.write_bytes(content[: len(content) // 2])
    if check == "wrong_extension":
        file.rename(file.with_suffix(".png"))


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_of_files_finds_its_fault_only(photographs: Path, check: str) -> None:
    spoil(Image.fromarray(draw_texture(77, moss=False)), photographs / "train" / "bark" / "odd.jpg", check)
    found = belvedere.audit(photographs, labels=False)
    listed = {Path(issue.image).stem for issue in found.issues if issue.issue_type == check and issue.score > 0.3}
    assert listed == {"odd"}
    assert {Path(name).stem for name in flagged(found, check)} == (set() if check == "exif_rotated" else {"odd"})
    others = {issue.issue_type for issue in found.issues if issue.is_issue} - {check}
    assert others <= {"low_information": {"blurry"}, "dark": {"low_information"}, "light": {"low_information"}}.get(
        check, set()
    )
    for issue in found.issues:
        assert 0 <= issue.score <= 1
        assert issue.message
        assert issue.issue_type in FINDINGS


def test_copies_are_grouped_and_leaks_and_contradictions_told_first(photographs: Path) -> None:
    train, test = photographs / "train", photographs / "test"
    texture = draw_texture(500, moss=False)
    first = save(train / "bark" / "first.jpg", texture)
    (test / "bark" / "leak.jpg").write_bytes(first.read_bytes())
    (train / "moss" / "against.jpg").write_bytes(first.read_bytes())
    save(train / "bark" / "pixels.png", Image.open(first))
    found = belvedere.audit(photographs, labels=False)
    assert flagged(found, "split_leak") == {"first.jpg", "leak.jpg", "against.jpg", "pixels.png"}
    assert flagged(found, "conflicting_labels") == {"first.jpg", "leak.jpg", "against.jpg", "pixels.png"}
    assert flagged(found, "duplicate_file") == {"first.jpg", "leak.jpg", "against.jpg"}
    assert flagged(found, "duplicate_pixels") == {"first.jpg", "leak.jpg", "against.jpg", "pixels.png"}
    assert flagged(found, "near_duplicate") == set()
    assert [group.kind for group in found.groups] == ["duplicate_file", "duplicate_pixels"]
    assert found.groups[0].leaks
    assert found.groups[0].contradicts
    assert [group.number for group in found.groups] == [1, 2]
    assert found.issues[0].issue_type == "split_leak"


@pytest.mark.parametrize("change", ["resized", "compressed", "cut", "mirrored", "lit"])
def test_near_duplicates_are_found(photographs: Path, change: str) -> None:
    image = Image.open(photographs / "train" / "bark" / "train0.jpg")
    width, height = image.size
    changed = {
        "resized": image.resize((width * 2 // 3, height * 2 // 3)),
        "compressed": image,
        "cut": image.crop((width // 10, 0, width, height * 9 // 10)),
        "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "lit": ImageEnhance.Brightness(image).enhance(1.3),
    }[change]
    save(photographs / "train" / "bark" / "copy.jpg", changed, quality=30 if change == "compressed" else 90)
    found = belvedere.audit(photographs, labels=False)
    assert [{Path(image).name for image in group.images} for group in found.groups] == [{"train0.jpg", "copy.jpg"}]
    assert flagged(found, "near_duplicate") == {"train0.jpg", "copy.jpg"}


def test_wrong_labels_are_found_with_a_model_that_has_not_seen_them(
    photographs: Path, opened: Model, tmp_path: Path
) -> None:
    for number in (3, 7):
        (photographs / "train" / "bark" / f"train{number}.jpg").rename(
            photographs / "train" / "moss" / f"wrong{number}.jpg"
        )
    found = belvedere.audit(photographs, model=opened, out=tmp_path / "audit")
    assert flagged(found, "label_issue") == {"wrong3.jpg", "wrong7.jpg"}
    doubts = [issue for issue in found.issues if issue.issue_type == "label_issue"]
    assert len(doubts) == 30
    assert {Path(issue.image).name for issue in doubts[:2]} == {"wrong3.jpg", "wrong7.jpg"}
    assert all(issue.suggested_label == "bark" and (issue.suggested_probability or 0) > 0.5 for issue in doubts[:2])
    assert "linear probes" in found.route
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
    told = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert told["checks"]["label_issue"]["flagged"] == 2
    assert told["images"] == 30
    with pytest.raises(OutputExistsError, match="--overwrite"):
        belvedere.audit(photographs, out=tmp_path / "audit", labels=False)


@pytest.fixture
def _quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "quick", replace(RECIPES["quick"], min_steps=24, image_size_schedule=((0.0, 32.0),)))


@pytest.mark.usefixtures("_quicker")
def test_a_model_that_has_learnt_the_labels_is_refused(photographs: Path, tmp_path: Path) -> None:
    run = belvedere.train(photographs, out=tmp_path / "run", recipe="quick", epochs=1)
    with pytest.raises(UsageError, match="has learnt from these photographs"):
        belvedere.audit(photographs, model=run.folder)


@pytest.mark.usefixtures("_quicker")
def test_a_model_that_kept_some_of_the_photographs_back_is_refused_too(photographs: Path, tmp_path: Path) -> None:
    undivided = photographs / "train"
    run = belvedere.train(undivided, out=tmp_path / "run", recipe="quick", epochs=1)
    assert 0 < len(run.load().card.provenance.sketch) < 2 * EACH  # a test part was kept back
    for number in range(2):  # neither hides it
        save(undivided / "bark" / f"new{number}.jpg", draw_texture(700 + number, moss=False))
        (undivided / "moss" / f"train{number}.jpg").unlink()
    with pytest.raises(UsageError, match="has learnt from these photographs"):
        belvedere.audit(undivided, model=run.folder)
    for path in [*undivided.rglob("train*.jpg")][::2] + [*undivided.rglob("train*.jpg")][1::4]:
        save(path, draw_texture(int(hashlib.sha256(str(path).encode()).hexdigest()[:6], 16), moss="moss" in str(path)))
    found = belvedere.audit(undivided, model=run.folder)
    assert "which has learnt from about" in found.route


def of_files(folder: Path, part: str = "") -> Contents:
    samples = tuple(Sample(path, str(path), path.parent.name, part) for path in sorted(folder.rglob("*.jpg")))
    return Contents(samples, tuple(hashlib.sha256(each.path.read_bytes()).hexdigest() for each in samples), ())


@pytest.mark.parametrize(("counts", "part"), [((20, 4, 6), ""), ((24, 6, 2), "train")])
def test_a_model_of_an_older_version_is_known_by_its_counts(
    photographs: Path,
    named_model: Callable[[Sequence[str]], Model],
    counts: tuple[int, int, int],
    part: str,
) -> None:
    model, contents = named_model(("bark", "moss", "mud")), of_files(photographs, part)
    assert check_model(model, contents, model.class_names).endswith("as far as its card tells")
    made = replace(model.card.provenance, photographs=dict(zip(("train", "validation", "test"), counts, strict=True)))
    model._card = replace(model.card, provenance=made)
    with pytest.raises(UsageError, match="has learnt from these photographs"):
        check_model(model, contents, model.class_names)
    assert check_model(model, contents, ("bark", "moss"))  # of other classes


@pytest.mark.usefixtures("_quicker")
def test_networks_are_trained_where_no_model_is_given(photographs: Path, tmp_path: Path) -> None:
    for number in (3, 7):
        (photographs / "train" / "bark" / f"train{number}.jpg").rename(
            photographs / "train" / "moss" / f"wrong{number}.jpg"
        )
    found = belvedere.audit(photographs, out=tmp_path / "audit")
    assert "each trained on the other photographs" in found.route
    kept = belvedere.load(tmp_path / "audit" / "network.onnx")  # the first of them, for a review
    assert kept.class_names == ("bark", "moss")
    assert found.network == AuditNetwork("network.onnx", kept.sha256, None, None)
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["network"] == asdict(found.network)
    doubts = [issue for issue in found.issues if issue.issue_type == "label_issue"]
    # Networks that learn from so few pictures are not the same with another number of threads.
    assert {"wrong3.jpg", "wrong7.jpg"} <= {Path(issue.image).name for issue in doubts[:5]}


def test_without_torch_everything_else_is_looked_at(photographs: Path) -> None:
    code = f"""
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "timm", "safetensors"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NoTorch())
import belvedere
found = belvedere.audit({str(photographs)!r})
print(found.images, repr(found.route), found.notes[-1].message)
try:
    belvedere.audit({str(photographs)!r}, backbone="resnet18")
except belvedere.MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("30 '' Wrong labels were not looked for")
    assert "pip install 'belvedere[train]'" in second


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"model": True, "backbone": "resnet18"}, UsageError, "Leave one out"),
        ({"model": True, "weights": "resnet18.safetensors"}, UsageError, "Leave one out"),
        ({"backbone": "resnet81"}, UnknownNameError, "resnet18"),
        ({"backbone": "resnet18", "weights": "gone.safetensors"}, WeightsError, "gone.safetensors"),
        ({"model": "gone.onnx"}, InvalidModelError, "gone.onnx"),
    ],
)
def test_arguments_are_checked_before_the_work(
    arguments: dict[str, Any],
    error: type[Exception],
    words: str,
    photographs: Path,
    opened: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("belvedere.auditing.audit.measure_all", lambda _: pytest.fail("pictures were measured"))
    given = arguments | ({"model": opened} if arguments.get("model") is True else {})
    with pytest.raises(error, match=words):
        belvedere.audit(photographs, **given)


def test_a_file_that_changed_meanwhile_is_left_out(
    photographs: Path, opened: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = save(photographs / "train" / "bark" / "train5.jpg", draw_texture(4320, moss=False))  # not in the cache

    def measure_then_change(paths: Iterable[Path]) -> Iterator[Measured]:
        yield from measure_all(paths)
        save(changed, draw_texture(4321, moss=False))

    monkeypatch.setattr("belvedere.auditing.audit.measure_all", measure_then_change)
    found = belvedere.audit(photographs, model=opened, near=False)
    [note] = [note for note in found.notes if "changed meanwhile" in note.message]
    assert note.names == (str(changed),)
    doubted = {issue.image: issue for issue in found.issues if issue.issue_type == "label_issue"}
    assert len(doubted) == 29
    assert str(changed) not in doubted
    assert all((issue.suggested_probability or 0) < 0.5 for issue in doubted.values())  # none has another's answers


@pytest.mark.usefixtures("_quicker")
def test_a_file_that_changed_while_networks_were_trained_is_told(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = save(photographs / "train" / "bark" / "train5.jpg", draw_texture(4322, moss=False))  # not in the cache

    def measure_then_change(paths: Iterable[Path]) -> Iterator[Measured]:
        yield from measure_all(paths)
        save(changed, draw_texture(4323, moss=False))

    monkeypatch.setattr("belvedere.auditing.audit.measure_all", measure_then_change)
    with pytest.raises(DatasetError, match="were changed or removed"):
        belvedere.audit(photographs, near=False)


@given(st.integers(0, 500))
def test_folds_stay_as_they_were_when_classes_are_left_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = ("a", "b", "lonely")
    samples = [Sample(Path(str(n)), str(n), names[int(n) % 2 if n < 12 else 2], "") for n in range(16)]
    contents = Contents(tuple(samples), tuple(str(n) for n in range(16)), ())
    with_lonely = (*map(str, range(12, 16)), *random.choice(12, 3, replace=False).astype(str).tolist())
    group = DuplicateGroup(1, NEAR, with_lonely, ("",) * 7, ("",) * 7, 1.0)
    learnable = choose_learnable(contents, names, [group], seed)
    assert learnable.class_names == ("a", "b")
    assert set(learnable.folds.tolist()) == set(range(int(learnable.folds.max()) + 1))
    for name in learnable.class_names:
        own = [s.label == name for s in learnable.contents.samples]
        assert len(set(learnable.folds[own].tolist())) > 1


def test_further_labels_of_a_table_are_no_mistakes(photographs: Path, opened: Model, tmp_path: Path) -> None:
    rows = []
    for path in sorted((photographs / "train").rglob("*.jpg")):
        label = path.parent.name
        swapped = path.name in ("train3.jpg", "train7.jpg") and label == "bark"
        rows.append([path, "moss|bark" if swapped else label])
    rows.append([save(tmp_path / "copy.jpg", Image.open(photographs / "train/bark/train3.jpg")), "bark|moss"])
    rows.append([save(tmp_path / "again.jpg", Image.open(tmp_path / "copy.jpg"), quality=60), "bark|moss"])
    write_csv(tmp_path / "table.csv", ["image", "label"], rows)
    found = belvedere.audit(tmp_path / "table.csv", model=opened)
    assert flagged(found, "label_issue") == set()
    both = [issue for issue in found.issues if issue.issue_type == "label_issue" and "moss|bark" in issue.message]
    assert len(both) == 2
    assert all(issue.label_probability == 1 and issue.score == 0 for issue in both)
    assert flagged(found, "conflicting_labels") == set()
    assert found.groups


def test_a_set_to_test_on_has_no_class_too_small_to_learn(photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs / "test", tmp_path / "only" / "test")
    assert belvedere.audit(tmp_path / "only", labels=False).classes == ()


def test_the_verdict_counts_photographs_and_classes_apart(photographs: Path, tmp_path: Path) -> None:
    (photographs / "train" / "bark" / "broken.jpg").write_bytes(b"nothing")
    belvedere.audit(photographs, labels=False, out=tmp_path / "audit")
    page = (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert "1 of 31 photographs and 2 of 2 classes need a look." in page
    told = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert told["flagged"] == 1
    assert told["counts"]["test"] == {"bark": 3, "moss": 3}


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


def test_progress_ends_where_it_was_to_end(photographs: Path, opened: Model) -> None:
    save(photographs / "train/bark/copy.jpg", Image.open(photographs / "train/bark/train0.jpg"), quality=50)
    counting = Counting()
    belvedere.audit(photographs, model=opened, progress=counting)
    assert {"Looking at files", "Seeking copies", "Comparing pictures", "Looking closely"} <= counting.jobs.keys()
    assert all(promised == done for promised, done in counting.jobs.values()), counting.jobs


def test_labels_of_which_there_is_one_picture_are_left_out(photographs: Path, opened: Model) -> None:
    save(photographs / "train" / "lichen" / "only.jpg", draw_texture(9, moss=True))
    found = belvedere.audit(photographs, model=opened)
    assert any("1 labels not looked at" in note.message for note in found.notes)
    assert "only.jpg" not in {Path(issue.image).name for issue in found.issues if issue.issue_type == "label_issue"}


def test_what_was_found_is_summed_up(photographs: Path) -> None:
    (photographs / "train" / "bark" / "broken.jpg").write_bytes(b"nothing")
    found = belvedere.audit(photographs, labels=False)
    summaries = {one.issue_type: one for one in summarise(found)}
    assert summaries["unreadable"].flagged == 1
    assert "broken.jpg" in summaries["unreadable"].worst
    assert "label_issue" not in summaries  # not looked for
    assert found.flagged == 1


def list_contents(photographs: Path) -> tuple[belvedere.Dataset, Contents]:
    dataset = belvedere.load_dataset(photographs)
    return dataset, read_contents(dataset.part("train"), Progress())


def test_control_c_ends_an_audit_that_trains(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network has learnt until then is enough for a run, but not to judge labels by."""
    dataset, contents = list_contents(photographs)
    begun = []

    def learn(job: Job) -> SimpleNamespace:
        begun.append(job)
        return SimpleNamespace(fit=SimpleNamespace(interrupted=True))

    monkeypatch.setattr(cross_validation, "learn", learn)
    with pytest.raises(KeyboardInterrupt):
        cross_validation.cross_val_predict(dataset, contents, np.arange(len(contents.samples)) % 2, 0, Progress())
    assert len(begun) == 1


def test_a_rare_class_is_among_those_described(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_validation, "LEARNT_KEPT", 10)
    [sample, *_] = belvedere.load_dataset(photographs).samples
    samples = [replace(sample, label="rare" if place == 503 else "usual") for place in range(1000)]
    rows = np.arange(1000) * 2  # of all pictures, every second one is learnt from
    chosen = cross_validation._choose_some(samples, rows)
    assert 1006 in chosen
    assert set(chosen.tolist()) <= set(rows.tolist())
    assert 10 <= len(chosen) <= 12


def test_a_picture_that_goes_away_while_networks_learn_is_told(photographs: Path) -> None:
    _, contents = list_contents(photographs)
    embedder: Any = SimpleNamespace(preprocess=Preprocess(8, 8), embed=lambda images: np.zeros((len(images), 2)))
    contents.samples[3].path.write_bytes(b"something else")
    with pytest.raises(DatasetError, match="changed or removed"):
        cross_validation._embed(embedder, contents)
