"""The contract of every check: it finds its planted issue and nothing in images without one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

import belvedere
from belvedere.auditing.checks import CHECKS, priorities, summarize
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_paths import BUNDLED
from belvedere.types.audit import Audit
from textures import draw_texture

EACH = 22  # training images of a class
CLASS_CHECKS = {"small_class", "class_imbalance"}
MODEL_CHECKS = {"label_issue", "outlier"}
MAX_CLEAN_OUTLIERS = 4  # of 50: by robust deviations a few images of a small class are
INFORMATIVE = {"exif_rotated"}  # listed, never flagged
ALSO_FLAGGED = {  # checks whose issue implies another
    "split_leak": {"duplicate_file"},
    "conflicting_labels": {"duplicate_file"},
    "duplicate_pixels": set(),
    "dark": {"low_information"},
    "light": {"low_information"},
    "low_information": {"blurry"},
    "class_imbalance": {"small_class"},
}


def write_dataset(folder: Path) -> Path:
    """Write two classes, train and test, without an issue."""
    for split, count in (("train", EACH), ("test", 3)):
        for index, name in enumerate(("bark", "moss")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                texture = draw_texture(1000 * index + 100 * (split == "test") + number, name == "moss")
                Image.fromarray(texture).save(folder / split / name / f"{split}{number}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(BUNDLED)


def texture(seed: int = 77) -> Image.Image:
    return Image.fromarray(draw_texture(seed, moss=False))


def save(image: Image.Image, folder: Path, name: str = "odd.jpg", **options: Any) -> set[str]:
    image.save(folder / "train" / "bark" / name, **({"quality": 95} | options))
    return {name}


def resized(image: Image.Image, factor: float) -> Image.Image:
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.LANCZOS)


def first(folder: Path) -> Path:
    return folder / "train" / "bark" / "train0.jpg"


def write_copy(folder: Path, name: str) -> set[str]:
    (folder / name).write_bytes(first(folder).read_bytes())
    return {Path(name).name, "train0.jpg"}


def write_wrong_extension(folder: Path) -> set[str]:
    save(texture(), folder)
    (folder / "train/bark/odd.jpg").rename(folder / "train/bark/odd.png")
    return {"odd.png"}


def write_rotated(folder: Path) -> set[str]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return save(texture(), folder, exif=exif)


def write_bytes(folder: Path, content: bytes) -> set[str]:
    (folder / "train/bark/odd.jpg").write_bytes(content)
    return {"odd.jpg"}


def relabel(folder: Path) -> set[str]:
    (folder / "train/bark/train3.jpg").rename(folder / "train/moss/wrong.jpg")
    return {"wrong.jpg"}


def remove(folder: Path, count: int, more: int = 0) -> set[str]:
    for number in range(count):
        (folder / f"train/bark/train{number}.jpg").unlink()
    for number in range(more):
        Image.fromarray(draw_texture(3000 + number, moss=True)).save(folder / f"train/moss/more{number}.jpg")
    return {"bark"}


# Each plants one issue in a dataset and returns the names of the files, or of the classes, that have it.
PLANTS: Mapping[str, Callable[[Path], set[str]]] = {
    "split_leak": lambda folder: write_copy(folder, "test/bark/leak.jpg"),
    "conflicting_labels": lambda folder: write_copy(folder, "train/moss/conflict.jpg"),
    "label_issue": relabel,
    "unreadable": lambda folder: write_bytes(folder, b"not an image"),
    "truncated": lambda folder: write_bytes(folder, first(folder).read_bytes()[:1500]),
    "duplicate_file": lambda folder: write_copy(folder, "train/bark/copy.jpg"),
    "duplicate_pixels": lambda folder: save(Image.open(first(folder)), folder, "odd.png") | {"train0.jpg"},
    "near_duplicate": lambda folder: save(resized(Image.open(first(folder)), 2 / 3), folder) | {"train0.jpg"},
    "outlier": lambda folder: save(Image.fromarray(draw_texture(9999, moss=False)[:, :, ::-1].copy()), folder),  # blue
    "wrong_extension": write_wrong_extension,
    "exif_rotated": write_rotated,
    "grayscale": lambda folder: save(texture().convert("L"), folder),
    "odd_size": lambda folder: save(texture().crop((0, 0, 20, 20)), folder),
    "odd_aspect_ratio": lambda folder: save(texture().crop((0, 0, 120, 36)), folder),
    "dark": lambda folder: save(texture().point(lambda value: value // 12), folder),
    "light": lambda folder: save(texture().point(lambda value: 225 + value // 9), folder),
    "blurry": lambda folder: save(texture().filter(ImageFilter.GaussianBlur(3)), folder),
    "low_information": lambda folder: save(Image.new("RGB", (120, 90), (120, 130, 90)), folder),
    "upscaled": lambda folder: save(resized(resized(texture(), 0.5), 2), folder),
    "small_class": lambda folder: remove(folder, 3),
    "class_imbalance": lambda folder: remove(folder, EACH - 3, more=4 * EACH),
}


def flagged(found: Audit, check: str) -> set[str]:
    images = {Path(issue.image).name for issue in found.issues if issue.issue_type == check and issue.is_issue}
    return images | {issue.name for issue in found.class_issues if issue.issue_type == check}


@pytest.mark.parametrize("check", CHECKS)
def test_check_contract(check: str, tmp_path: Path, model: Model) -> None:
    names = PLANTS[check](write_dataset(tmp_path))
    found = belvedere.audit(
        tmp_path, model=model if check in MODEL_CHECKS else None, label_issues=check in MODEL_CHECKS
    )
    listed = {
        Path(issue.image).name for issue in found.issues if issue.issue_type == check and issue.issue_score > 0.25
    }
    if check == "outlier":
        [worst, *_] = sorted(
            (each for each in found.issues if each.issue_type == check), key=lambda each: -each.issue_score
        )
        assert Path(worst.image).name == "odd.jpg"
        assert names <= flagged(found, check)
        assert len(flagged(found, check)) <= MAX_CLEAN_OUTLIERS + 1
    else:
        assert flagged(found, check) == (set() if check in INFORMATIVE else names)
        assert check in CLASS_CHECKS | MODEL_CHECKS or listed == names
    others = {other for other in CHECKS if other not in (check, "outlier") and flagged(found, other)}
    assert others <= ALSO_FLAGGED.get(check, set())
    for issue in found.issues:
        assert issue.issue_type in CHECKS
        assert issue.message
        assert 0 <= issue.issue_score <= 1
        assert not issue.is_issue or issue.issue_score >= 0.5 or issue.issue_type == "label_issue"
    order = [priorities()[issue.issue_type] for issue in found.issues if issue.is_issue]
    assert order == sorted(order)
    assert found.num_flagged == len({issue.image for issue in found.issues if issue.is_issue})
    summaries = summarize(found)
    assert MODEL_CHECKS & {each.issue_type for each in summaries} == (MODEL_CHECKS if check in MODEL_CHECKS else set())
    [summary] = [each for each in summaries if each.issue_type == check]
    assert summary.num_flagged == len(flagged(found, check))
    assert summary.title == CHECKS[check].title
    assert (summary.example != "") == (summary.num_flagged > 0)


def test_no_check_finds_anything_in_clean_images(clean: Path, model: Model) -> None:
    found = belvedere.audit(clean, model=model)
    assert [each.issue_type for each in summarize(found)] == list(CHECKS)
    assert (found.num_images, found.groups) == (2 * EACH + 6, ())
    for each in summarize(found):
        assert each.num_flagged <= (MAX_CLEAN_OUTLIERS if each.issue_type == "outlier" else 0), each
        assert (each.example == "") == (each.num_flagged == 0)


def test_checks_have_a_title_and_advice() -> None:
    for name, finding in CHECKS.items():
        assert name.replace("_", "").isalpha(), name
        assert finding.title[0].isupper(), name
        assert not finding.title.endswith("."), name
        assert finding.advice.endswith("."), name
    assert len({finding.title for finding in CHECKS.values()}) == len(CHECKS)
    assert list(priorities().items()) == [(name, position) for position, name in enumerate(CHECKS)]
