import csv
import os
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.errors import DatasetError, UnknownNameError
from belvedere.runtime.output_folder import MARKER_FILE


def make(root: Path, *files: str) -> Path:
    """Makes empty files: a data set is read without opening an image."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, text: str, name: str = "t.csv") -> Dataset:
    make(root, "a.png")  # a table of which no image is found is refused
    (root / name).write_text(text, encoding="utf-8")
    return load_dataset(root / name)


def refusal(photos: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset(photos)
    message = str(caught.value)
    assert "\n" not in message
    return message


def notes(dataset: Dataset) -> dict[str, list[str]]:
    return {note.message: [Path(name).name for name in note.names] for note in dataset.warnings}


def labels(dataset: Dataset, part: str | None = None) -> list[str]:
    return [sample.label for sample in dataset.split(part)]


# Class folders


def test_class_folders_are_read_sorted_and_deep(tmp_path: Path) -> None:
    make(tmp_path, "sea/2.JPG", "forest/deep/er/1.png", "sea/1.jpeg", "forest/a.jpe", "naïve café/x.jpg")
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == ("forest", "naïve café", "sea")
    assert [sample.name for sample in dataset.samples] == [
        str(tmp_path / name)
        for name in ("forest/a.jpe", "forest/deep/er/1.png", "naïve café/x.jpg", "sea/1.jpeg", "sea/2.JPG")
    ]
    assert labels(dataset) == ["forest", "forest", "naïve café", "sea", "sea"]
    assert dataset.warnings == ()


def test_order_in_which_folders_are_listed_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "b/2.png", "b/1.png", "a/1.png", "c/d/1.png", "c/2.png")
    expected = load_dataset(tmp_path)
    listed = Path.iterdir
    for turn in (sorted, lambda paths: sorted(paths, reverse=True)):
        monkeypatch.setattr(Path, "iterdir", lambda self, turn=turn: iter(turn(listed(self))))
        assert load_dataset(tmp_path) == expected


def test_what_is_ignored_is_named_by_kind(tmp_path: Path) -> None:
    make(tmp_path, "sea/1.png", "sea/notes.txt", "sea/.DS_Store", "sea/Thumbs.db", "wood/1.png", "astray.png")
    make(tmp_path, ".git/x.png", "__MACOSX/sea/1.png", "sea/@eaDir/1.png", f"run/{MARKER_FILE}", "run/figures/grid.png")
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == ("sea", "wood")
    assert len(dataset.samples) == 2
    assert notes(dataset) == {
        "1 file skipped: image outside the class folders": ["astray.png"],
        "1 file skipped: hidden": [".DS_Store"],
        "1 folder skipped: hidden": [".git"],
        "2 files skipped: not an image (1 .db, 1 .txt)": ["Thumbs.db", "notes.txt"],
        "3 folders skipped: made by a program": ["__MACOSX", "run", "@eaDir"],
    }


def test_links_in_circles_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "sea/1.png", "wood/1.png")
    (tmp_path / "sea/up").symlink_to("..")
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "left").symlink_to("right")
    (tmp_path / "right").symlink_to("left")
    (tmp_path / "sea/self.png").symlink_to("self.png")
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == ("sea", "wood")
    assert [Path(sample.name).name for sample in dataset.samples] == ["1.png", "self.png", "1.png"]
    assert notes(dataset) == {
        "2 folders skipped: symbolic link": ["here", "up"],
        "2 files skipped: not an image (without suffix)": ["left", "right"],
    }


def test_link_to_a_class_folder_elsewhere_is_a_class(tmp_path: Path) -> None:
    make(tmp_path, "photos/sea/1.png", "elsewhere/1.png")
    (tmp_path / "photos/wood").symlink_to(tmp_path / "elsewhere")
    assert load_dataset(tmp_path / "photos").class_names == ("sea", "wood")


def test_one_class_only_is_read(tmp_path: Path) -> None:
    assert load_dataset(make(tmp_path, "sea/1.png")).class_names == ("sea",)


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        (("sea/1.png", "wood/readme.txt"), "only 1 file (.txt)"),
        (("train/sea/1.png", "test/sea/1.png", "test/wood/x", "test/wood/y.ARW"), "2 files (1 without suffix, 1 .arw)"),
    ],
)
def test_class_without_images_is_refused_with_what_is_there(files: tuple[str, ...], kinds: str, tmp_path: Path) -> None:
    message = refusal(make(tmp_path, *files))
    assert "wood" in message
    assert kinds in message


def test_empty_class_is_refused_by_name(tmp_path: Path) -> None:
    (make(tmp_path, "sea/1.png") / "wood").mkdir()
    assert "wood. Add some, or remove the folder" in refusal(tmp_path)


@pytest.mark.parametrize("other", ["Sea", "SEA", " sea "])
def test_class_spelled_in_two_cases_is_refused(other: str, tmp_path: Path) -> None:
    message = refusal(make(tmp_path, "sea/1.png", f"{other}/1.png"))
    assert "two spellings" in message
    assert repr(other) in message


@pytest.mark.parametrize("splits", [("", ""), ("train/", "test/")])
def test_class_spelled_in_two_unicode_forms_is_one(splits: tuple[str, str], tmp_path: Path) -> None:
    dataset = load_dataset(make(tmp_path, f"{splits[0]}caf\u00e9/1.png", f"{splits[1]}cafe\u0301/1.png"))
    assert (dataset.class_names, len(dataset.samples)) == (("caf\u00e9",), 2)


def test_class_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH102
    make(tmp_path, "sea/1.png", "caf\udce9/1.png")
    assert "is not UTF-8" in refusal(tmp_path)


def test_file_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    dataset = load_dataset(make(tmp_path, "sea/caf\udce9.png", "sea/two\nlines.png"))
    assert [sample.path.name for sample in dataset.samples] == ["caf\udce9.png", "two\nlines.png"]


@pytest.mark.parametrize("name", ["missing", "x" * 300, "nul\0"])
def test_nothing_there_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    assert name in refusal(tmp_path / name)


@pytest.mark.parametrize("files", [(), ("1.png", "2.png"), ("readme.txt",)])
def test_folder_without_classes_is_refused(files: tuple[str, ...], tmp_path: Path) -> None:
    assert "No labeled images" in refusal(make(tmp_path, *files))


def test_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", fail)
    assert f"{tmp_path}: Permission denied" in refusal(tmp_path)


# Parts


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "valid", "TESTING"),
        ("seg_train", "validation", "seg_test"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("Seg_Train/seg_train", "VAL", "Seg_Test/SEG_TEST"),
    ],
)
def test_parts_are_found_by_their_names(train: str, val: str, test: str, tmp_path: Path) -> None:
    make(tmp_path, *(f"{part}/{name}/1.png" for part in (train, val, test) for name in ("sea", "wood")))
    dataset = load_dataset(tmp_path)
    assert Counter(sample.split for sample in dataset.samples) == {"train": 2, "val": 2, "test": 2}
    assert dataset.class_names == ("sea", "wood")
    assert dataset.warnings == ()


def test_class_called_as_its_part_is_a_class(tmp_path: Path) -> None:
    dataset = load_dataset(make(tmp_path, "train/train/1.png", "test/train/1.png"))
    assert (labels(dataset, "train"), labels(dataset, "test")) == (["train"], ["train"])


def test_class_folders_called_train_and_test_hold_images(tmp_path: Path) -> None:
    dataset = load_dataset(make(tmp_path, "train/1.png", "test/1.png", "valley/1.png"))
    assert dataset.class_names == ("test", "train", "valley")
    assert {sample.split for sample in dataset.samples} == {None}
    assert any("although named like a split" in message for message in notes(dataset))


def test_folders_of_splits_that_hold_images_are_no_classes(tmp_path: Path) -> None:
    make(tmp_path, "train/1.png", "test/1.png", "val/1.png")
    assert "`layout`" in refusal(tmp_path)
    assert load_dataset(tmp_path, layout="classes").class_names == ("test", "train", "val")


def test_class_called_test_with_folders_in_it_is_a_class(tmp_path: Path) -> None:
    assert load_dataset(make(tmp_path, "test/deep/1.png", "wood/1.png")).class_names == ("test", "wood")


def test_folders_beside_the_parts_are_named(tmp_path: Path) -> None:
    make(tmp_path, "seg_train/seg_train/sea/1.png", "seg_train/left.txt", "seg_pred/1.png", "readme.md")
    assert notes(load_dataset(tmp_path)) == {
        "1 folder skipped: beside the splits": ["seg_pred"],
        "2 files skipped: not an image (1 .md, 1 .txt)": ["readme.md", "left.txt"],
    }


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "val/sea/1.png", "valid/sea/1.png", "train/sea/1.png")
    assert "val and valid" in refusal(tmp_path)


def test_class_missing_from_a_part_is_noted(tmp_path: Path) -> None:
    make(tmp_path, "train/sea/1.png", "train/wood/1.png", "test/sea/1.png", "val/wood/1.png")
    assert list(notes(load_dataset(tmp_path))) == [
        "No image of 'sea' in the split 'val': it does not affect the choice of the epoch",
        "No image of 'wood' in the split 'test': its precision and recall are unknown",
    ]


def test_test_class_that_is_not_in_train_is_refused(tmp_path: Path) -> None:
    message = refusal(make(tmp_path, "train/sea/1.png", "test/sea/1.png", "test/fjord/1.png"))
    assert "'fjord'" in message
    assert "has no training images" in message


def test_class_spelled_otherwise_in_the_test_part_is_refused(tmp_path: Path) -> None:
    assert "two spellings" in refusal(make(tmp_path, "train/sea/1.png", "test/Sea/1.png"))


def test_test_part_alone_can_be_read(tmp_path: Path) -> None:
    assert load_dataset(make(tmp_path, "test/sea/1.png")).class_names == ("sea",)


# Tables


def test_table_is_read_with_parts_and_several_labels(tmp_path: Path) -> None:
    dataset = table(
        tmp_path,
        "\ufeffimage,who,label,split\n"
        "a.png,x,sea | wood|sea,Train\n"
        '"two\nlines, and a comma.png",,wood,seg_train\n'
        "/else/where.png,x,sea,TEST\n"
        "\n"
        "../up.png,x,wood,valid\n",
    )
    first, second, third, fourth = dataset.samples
    assert (first.path, first.label, first.extra_labels, first.split) == (tmp_path / "a.png", "sea", ("wood",), "train")
    assert (second.path, second.split) == (tmp_path / "two\nlines, and a comma.png", "train")
    assert (third.path, third.name, third.split) == (Path("/else/where.png"), "/else/where.png", "test")
    assert (fourth.path, fourth.split) == (tmp_path / "../up.png", "val")
    assert dataset.class_names == ("sea", "wood")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "..", "/", "naïve café", "a\nb", "train", "a,b", "0"])
def test_any_class_name_is_kept(name: str, tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label"), ("a.png", name), ("b.png", "sea")])
    assert load_dataset(tmp_path / "t.csv").class_names == tuple(sorted((name, "sea")))


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
LABELS = st.lists(st.sampled_from(["sea", "..", "naïve café", 'q"uote', "x\ny", "1"]), min_size=1, unique=True)
ROWS = st.lists(st.tuples(NAMES, LABELS, st.sampled_from(["", "train"])), min_size=1)


@given(ROWS, st.sampled_from(["csv", "parquet"]), st.booleans())
def test_written_table_reads_back(tmp_path: Path, rows: list[tuple[str, list[str], str]], kind: str, bom: bool) -> None:
    path = tmp_path / f"t.{kind}"
    cells = {
        "image": [row[0] for row in rows] + [str(make(tmp_path, "there.png") / "there.png")],
        "label": ["|".join(row[1]) for row in rows] + ["sea"],
        "split": [row[2] for row in rows] + [""],
    }
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(cells), path)
    else:
        with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as file:
            csv.writer(file).writerows([tuple(cells), *zip(*cells.values(), strict=True)])
    dataset = load_dataset(path)
    *samples, _ = dataset.samples
    read = [(sample.path, [sample.label, *sample.extra_labels], sample.split) for sample in samples]
    distinct: dict[tuple[str, ...], str | None] = {}
    for image, names, split in rows:  # without a split, it is for training
        distinct.setdefault((image, *names), split or None)
    assert read == [(tmp_path / image, names, split) for (image, *names), split in distinct.items()]


def test_class_that_is_only_a_further_label_is_no_class_and_noted(tmp_path: Path) -> None:
    dataset = table(tmp_path, "image,label\na.png,sea|fjord\nb.png,wood\n")
    assert dataset.class_names == ("sea", "wood")
    _, (message, names) = notes(dataset).items()
    assert message.startswith("'fjord' is only an extra label")
    assert names == ["a.png"]


def test_rows_without_a_split_are_noted(tmp_path: Path) -> None:
    dataset = table(tmp_path, "image,label,split\na.png,sea,train\nb.png,sea,\nc.png,sea,test\n")
    assert notes(dataset)["1 row has no split: used for training"] == ["b.png"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Empty table"),
        ("a.png;sea\nb.png;wood\n", "No header"),
        ("a.png sea\n", "separate the cells by commas"),
        ("picture,label\na,sea\n", "No column of images"),
        ("image,size\na,sea\n", "No column of labels"),
        ("image,class,species\na.png,sea,x\n", "The label could be class and species"),
        ("image,label,label\na,sea,wood\n", ": image, label, label."),
        ("image,label\n", "No labeled images"),
        ("image,label\na.png\n", "line 2: the cells image and label must both be filled. Received: image 'a.png'"),
        ('image,label\n"a\nb.png",sea\n,sea\n', "line 4: the cells image and label must both be filled"),
        ("image,label\na.png,sea|\n", "line 2: | separates labels"),
        ("image,label\na.png,|sea\n", "line 2: | separates labels"),
        ("image,label\na, b.png,sea\n", "More cells than columns"),
        ('image,label\na.png,sea\n"b.png,sea\nc.png,sea\n', "line 3 (a quote is opened and never closed)"),
        ('image,label\na.png,"sea\nb.png,"wood"\n', "line 2 (a quote is closed before the end of its cell)"),
        ("image,label\na.png,sea\nb.png,Sea\n", "two spellings"),
    ],
)
def test_broken_table_is_refused_and_says_where(text: str, expected: str, tmp_path: Path) -> None:
    (make(tmp_path, "a.png") / "t.csv").write_text(text)
    assert expected in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize("text", [",image,label\n0,a.png,sea\n", "image,label\na.png,sea,\n"])
def test_unnamed_columns_and_trailing_commas_do_no_harm(text: str, tmp_path: Path) -> None:
    assert labels(table(tmp_path, text)) == ["sea"]


def test_binary_file_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"image,label\n\0\xff\x81")
    assert "Not a table" in refusal(tmp_path / "t.csv")


def test_unknown_split_names_the_line_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"t\.csv, line 3\)") as caught:
        table(tmp_path, "image,label,split\na.png,sea,train\nb.png,sea,tets\n")
    assert (caught.value.name, caught.value.suggestion) == ("tets", "test")


def test_parquet_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("image,label\n")
    assert "Not a Parquet table" in refusal(tmp_path / "t.parquet")


def test_parquet_may_hold_numbers_as_labels_but_no_structures(tmp_path: Path) -> None:
    path = make(tmp_path, "a.png") / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": ["a.png"], "label": [3]}), path)
    assert load_dataset(path).class_names == ("3",)
    pyarrow.parquet.write_table(pyarrow.table({"image": [{"bytes": b""}], "label": ["sea"]}), path)
    assert "struct<bytes: binary>" in refusal(path)


@pytest.mark.parametrize(
    ("suffixes", "expected"),
    [
        ({"cat": [".jpg"], "dog": [".JPEG"], "wolf": [".heic", ".HEIF"]}, ["wolf are .heic,"]),
        ({"cat": [".jpg", ".png"], "dog": [".jpg"], "wolf": [".png", ".webp"]}, []),
        ({"cat": [".jpg"], "dog": [".png", ".bmp"]}, ["cat are .jpg,", "dog are .bmp, .png,"]),
    ],
)
def test_a_class_of_its_own_format_is_named(
    suffixes: dict[str, list[str]], expected: list[str], tmp_path: Path
) -> None:
    for label, found in suffixes.items():
        (tmp_path / label).mkdir()
        for number, suffix in enumerate(found):
            (tmp_path / label / f"{number}{suffix}").write_bytes(b"not read")
    warnings = load_dataset(tmp_path).warnings
    assert len(warnings) == len(expected)
    assert all(part in warning.message for part, warning in zip(expected, warnings, strict=True))
