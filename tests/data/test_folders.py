"""Layouts of folders: splits under other names and inside classes, a folder too many, tables beside the images."""

from collections import Counter
from pathlib import Path

import pytest

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.errors import DatasetError, UnknownNameError, UsageError
from belvedere.runtime.output_folder import MARKER_FILE
from conftest import write_image


def make(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def make_classes(root: Path, *folders: str, names: str = "cat dog") -> Path:
    return make(root, *(f"{folder}/{name}/1.jpg" for folder in folders for name in names.split()))


def refusal(folder: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def splits(dataset: Dataset) -> dict[str | None, int]:
    return dict(Counter(sample.split for sample in dataset.samples))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("train_images", "test_images"),
        ("Trainingsdaten", "Testdaten"),
        ("apprentissage", "évaluation"),
        ("flowers_train", "flowers_test"),
        ("train/images", "holdout/images"),
        ("train2017/train2017", "test"),
    ],
)
def test_splits_under_other_names(train: str, test: str, tmp_path: Path) -> None:
    dataset = load_dataset(make_classes(tmp_path, train, test))
    assert splits(dataset) == {"train": 2, "test": 2}
    assert dataset.class_names == ("cat", "dog")


def test_folders_that_hold_the_same_folders_are_refused_unless_they_are_said_to_be_classes(tmp_path: Path) -> None:
    make_classes(tmp_path, "Entrenamiento", "Prueba")
    message = refusal(tmp_path)
    assert all(name in message for name in ("Entrenamiento", "Prueba", "cat", "dog", "`layout`"))
    assert load_dataset(tmp_path, layout="classes").class_names == ("Entrenamiento", "Prueba")


def test_folders_with_few_folders_in_common_are_classes(tmp_path: Path) -> None:
    make_classes(tmp_path, "animals", names="cat dog small")
    make_classes(tmp_path, "plants", names="tulip rose small")
    assert load_dataset(tmp_path).class_names == ("animals", "plants")


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Test"), ("train_images", "eval")])
def test_splits_inside_the_classes(train: str, test: str, tmp_path: Path) -> None:
    make(tmp_path, *(f"{label}/{name}/1.jpg" for label in ("cat", "dog") for name in (train, test)))
    dataset = load_dataset(tmp_path)
    assert splits(dataset) == {"train": 2, "test": 2}
    assert dataset.class_names == ("cat", "dog")
    assert dataset.warnings[0].message == f"Splits inside the class folders: {', '.join(sorted(_said(train, test)))}"


def _said(train: str, test: str) -> list[str]:
    return [name if name == split else f"{name} as {split}" for name, split in ((train, "train"), (test, "test"))]


def test_splits_in_some_classes_only_are_refused(tmp_path: Path) -> None:
    message = refusal(make(tmp_path, "cat/train/1.jpg", "cat/test/1.jpg", "dog/1.jpg"))
    assert "cat holds test and train" in message
    assert str(tmp_path / "dog") in message
    assert load_dataset(tmp_path, layout="classes").class_names == ("cat", "dog")


@pytest.mark.parametrize("wrapper", ["flowers", "a/b/c"])
@pytest.mark.parametrize("beside", ["LICENSE", "annotations/1.txt", "__MACOSX/1.jpg", "masks/cat/1.png"])
def test_a_folder_too_many_is_pointed_to(wrapper: str, beside: str, tmp_path: Path) -> None:
    wrapper = wrapper if beside != "masks/cat/1.png" else "images"
    make(make_classes(tmp_path, wrapper), beside)
    assert f"Did you mean {tmp_path / wrapper}, with the folders cat and dog?" in refusal(tmp_path)


def test_a_folder_too_many_above_the_splits_is_pointed_to(tmp_path: Path) -> None:
    assert f"Did you mean {tmp_path / 'data'}, with the folders test and train?" in refusal(
        make_classes(tmp_path, "data/train", "data/test")
    )


def test_a_folder_too_many_inside_the_splits_is_named(tmp_path: Path) -> None:
    assert "hold only the folder flowers, with the folders cat and dog" in refusal(
        make_classes(tmp_path, "train/flowers", "test/flowers")
    )


def test_one_class_with_folders_can_be_said(tmp_path: Path) -> None:
    make_classes(tmp_path, "sea", names="2020 2021")
    assert "sea" in refusal(tmp_path)
    assert load_dataset(tmp_path, layout="classes").class_names == ("sea",)


@pytest.mark.parametrize("others", [("bus",), ("car", "plane")])
def test_a_class_called_train_is_not_taken_for_a_split(others: tuple[str, ...], tmp_path: Path) -> None:
    make(make_classes(tmp_path, "train", names="steam electric"), *(f"{name}/1.jpg" for name in others))
    message = refusal(tmp_path)
    assert all(name in message for name in ("train", *others))
    assert load_dataset(tmp_path, layout="classes").class_names == tuple(sorted((*others, "train")))


def test_results_and_hidden_folders_beside_a_split_are_no_classes(tmp_path: Path) -> None:
    make_classes(tmp_path, "train")
    make(tmp_path, f"run/{MARKER_FILE}", "run/figures/1.png", ".cache/1.png")
    assert splits(load_dataset(tmp_path)) == {"train": 2}


def test_two_classes_called_train_and_test_are_not_taken_for_splits(tmp_path: Path) -> None:
    make_classes(tmp_path, "train", names="steam electric")
    make(make_classes(tmp_path, "test", names="crash dummy"), "car/1.jpg")
    assert "beside car" in refusal(tmp_path)


@pytest.mark.parametrize("folder", ["images", "train", "pets"])
@pytest.mark.parametrize("table", ["labels.csv", "metadata.jsonl", "train.xlsx", "t.parquet"])
def test_a_table_beside_the_images_is_pointed_to(folder: str, table: str, tmp_path: Path) -> None:
    assert f"{tmp_path / table}" in refusal(make(tmp_path, f"{folder}/1.jpg", f"{folder}/2.jpg", table))


@pytest.mark.parametrize("table", ["images/metadata.csv", "metadata.csv"])
def test_a_table_among_the_images_is_pointed_to(table: str, tmp_path: Path) -> None:
    assert f"{tmp_path / table}" in refusal(make(tmp_path, "images/1.jpg", table))


def test_the_most_likely_of_several_tables_is_given_as_the_example(tmp_path: Path) -> None:
    make(tmp_path, "train/1.jpg", "test/1.jpg", "sample_submission.csv", "test.csv", "train.csv")
    assert f"instead of the folder: {tmp_path / 'train.csv'}." in refusal(tmp_path)


def test_a_table_beside_classes_is_named(tmp_path: Path) -> None:
    [warning] = load_dataset(make(make_classes(tmp_path, "."), "notes.csv")).warnings
    assert "a table" in warning.message
    assert warning.names == (str(tmp_path / "notes.csv"),)


def test_images_without_suffix_are_read(tmp_path: Path) -> None:
    write_image(tmp_path / "sea" / "image", "blue")
    make(tmp_path, "sea/readme")
    dataset = load_dataset(tmp_path)
    assert [sample.path.name for sample in dataset.samples] == ["image"]
    assert [warning.message for warning in dataset.warnings] == ["1 file skipped: not an image (without suffix)"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("1.jpg", "2.jpg"), "only 2 images."),
        (("1.jpg", "a.md", "b.zip"), "only 1 image and 2 files (1 .md, 1 .zip). Unpack archives first."),
        ((), "it is empty."),
    ],
)
def test_a_folder_without_classes_says_what_is_there(files: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in refusal(make(tmp_path, *files))


@pytest.mark.parametrize("test", ["test", "test/images", "test/test", "test/unknown", "test1", "Testbilder"])
def test_a_split_without_class_folders_is_named(test: str, tmp_path: Path) -> None:
    make(make_classes(tmp_path, "train"), f"{test}/1.jpg", f"{test}/2.jpg")
    dataset = load_dataset(tmp_path)
    assert splits(dataset) == {"train": 2}
    [warning] = dataset.warnings
    assert warning.message.startswith(f"2 images in {tmp_path / test} without class folders")


def test_a_class_folder_that_is_the_only_one_of_a_split_is_a_class(tmp_path: Path) -> None:
    dataset = load_dataset(make(make_classes(tmp_path, "train", names="cat images"), "test/images/1.jpg"))
    assert splits(dataset) == {"train": 2, "test": 1}


@pytest.mark.parametrize("parent", ["", "train/"])
@pytest.mark.parametrize("masks", ["masks", "labels", "ground_truth", "Annotations"])
def test_folders_of_images_and_of_their_masks_are_no_classes(parent: str, masks: str, tmp_path: Path) -> None:
    make(tmp_path, f"{parent}images/1.jpg", f"{parent}{masks}/1.png")
    message = refusal(tmp_path)
    assert masks in message
    assert "image and label" in message
    assert load_dataset(tmp_path / parent, layout="classes").class_names == tuple(sorted(("images", masks)))


def test_masks_on_faces_are_classes(tmp_path: Path) -> None:
    dataset = load_dataset(make_classes(tmp_path, ".", names="with_mask without_mask"))
    assert dataset.class_names == ("with_mask", "without_mask")


def test_a_folder_of_annotations_is_named(tmp_path: Path) -> None:
    message = refusal(make(tmp_path, "train/images/1.jpg", "train/labels/1.txt", "train/labels/2.txt"))
    assert "2 files (.txt). Boxes, masks and other annotations are not read" in message


def test_a_class_of_hidden_files_is_empty(tmp_path: Path) -> None:
    assert f"{tmp_path / 'cat'}. Add some" in refusal(make(tmp_path, "cat/.1.jpg", "dog/1.jpg"))


def test_training_images_without_class_folders_are_an_error(tmp_path: Path) -> None:
    message = refusal(make(make_classes(tmp_path, "test"), "train/1.jpg"))
    assert f"No class folders in {tmp_path / 'train'}" in message


def test_options_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    make_classes(tmp_path, ".")
    (tmp_path / "t.csv").write_text("image,label\ncat/1.jpg,cat\n")
    with pytest.raises(UsageError, match="`root`"):
        load_dataset(tmp_path, root=tmp_path)
    with pytest.raises(UsageError, match="`layout`"):
        load_dataset(tmp_path / "t.csv", layout="classes")
    with pytest.raises(UnknownNameError, match="layout"):
        load_dataset(tmp_path, layout="class")
