"""Tables as people bring them: separators, encodings, names of columns, paths of other machines, numbers for labels."""

import csv
import io
import json
import time
import unicodedata
import zipfile
from pathlib import Path

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.label_tables import read_label_table
from belvedere.errors import BelvedereError, DatasetError, UnknownNameError, UsageError


def make(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path, "images/1.jpg", "images/2.jpg")


def load(folder: Path, text: str, name: str = "t.csv", encoding: str = "utf-8", **options: str) -> Dataset:
    (folder / name).write_bytes(text.encode(encoding))
    return load_dataset(folder / name, **options)  # type: ignore[arg-type]


def refusal(folder: Path, text: str, name: str = "t.csv") -> str:
    with pytest.raises(DatasetError) as caught:
        load(folder, text, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels(dataset: Dataset) -> dict[str, str]:
    return {sample.path.name: sample.label for sample in dataset.samples}


def said(dataset: Dataset) -> list[str]:
    return [warning.message for warning in dataset.warnings]


BOTH = {"1.jpg": "cat", "2.jpg": "dog"}


@pytest.mark.parametrize(
    ("text", "encoding", "guess"),
    [
        ("image;label\nimages/1.jpg;cat\nimages/2.jpg;dog\n", "utf-8", "separator ;"),
        ("image\tlabel\nimages/1.jpg\tcat\nimages/2.jpg\tdog\n", "utf-16", "separator tab"),
        ("image|label\nimages/1.jpg|cat\nimages/2.jpg|dog\n", "utf-8-sig", "separator |"),
        ('"image";"label"\n"images/1.jpg";"cat"\n"images/2.jpg";"dog"\n', "utf-8", "separator ;"),
        ("sep=;\nimage;label\nimages/1.jpg;cat\nimages/2.jpg;dog\n", "utf-8", "separator ;"),
        ("filename,class\nimages/1.jpg,cat\nimages/2.jpg,dog\n", "utf-8", "filename as image, class as label"),
        ("Bild;Klasse\nimages/1.jpg;cat\nimages/2.jpg;dog\n", "utf-8", "Bild as image, Klasse as label, separator ;"),
        (
            "File Name , SPECIES\nimages/1.jpg, cat\nimages/2.jpg, dog\n",
            "utf-8",
            "File Name as image, SPECIES as label",
        ),
        (
            "path,cat,dog\nimages/1.jpg,1,0\nimages/2.jpg,0,1\n",
            "utf-8",
            "path as image, one column per class (cat, dog)",
        ),
        ("image,cat,dog\nimages/1.jpg,1.0,0.0\nimages/2.jpg,0.0,1.0\n", "utf-8", "one column per class (cat, dog)"),
        ("image,label,class_name\nimages/1.jpg,0,cat\nimages/2.jpg,1,dog\n", "utf-8", "class_name as label"),
        ("image,label,größe\nimages/1.jpg,cat,1\nimages/2.jpg,dog,2\n", "cp1252", "encoding cp1252"),
    ],
)
def test_usual_tables_are_read_and_the_guess_is_said(text: str, encoding: str, guess: str, folder: Path) -> None:
    dataset = load(folder, text, encoding=encoding)
    assert labels(dataset) == BOTH
    assert said(dataset)[0] == f"Read from the table: {guess}"


@pytest.mark.parametrize(
    "text",
    [
        "image,label\nimages/1.jpg,cat\nimages/2.jpg,dog\n,\n,\n\n",
        " Image , Label\nimages/1.jpg, cat\n images/2.jpg,dog\n",
        '"image","label"\n"images/1.jpg","cat"\n"images/2.jpg","dog"\n',
    ],
)
def test_what_is_plain_is_not_said(text: str, folder: Path) -> None:
    dataset = load(folder, text)
    assert labels(dataset) == BOTH
    assert not any(message.startswith("Read") for message in said(dataset))


def test_excel(folder: Path) -> None:
    workbook = openpyxl.Workbook()
    for row in (
        ("Image", "Label", None),
        ("images/1.jpg", 3.0, None),
        ("images/2.jpg", "dog", None),
        (None, None, None),
    ):
        workbook.active.append(row)
    workbook.save(folder / "t.xlsx")
    assert labels(load_dataset(folder / "t.xlsx")) == {"1.jpg": "3", "2.jpg": "dog"}


def test_excel_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", b"0" * 100_000_000)
    with pytest.raises(DatasetError, match=r"t\.xlsx.* 64,000,000"):
        load_dataset(tmp_path / "t.xlsx")


def test_excel_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "Excel" in refusal(tmp_path, "image,label\n", "t.xlsx")
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        archive.writestr("a", b"")
    with pytest.raises(DatasetError, match="Excel"):
        load_dataset(tmp_path / "t.xlsx")


def test_json_lines(folder: Path) -> None:
    rows = [{"file_name": "1.jpg", "label": "cat"}, {"file_name": "2.jpg", "label": ["dog", "cat"], "text": {"a": 1}}]
    dataset = load(folder, "\n".join(map(json.dumps, rows)), "images/metadata.jsonl")
    assert labels(dataset) == BOTH
    assert dataset.samples[1].extra_labels == ("cat",)
    assert said(dataset)[:2] == ["Read from the table: file_name as image", "Columns that are not used: text"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "line 1 is no JSON object"),
        ('{"image": "1.jpg"', "line 1, column 18"),
        ('{"image": "1.jpg", "label": "cat"}\n\n{"image": "1.jpg", "label": cat}', "line 3, column 29"),
        ('[\n {"image": "1.jpg"}\n]', "line 1"),
        ('{"image": "1.jpg", "label": ["cat", {}]}', "line 1: label must be a text or a number"),
        ('{"image": {"a": 1}, "label": "cat"}', "line 1: image must be a text or a number"),
        ('{"a": ' * 100_000, "Not a file of JSON lines"),
    ],
)
def test_broken_json_lines(text: str, message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, text, "t.jsonl")


def test_json_lines_in_another_encoding_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes('{"image": "1.jpg", "label": "Käse"}'.encode("utf-16"))
    with pytest.raises(DatasetError, match="UTF-8"):
        load_dataset(tmp_path / "t.jsonl")


def test_parquet_with_images_says_what_to_do(tmp_path: Path) -> None:
    cells = {"image": [{"bytes": b"", "path": "a"}], "label": [0]}
    pyarrow.parquet.write_table(pyarrow.table(cells), tmp_path / "t.parquet")
    with pytest.raises(DatasetError, match=r"t\.parquet"):
        load_dataset(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.jpg", "a.json", "a.xls"])
def test_other_files_are_named(name: str, tmp_path: Path) -> None:
    assert name in refusal(tmp_path, "x", name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\n3.jpg,cat\n4.jpg,dog\n", "line 2: '3.jpg', tried"),
        ("image,label\nhttps://a.org/1.jpg,cat\n", "not a path but an address"),
        ("image,cat,dog\nimages/1.jpg,0.3,0.7\n", "No column of labels, and none of 0 and 1 for each class"),
        ("image,cat,dog\nimages/1.jpg,1,0\nimages/2.jpg,0,0\nimages/2.jpg,0,1\n", "line 3: no class has a 1"),
        ("label,pixel0,pixel1\n1,0,0\n", "Pixels in a table are not read"),
        ("image label\nimages/1.jpg cat\n", "Separate the columns by commas"),
        ("image,file name,label,Label\n1.jpg,1.jpg,cat,dog\n", "Two columns label"),
    ],
)
def test_tables_that_cannot_be_read_say_why(text: str, message: str, folder: Path) -> None:
    assert message in refusal(folder, text)


# Paths


@pytest.mark.parametrize(
    "paths",
    [
        ("images\\1.jpg", "images\\2.jpg"),
        ("C:\\Users\\Anna\\pets\\images\\1.jpg", "C:\\Users\\Anna\\pets\\images\\2.jpg"),
        ("/mnt/anna/pets/images/1.jpg", "/mnt/anna/pets/images/2.jpg"),
        ("data/pets/images/1.jpg", "data/pets/images/2.jpg"),
        ("images/1", "images/2"),
        ("images/1.JPG", "images/2.JPG"),
        (" images/1.jpg", "images/2.jpg "),
    ],
)
def test_paths_of_other_machines(paths: tuple[str, str], folder: Path) -> None:
    dataset = load(folder, f"image,label\n{paths[0]},cat\n{paths[1]},dog\n")
    assert labels(dataset) == BOTH
    assert any(message.startswith("Paths of images: ") for message in said(dataset))


def test_another_root(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = "image,label\n1,cat\n2,dog\n"
    assert f"It is in {folder / 'images'}: give that as `root`" in refusal(folder, text)
    assert labels(load(folder, text, root=str(folder / "images"))) == BOTH
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert labels(load(elsewhere, text, root=str(folder / "images"))) == BOTH


def test_all_names_lose_the_same_folders(folder: Path) -> None:
    """Otherwise a file of the same name in another folder would be taken."""
    dataset = load(make(folder, "b/2.jpg", "2.jpg"), "image,label\nx/images/1.jpg,cat\nx/y/2.jpg,dog\n")
    assert [sample.path for sample in dataset.samples] == [folder / "images/1.jpg", folder / "x/y/2.jpg"]
    assert said(dataset)[-1].startswith(f"1 image not found, tried {folder / 'x/y/2.jpg'}")


def test_long_names_and_many_missing_images_take_no_long_time(folder: Path) -> None:
    rows = [f"images/{number},cat\n" for number in range(1, 20_000)]
    start = time.process_time()
    dataset = load(folder, f"image,label\n{'a/' * 20_000},cat\n{''.join(rows)}")
    assert time.process_time() - start < 30
    assert f"{len(rows) - 1:,} images not found" in said(dataset)[-1]


def test_a_name_in_another_unicode_form_is_found(folder: Path) -> None:
    make(folder, unicodedata.normalize("NFD", "images/é.jpg"))
    [sample] = load(folder, "image,label\nimages/é.jpg,cat\n").samples
    assert sample.path.is_file()


# Labels


def test_labels_in_two_unicode_forms_are_one(folder: Path) -> None:
    text = f"image,label\nimages/1.jpg,é\nimages/2.jpg,{unicodedata.normalize('NFD', 'é')}\n"
    assert load(folder, text).class_names == ("é",)


@pytest.mark.parametrize("number", ["0.5", "1.0", "1", ".5"])
def test_a_number_of_a_single_label_belongs_to_its_name(number: str, folder: Path) -> None:
    dataset = load(folder, f"image,label\nimages/1.jpg,iou:{number}\nimages/2.jpg,iou:0.75\n")
    assert dataset.class_names == tuple(sorted((f"iou:{number}", "iou:0.75")))


@pytest.mark.parametrize(
    ("name", "content", "numbers"),
    [
        ("classes.txt", "cat\ndog\n", (0, 1)),
        ("classes.txt", "cat\ndog\n", (1, 2)),
        ("classes.txt", "7 cat\n9 dog\n", (7, 9)),
        ("classes.json", '["cat", "dog"]', (0, 1)),
        ("class_names.json", '{"3": "cat", "5": "dog"}', (3, 5)),
        ("labels.json", '{"cat": 0, "dog": 1}', (0, 1)),
    ],
)
def test_numbers_get_the_names_of_a_list(name: str, content: str, numbers: tuple[int, int], folder: Path) -> None:
    (folder / name).write_text(content)
    dataset = load(folder, f"image,label\nimages/1.jpg,{numbers[0]}\nimages/2.jpg,{numbers[1]}\n")
    assert labels(dataset) == BOTH
    assert said(dataset) == [f"Read from the table: names of labels from {name}"]


def test_a_list_without_a_name_is_refused(folder: Path) -> None:
    (folder / "classes.txt").write_text("cat\n")
    assert "no name for the label 7" in refusal(folder, "image,label\nimages/1.jpg,0\nimages/2.jpg,7\n")


def test_numbers_without_a_list_are_names(folder: Path) -> None:
    assert load(folder, "image,label\nimages/1.jpg,0\nimages/2.jpg,1\n").class_names == ("0", "1")


@pytest.mark.parametrize("cells", [("0.0", "1.0"), ("00", "1.00"), ("0|1", "1.0|0")])
def test_numbers_of_any_form_get_the_names_of_a_list(cells: tuple[str, str], folder: Path) -> None:
    (folder / "classes.txt").write_text("cat\ndog\n")
    dataset = load(folder, f"image,label\nimages/1.jpg,{cells[0]}\nimages/2.jpg,{cells[1]}\n")
    assert labels(dataset) == BOTH
    assert "names of labels from classes.txt" in said(dataset)[0]


def test_decimals_that_are_read_as_whole_numbers_are_said(folder: Path) -> None:
    text = "image,label\nimages/1.jpg,{}\nimages/2.jpg,1.0\nimages/2.jpg,2.5\n"
    assert load(folder, text.format("1")).class_names == ("1", "1.0", "2.5")
    dataset = load(folder, text.format("1").replace("2.5", "2"))
    assert dataset.class_names == ("1", "2")
    assert said(dataset)[0] == "Read from the table: 1.0 as 1"
    assert load(folder, text.format("3.0").replace("2.5", "2.0")).class_names == ("1.0", "2.0", "3.0")


def test_a_list_that_is_not_used_is_named(folder: Path) -> None:
    (folder / "classes.txt").write_text("cat\ndog\n")
    dataset = load(folder, "image,label\nimages/1.jpg,-1\nimages/2.jpg,1\n")
    assert dataset.class_names == ("-1", "1")
    assert "'-1' is no number" in said(dataset)[0]


def test_a_repeated_row_is_read_once(folder: Path) -> None:
    dataset = load(folder, "image,label\nimages/1.jpg,cat\nimages/2.jpg,dog\n./images/1.jpg,cat\nimages/1.jpg,cat\n")
    assert [sample.label for sample in dataset.samples] == ["cat", "dog"]
    [warning] = dataset.warnings
    assert warning.message.startswith("2 rows left out")
    assert warning.names == (str(folder / "images/1.jpg"),)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("images/1.jpg,cat,train", "images/1.jpg,dog,train"), "different labels"),
        (("images/1.jpg,cat|dog,train", "images/1.jpg,cat,train"), "different labels"),
        (("images/1.jpg,cat,train", "images/1.jpg,cat,test"), "different splits or groups"),
    ],
)
def test_rows_of_one_image_that_differ_are_named(rows: tuple[str, str], expected: str, folder: Path) -> None:
    dataset = load(folder, "\n".join(("image,label,split", *rows, "images/2.jpg,dog,train")))
    assert len(dataset.samples) == 3
    [warning] = [warning for warning in dataset.warnings if expected in warning.message]
    assert "1.jpg" in warning.names[0]


def test_a_row_without_a_split_is_the_same_as_one_for_training(folder: Path) -> None:
    dataset = load(folder, "image,label,split\nimages/1.jpg,cat,\nimages/1.jpg,cat,train\nimages/2.jpg,dog,train\n")
    assert labels(dataset) == BOTH and len(dataset.samples) == 2
    assert not any("differ" in message for message in said(dataset))


@pytest.mark.parametrize("label", ["nan", "NaN", "<NA>", "null"])
def test_a_label_like_a_missing_value_is_named(label: str, folder: Path) -> None:
    dataset = load(folder, f"image,label\nimages/1.jpg,{label}\nimages/2.jpg,dog\n")
    assert repr(label) in said(dataset)[0]


@pytest.mark.parametrize("label", ['"cat,dog"', "cat;dog", "dog / cat", "cat+dog", """"['cat', 'dog']\""""])
def test_several_labels_with_another_separator_are_named(label: str, folder: Path) -> None:
    dataset = load(folder, f"image,label\nimages/1.jpg,cat\nimages/2.jpg,dog\nimages/3.jpg,{label}\n")
    [warning] = [warning for warning in dataset.warnings if "a|b" in warning.message]
    assert warning.names == (str(folder / "images/3.jpg"),)
    plain = load(folder, "image,label\nimages/1.jpg,black & white\nimages/2.jpg,dog\n")
    assert plain.warnings == ()


@pytest.mark.parametrize("cell", ["cat:0,6|dog:0,4", "cat:60|dog:40", "cat:12.5 %|dog:50 %"])
def test_fractions_in_another_form_are_refused(cell: str, folder: Path) -> None:
    assert "line 2: area fractions" in refusal(folder, f"image;label\nimages/1.jpg;{cell}\n")
    versions = load(folder, "image,label\nimages/1.jpg,model:10|model:11\nimages/2.jpg,model:11\n")
    assert versions.samples[0].extra_labels == ("model:11",)


def test_spellings_that_look_the_same_are_refused(folder: Path) -> None:
    assert "u200b" in refusal(folder, "image,label\nimages/1.jpg,cat\nimages/2.jpg,cat\u200b\n")
    assert "x01" in refusal(folder, "image,label\nimages/1.jpg,cat\nimages/2.jpg,cat\x01\n")


def test_a_second_header_is_no_row(folder: Path) -> None:
    dataset = load(folder, "image,label\nimages/1.jpg,cat\nimage,label\nimages/2.jpg,dog\n")
    assert labels(dataset) == BOTH
    assert said(dataset) == ["Read from the table: line 3 as a second header"]


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "t.parquet", "git lfs pull"),
        ("<!DOCTYPE html><html>", "t.csv", "web page"),
        ("PK\x03\x04", "t.csv", ".xlsx"),
        ("PAR1", "t.csv", ".parquet"),
    ],
)
def test_a_file_of_another_kind_is_named(content: str, name: str, kind: str, tmp_path: Path) -> None:
    assert kind in refusal(tmp_path, content, name)


def test_the_name_of_no_class_is_refused(folder: Path) -> None:
    for label in ("none of these", "None  of these", "cat|none of these"):
        assert "image" in refusal(folder, f"image,label\nimages/1.jpg,{label}\nimages/2.jpg,dog\n")
    assert load(folder, "image,label\nimages/1.jpg,none\nimages/2.jpg,dog\n").class_names == ("dog", "none")


def test_several_ones_are_several_labels(folder: Path) -> None:
    first, second = load(folder, "image,cat,dog\nimages/1.jpg,1,1\nimages/2.jpg,0,1\n").samples
    assert (first.label, first.extra_labels) == ("cat", ("dog",))
    assert (second.label, second.extra_labels) == ("dog", ())


# Other columns


def test_splits_and_groups(folder: Path) -> None:
    text = "image,label,data set,Group,patient,age\nimages/1.jpg,cat,Training,g1,p1,3\nimages/2.jpg,cat,val,,p2,4\n"
    dataset = load(folder, text)
    assert [(sample.split, sample.group) for sample in dataset.samples] == [("train", "g1"), ("val", None)]
    assert said(dataset)[0] == "Read from the table: data set as split"
    assert said(dataset)[1].startswith("Columns that are not used: patient, age; name patient group")
    by_patient = load(folder, text, group_column="patient")
    assert [sample.group for sample in by_patient.samples] == ["p1", "p2"]
    with pytest.raises(UnknownNameError, match="camera"):
        load(folder, text, group_column="camera")


@pytest.mark.parametrize("column", ["image", "label", "split"])
def test_images_labels_and_splits_are_no_groups(column: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=column):
        load(folder, "image,label,split\nimages/1.jpg,cat,train\n", group_column=column)
    with pytest.raises(UsageError, match="class"):
        load(folder, "image,class\nimages/1.jpg,cat\n", group_column="class")
    dataset = load(folder, "image,label,species\nimages/1.jpg,cat,s\n", group_column="species")
    assert [(sample.label, sample.group) for sample in dataset.samples] == [("cat", "s")]


def test_a_column_called_set_that_names_no_splits_is_not_used(folder: Path) -> None:
    dataset = load(folder, "image,label,set\nimages/1.jpg,cat,A\nimages/2.jpg,dog,B\n")
    assert [sample.split for sample in dataset.samples] == [None, None]
    [message] = said(dataset)
    assert message.startswith("Columns that are not used: set; set holds 'A'")


# Properties

CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\0"), min_size=1).filter(str.strip)
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1)


@given(ROWS, st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.booleans())
def test_cells_are_kept_with_any_separator_and_encoding(
    tmp_path: Path, rows: list[tuple[str, str]], separator: str, encoding: str, quoted: bool
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(
        [("image", "label"), *rows]
    )
    (tmp_path / "t.csv").write_bytes(text.getvalue().encode(encoding))
    assert [(row.image, row.label) for row in read_label_table(tmp_path / "t.csv").rows] == rows


@given(ROWS)
def test_cells_of_json_lines_are_kept(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"image": image, "label": label}) for image, label in rows]
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert [(row.image, row.label) for row in read_label_table(tmp_path / "t.jsonl").rows] == rows


@given(st.binary(max_size=300), st.sampled_from(["csv", "jsonl", "xlsx", "parquet"]), st.booleans())
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path: Path, content: bytes, kind: str, header: bool) -> None:
    (tmp_path / f"t.{kind}").write_bytes(b"image,label\n" * header + content)
    try:
        load_dataset(tmp_path / f"t.{kind}")
    except BelvedereError as error:
        assert "\n" not in str(error)
