from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.groups import (
    assign_groups,
    check_group_by,
    connect,
    connect_equal,
    group_column,
    group_names,
    is_common_layout,
)
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.errors import DatasetError, UsageError
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample
from conftest import write_image
from decisions import decide

DATE_TIME_ORIGINAL = 0x9003


def groups_of(dataset: Dataset, group_by: str | None) -> tuple[dict[str, str | None], list[str]]:
    contents = hash_samples(dataset.samples, Progress())
    found, warnings = assign_groups(contents, dataset, group_by, Progress())
    names = {Path(sample.name).relative_to(dataset.source).as_posix(): sample.group for sample in found.samples}
    return names, [warning.message for warning in warnings]


def test_connect() -> None:
    members = connect(6, [(0, 2), (2, 4), (5, 1)])
    assert [members[row] == members[0] for row in range(6)] == [True, False, True, False, True, False]
    assert members[1] == members[5] != members[3]
    members = connect_equal(["a", "b", "c", "d"], ["x", None, "x", None])
    assert [members.count(member) for member in members] == [2, 1, 2, 1]


def contents(rows: Sequence[tuple[str, str | None]]) -> HashedSamples:
    samples = [Sample(Path("x"), f"{i}", "a", None, group=group) for i, (_, group) in enumerate(rows)]
    return HashedSamples(tuple(samples), tuple(key for key, _ in rows))


def test_images_of_a_group_and_identical_files_have_one_name() -> None:
    names = group_names(contents([("3", "p"), ("1", None), ("2", "p"), ("2", "q"), ("5", "q"), ("4", None)]))
    assert names == ["2", "1", "2", "2", "2", "4"]


def test_without_groups_the_names_are_the_hashes() -> None:
    assert group_names(contents([("b", None), ("a", None), ("b", None)])) == ["b", "a", "b"]


def test_folders_below_the_class(tmp_path: Path) -> None:
    files = ["cat/p1/1.png", "cat/p1/2.png", "cat/p2/a/3.png", "dog/p1/4.png", "dog/5.png"]
    for number, file in enumerate(files):
        write_image(tmp_path / file, "red", number)
    names, warnings = groups_of(load_dataset(tmp_path), "folder")
    assert names == dict(zip(files, ["p1", "p1", "p2/a", "p1", None], strict=True))
    assert warnings == ["1 image has no group: each is one by itself"]


def test_folders_within_splits(tmp_path: Path) -> None:
    for number, file in enumerate(
        ["train/cat/p1/1.png", "train/dog/p2/2.png", "test/cat/p1/3.png", "test/dog/p3/4.png"]
    ):
        write_image(tmp_path / file, "red", number)
    names, _ = groups_of(load_dataset(tmp_path), "folder")
    assert list(names.values()) == ["p1", "p3", "p1", "p2"]


@pytest.mark.parametrize("split", ["", "train"])
def test_a_folder_below_the_class_may_be_named_like_a_class(split: str, tmp_path: Path) -> None:
    files = [f"{label}/{patient}/{label}{patient}.png" for label in ("0", "1") for patient in ("0", "1", "2")]
    for number, file in enumerate(files):
        write_image(tmp_path / split / file, "red", number)
    decide(tmp_path / "c.jsonl", tmp_path / split / files[1], "relabel", "1")
    dataset = load_dataset(tmp_path, corrections=tmp_path / "c.jsonl", layout="auto" if split else "classes")
    names, _ = groups_of(dataset, "folder")
    assert list(names.values()) == ["0", "1", "2", "0", "1", "2"]


@pytest.mark.parametrize("label", ["cat", "train"])
def test_the_last_folder_named_like_a_class_counts_in_a_table(label: str, tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "images" / label / "p1" / "1.png", "red")
    write_image(tmp_path / "cat" / "images" / "dog" / "p2" / "2.png", "blue")
    write_image(tmp_path / "cat" / "images" / "dog" / "p1" / "3.png", "green")
    rows = [f"cat/images/{label}/p1/1.png,{label}", "cat/images/dog/p2/2.png,dog", "cat/images/dog/p1/3.png,dog"]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]))
    dataset = load_dataset(tmp_path / "labels.csv")
    found, _ = assign_groups(hash_samples(dataset.samples, Progress()), dataset, "folder", Progress())
    assert [sample.group for sample in found.samples] == ["p1", "p2", "p1"]


def test_whole_folders_where_none_is_named_like_a_class(tmp_path: Path) -> None:
    write_image(tmp_path / "bursts" / "a" / "1.png", "red")
    write_image(tmp_path / "bursts" / "b" / "2.png", "blue")
    write_image(tmp_path / "bursts" / "b" / "3.png", "green")
    (tmp_path / "labels.csv").write_text("image,label\nbursts/a/1.png,cat\nbursts/b/2.png,dog\nbursts/b/3.png,cat\n")
    dataset = load_dataset(tmp_path / "labels.csv")
    found, _ = assign_groups(hash_samples(dataset.samples, Progress()), dataset, "folder", Progress())
    assert [str(sample.group)[-8:] for sample in found.samples] == ["bursts/a", "bursts/b", "bursts/b"]


def test_no_folder_below_the_class_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "1.png", "red")
    write_image(tmp_path / "dog" / "2.png", "blue")
    with pytest.raises(DatasetError, match="folder"):
        groups_of(load_dataset(tmp_path), "folder")


def write_dated(file: Path, day: str | None, level: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if day is not None:
        exif.get_ifd(0x8769)[DATE_TIME_ORIGINAL] = f"{day} 12:30:00"
    Image.new("RGB", (16, 16), (level, level, level)).save(file, exif=exif)


def test_days_of_exif_data(tmp_path: Path) -> None:
    days = ["2024:05:31", "2024:05:31", "2024:06:01", None, "0000:00:00"]
    for number, day in enumerate(days):
        write_dated(tmp_path / "cat" / f"{number}.jpg", day, 40 * number)
    write_dated(tmp_path / "dog" / "5.jpg", None, 250)
    names, warnings = groups_of(load_dataset(tmp_path), "exif-day")
    assert list(names.values()) == ["2024-05-31", "2024-05-31", "2024-06-01", None, None, None]
    assert warnings == ["3 images have no group: each is one by itself"]


def test_near_duplicates_are_one_group(tmp_path: Path) -> None:
    for number, label in enumerate(("cat", "cat", "dog")):
        few = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        scene = Image.fromarray(few).resize((120, 120), Image.Resampling.BICUBIC)
        for shift in (0, 6):
            file = tmp_path / label / f"{number}-{shift}.png"
            file.parent.mkdir(exist_ok=True)
            scene.crop((shift, 0, shift + 100, 100)).save(file)
    names, warnings = groups_of(load_dataset(tmp_path), "near-duplicates")
    first, same, second, also, third, too = names.values()
    assert first == same != second == also != third == too
    assert not warnings


def test_column_of_a_table(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f"{number}.png", "red", number)
    table = tmp_path / "labels.csv"
    table.write_text("image,label,group,patient\n0.png,a,x,p\n1.png,b,x,q\n2.png,b,,p\n")
    assert [sample.group for sample in load_dataset(table).samples] == ["x", "x", None]
    assert [sample.group for sample in load_dataset(table, group_column="patient").samples] == ["p", "q", "p"]
    with pytest.raises(UsageError, match="patien"):
        load_dataset(table, group_column="patien")
    assert [group_column(name) for name in ("patient", "folder", None)] == ["patient", None, None]


def test_a_column_without_groups_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "1.png", "red")
    write_image(tmp_path / "dog" / "2.png", "blue")
    with pytest.raises(UsageError, match="patient"):
        groups_of(load_dataset(tmp_path), "patient")


def test_folders_of_splits_inside_classes_are_no_groups(tmp_path: Path) -> None:
    files = ["cat/test/p1/1.png", "cat/train/p2/2.png", "dog/test/3.png", "dog/train/4.png"]
    for number, file in enumerate(files):
        write_image(tmp_path / file, "red", number)
    names, _ = groups_of(load_dataset(tmp_path), "folder")
    assert names == dict(zip(files, ["p1", "p2", None, None], strict=True))


@pytest.mark.parametrize(
    ("loaded", "group_by", "accepted"),
    [(None, "group", True), (None, "patient", False), ("patient", "patient", True), ("patient", "group", False)],
)
def test_groups_of_another_column_are_refused(
    loaded: str | None, group_by: str, accepted: bool, tmp_path: Path
) -> None:
    for number in range(2):
        write_image(tmp_path / f"{number}.png", "red", number)
    (tmp_path / "labels.csv").write_text("image,label,group,patient\n0.png,a,x,p\n1.png,b,y,q\n")
    dataset = load_dataset(tmp_path / "labels.csv", group_column=loaded)
    with nullcontext() if accepted else pytest.raises(UsageError, match="group_column"):
        check_group_by(dataset, group_by)


@pytest.mark.parametrize(("size", "total", "common"), [(19, 20, False), (20, 80, True), (20, 81, False)])
def test_a_common_layout(size: int, total: int, common: bool) -> None:
    assert is_common_layout(size, total) is common


def test_classes_that_are_groups_are_an_error(tmp_path: Path) -> None:
    rows = [("0.png", "cat", "x"), ("1.png", "cat", "x"), ("2.png", "dog", "y")]
    for number, row in enumerate(rows):
        write_image(tmp_path / row[0], "red", number)
    (tmp_path / "labels.csv").write_text("\n".join(map(",".join, [("image", "label", "kind"), *rows])))
    with pytest.raises(DatasetError, match="kind"):
        groups_of(load_dataset(tmp_path / "labels.csv", group_column="kind"), "kind")


def test_equal_folders_in_each_class_are_groups_where_the_layout_is_said(tmp_path: Path) -> None:
    files = [f"{label}/patient{number}/{number}.png" for label in ("cat", "dog") for number in range(3)]
    for number, file in enumerate(files):
        write_image(tmp_path / file, "red", number)
    with pytest.raises(DatasetError, match="`layout` classes"):
        load_dataset(tmp_path)
    names, _ = groups_of(load_dataset(tmp_path, layout="classes"), "folder")
    assert list(names.values()) == [f"patient{number}" for number in (0, 1, 2, 0, 1, 2)]
