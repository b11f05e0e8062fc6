"""Decisions applied when a data set is read: found by content, counted, and nothing on disk changed."""

import csv
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from belvedere.data.corrections.corrections_file import CorrectionsFile, utc_now
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.export import check_output, export_decisions, export_folder, export_table, summarize
from belvedere.errors import DatasetError, OutputExistsError, UsageError
from belvedere.runtime.output_folder import MARKER_FILE
from belvedere.types.data import Decision
from conftest import new_id, write_classes, write_image
from decisions import decide


def labels(dataset: Dataset) -> dict[str, str]:
    return {"/".join(sample.path.parts[-2:]): sample.label for sample in dataset.samples}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "photos", 3)


@pytest.fixture
def corrections(tmp_path: Path, photos: Path) -> Path:
    """One relabeled, one left out, one with an extra label, one kept."""
    file = tmp_path / "j.jsonl"
    decide(file, photos / "blue" / "0.png", "relabel", "green")
    decide(file, photos / "blue" / "1.png", "exclude")
    decide(file, photos / "red" / "0.png", "tag", "blue", "green")
    decide(file, photos / "red" / "1.png", "keep")
    return file


def test_decisions_hold_when_reading(photos: Path, corrections: Path) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    dataset = load_dataset(photos, corrections=corrections)

    assert labels(dataset)["blue/0.png"] == "green"
    assert "blue/1.png" not in labels(dataset)
    [tagged] = [sample for sample in dataset.samples if sample.extra_labels]
    assert (tagged.label, tagged.extra_labels) == ("red", ("blue", "green"))
    messages = [note.message for note in dataset.warnings]
    assert messages == [
        f"1 relabeled by {corrections}",
        f"1 given other extra labels by {corrections}",
        f"1 excluded by {corrections}",
    ]
    assert before == {path: path.read_bytes() for path in photos.rglob("*.png")}
    assert labels(load_dataset(photos))["blue/0.png"] == "blue"


def test_moved_folders_and_renamed_files_are_found(photos: Path, corrections: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "images"
    moved.parent.mkdir()
    shutil.move(photos, moved)
    for path in sorted(moved.rglob("*.png")):
        path.rename(path.with_name(f"renamed-{path.name}"))

    found = labels(load_dataset(moved, corrections=corrections))

    assert found["blue/renamed-0.png"] == "green"
    assert "blue/renamed-1.png" not in found
    assert len(found) == 8


def test_of_identical_files_the_recorded_copy_is_left_out(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "old" / "train", 2).parent
    write_classes(photos / "test", 2)  # the same contents: leaks
    decide(tmp_path / "j.jsonl", photos / "train" / "red" / "0.png", "exclude", about="split_leak")
    moved = tmp_path / "new"
    shutil.move(photos, moved)

    dataset = load_dataset(moved, corrections=tmp_path / "j.jsonl")

    assert len(dataset.split("train")) == 5
    assert len(dataset.split("test")) == 6
    both = CorrectionsFile(tmp_path / "j.jsonl")
    decide(both.path, moved / "test" / "red" / "0.png", "exclude", about="split_leak")
    assert len(load_dataset(moved, corrections=both.path).samples) == 10


def test_the_last_word_on_a_file_counts_however_its_path_is_spelled(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    decide(tmp_path / "j.jsonl", Path("photos/blue/0.png"), "exclude")
    decide(tmp_path / "j.jsonl", photos.absolute() / "blue" / "0.png", "relabel", "green")
    for given in ("photos", photos.absolute()):
        assert labels(load_dataset(given, corrections=tmp_path / "j.jsonl"))["blue/0.png"] == "green"
    shutil.move(photos, tmp_path / "moved")
    assert labels(load_dataset("moved", corrections=tmp_path / "j.jsonl"))["blue/0.png"] == "green"


@pytest.mark.parametrize("renamed", [False, True])
def test_a_file_left_out_under_two_spellings_is_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    first, copy = photos / "red" / "0.png", photos / "red" / "copy.png"
    copy.write_bytes(first.read_bytes())
    decide(tmp_path / "j.jsonl", Path("photos/red/0.png"), "exclude")
    decide(tmp_path / "j.jsonl", first.absolute(), "exclude")
    if renamed:
        first.rename(photos / "red" / "other.png")
    found = labels(load_dataset(photos, corrections=tmp_path / "j.jsonl"))
    assert len(found) == 9
    assert renamed or "red/copy.png" in found


def test_leaving_out_one_copy_and_naming_the_other_leaves_it_out(photos: Path, tmp_path: Path) -> None:
    first, copy = photos / "red" / "0.png", photos / "blue" / "copy.png"
    copy.write_bytes(first.read_bytes())
    decide(tmp_path / "j.jsonl", first, "exclude", about="duplicate")
    decide(tmp_path / "j.jsonl", copy, "relabel", "green")
    found = labels(load_dataset(photos, corrections=tmp_path / "j.jsonl"))
    assert found["blue/copy.png"] == "green"
    assert "red/0.png" not in found


@pytest.mark.parametrize("training", ["train", ""])  # in a table with splits, an image without one is for training
@pytest.mark.parametrize("part", ["train", "", "test"])
def test_of_one_file_in_two_parts_the_row_of_its_part_is_left_out(tmp_path: Path, part: str, training: str) -> None:
    write_classes(tmp_path, 2)
    rows = [f"{name}/{number}.png,{name},{training}" for name in ("blue", "red") for number in range(2)]
    (tmp_path / "table.csv").write_text("\n".join(["image,label,split", "red/0.png,red,test", *rows]) + "\n")
    decide(tmp_path / "j.jsonl", tmp_path / "red" / "0.png", "exclude", about="split_leak", part=part)
    dataset = load_dataset(tmp_path / "table.csv", corrections=tmp_path / "j.jsonl")
    assert [s.split for s in dataset.samples if s.path == tmp_path / "red" / "0.png"] == [
        training or None if part == "test" else "test"
    ]


@pytest.mark.parametrize(
    ("action", "to", "cell"),
    [
        ("keep", (), "blue:0.6|green:0.3"),
        ("tag", ("green", "red"), "blue|green|red"),
        ("tag", (), "blue:0.6"),
        ("relabel", ("green",), "green:0.3"),
        ("relabel", ("red",), "red|green"),
    ],
)
def test_shares_of_an_image_stay_with_their_labels(
    photos: Path, tmp_path: Path, action: str, to: tuple[str, ...], cell: str
) -> None:
    rows = ["image,label", "photos/blue/0.png,blue:0.6|green:0.3", "photos/green/0.png,green:0.5|red:0.00001"]
    (tmp_path / "t.csv").write_text("\n".join([*rows, "photos/red/0.png,red", "photos/blue/1.png,blue"]) + "\n")
    decide(tmp_path / "j.jsonl", photos / "blue" / "0.png", action, *to)
    dataset = load_dataset(tmp_path / "t.csv", corrections=tmp_path / "j.jsonl")
    assert all(len(s.area_fractions) in (0, 1 + len(s.extra_labels)) for s in dataset.samples)
    export_table(dataset, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)][:2] == [cell, "green:0.5|red:0.00001"]
    again = load_dataset(tmp_path / "out.csv")
    assert [(s.label, s.extra_labels, s.area_fractions) for s in again.samples] == [
        (s.label, s.extra_labels, s.area_fractions) for s in dataset.samples
    ]


def test_nothing_of_the_users_is_replaced(photos: Path, corrections: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("mine")
    with pytest.raises(OutputExistsError, match="`overwrite`"):
        check_output(table, [corrections], is_table=True, overwrite=False)
    check_output(table, [corrections], is_table=True, overwrite=True)
    check_output(tmp_path / "new.csv", [corrections, photos], is_table=True, overwrite=False)
    (tmp_path / "linked.csv").hardlink_to(table)
    for out in (table, tmp_path / "photos" / ".." / "t.csv", tmp_path / "linked.csv"):
        with pytest.raises(OutputExistsError) as caught:
            check_output(out, [corrections, table], is_table=True, overwrite=True)
        assert (caught.value.path, caught.value.can_overwrite) == (out, False)
    (tmp_path / MARKER_FILE).touch()
    with pytest.raises(OutputExistsError, match=re.escape(f"{corrections}, ")):
        check_output(tmp_path, [corrections, photos], is_table=False, overwrite=True)


def test_a_table_is_not_written_over_an_image(photos: Path, corrections: Path) -> None:
    dataset = load_dataset(photos, corrections=corrections)
    for sample in dataset.samples[:2]:
        before = sample.path.read_bytes()
        with pytest.raises(OutputExistsError) as caught:
            export_table(dataset, sample.path, overwrite=True)
        assert (caught.value.path, caught.value.can_overwrite) == (sample.path, False)
        assert sample.path.read_bytes() == before


def test_one_content_has_one_label(tmp_path: Path) -> None:
    """Identical files with contradicting labels: the label that was confirmed is that of all."""
    photos = write_classes(tmp_path / "photos", 2)
    copy = photos / "blue" / "9.png"
    copy.write_bytes((photos / "red" / "0.png").read_bytes())
    decide(tmp_path / "j.jsonl", photos / "red" / "0.png", "keep")
    assert labels(load_dataset(photos, corrections=tmp_path / "j.jsonl"))["blue/9.png"] == "red"


def test_unmatched_corrections_and_torn_lines_are_named(photos: Path, corrections: Path, tmp_path: Path) -> None:
    decide(corrections, write_image(tmp_path / "other" / "gone.png", "red", 77), "exclude")
    with corrections.open("ab") as file:
        file.write(b'{"id": "torn')
    messages = [note.message for note in load_dataset(photos, corrections=corrections).warnings]
    assert f"1 correction matches no image (missing or changed): {corrections}" in messages
    assert f"1 damaged line skipped in {corrections}" in messages


def test_leaving_everything_out_is_an_error(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", 1)
    for path in photos.rglob("*.png"):
        decide(tmp_path / "j.jsonl", path, "exclude")
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path / "j.jsonl"))):
        load_dataset(photos, corrections=tmp_path / "j.jsonl")


def test_a_class_spelled_otherwise_in_the_corrections_is_refused(photos: Path, tmp_path: Path) -> None:
    decide(tmp_path / "j.jsonl", photos / "blue" / "0.png", "relabel", "Green")
    with pytest.raises(DatasetError, match=r"(?s)(?=.*'Green')(?=.*'green')"):
        load_dataset(photos, corrections=tmp_path / "j.jsonl")


def test_a_class_that_is_new_is_learned_where_it_can_be(tmp_path: Path) -> None:
    """Held-out images of a class that only the corrections name, and that has no training images, are left out."""
    for part in ("train", "test"):
        write_classes(tmp_path / "photos" / part, 3)
    photos, corrections = tmp_path / "photos", tmp_path / "j.jsonl"
    image = write_image(photos / "test" / "blue" / "9.png", "blue", 999)
    decide(corrections, image, "relabel", "violet")
    dataset = load_dataset(photos, corrections=corrections)
    assert dataset.class_names == ("blue", "green", "red")
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (9, 9)
    left = f"{image}: violet"
    assert left in [name for note in dataset.warnings for name in note.names]
    decide(corrections, write_image(photos / "train" / "blue" / "8.png", "blue", 888), "relabel", "violet")
    dataset = load_dataset(photos, corrections=corrections)
    assert dataset.class_names == ("blue", "green", "red", "violet")
    assert (len(dataset.split("train")), len(dataset.split("test"))) == (10, 10)


def test_where_there_is_nothing_to_learn_from_every_class_stays(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos" / "test", 3)
    decide(tmp_path / "j.jsonl", photos / "blue" / "0.png", "relabel", "violet")
    dataset = load_dataset(tmp_path / "photos", corrections=tmp_path / "j.jsonl")
    assert dataset.class_names == ("blue", "green", "red", "violet")


def test_only_files_of_a_decided_size_are_read(
    photos: Path, corrections: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = write_image(photos / "red" / "large.png", "red", 5, side=64)
    read: list[str] = []

    def note_and_read(path: Path) -> bytes:
        read.append(str(path))
        return path.read_bytes()

    monkeypatch.setattr("belvedere.data.hashing.read_content", note_and_read)
    load_dataset(photos, corrections=corrections)
    assert read
    assert str(large) not in read


@pytest.mark.parametrize("copy", [False, True])
def test_a_corrected_folder(photos: Path, corrections: Path, tmp_path: Path, copy: bool) -> None:
    dataset = load_dataset(photos, corrections=corrections)
    export_folder(dataset, tmp_path / "corrected", copy=copy, overwrite=False)

    again = load_dataset(tmp_path / "corrected")
    assert sorted(again.class_names) == ["blue", "green", "red"]
    assert len(again.samples) == 8
    assert again.warnings == ()
    assert labels(again)["green/0-2.png"] == "green"  # two files had the name 0.png
    assert all(sample.path.is_symlink() != copy for sample in again.samples)
    with pytest.raises(OutputExistsError):
        export_folder(dataset, tmp_path / "corrected", copy=copy, overwrite=False)


def test_a_corrected_folder_keeps_its_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_classes(tmp_path / "photos" / part, 2)
    export_folder(load_dataset(tmp_path / "photos"), tmp_path / "out", copy=False, overwrite=False)
    again = load_dataset(tmp_path / "out")
    assert (len(again.split("train")), len(again.split("test"))) == (6, 6)


@pytest.mark.parametrize("label", ["..", "a/b", "a\\b"])
def test_no_label_leads_out_of_the_folder(photos: Path, tmp_path: Path, label: str) -> None:
    decide(tmp_path / "j.jsonl", photos / "blue" / "0.png", "relabel", label)
    dataset = load_dataset(photos, corrections=tmp_path / "j.jsonl")
    with pytest.raises(UsageError, match=re.escape(repr(label))):
        export_folder(dataset, tmp_path / "corrected", copy=False, overwrite=False)


def test_a_corrected_table_keeps_secondary_labels(photos: Path, corrections: Path, tmp_path: Path) -> None:
    dataset = load_dataset(photos, corrections=corrections)
    (tmp_path / "tables").mkdir()
    export_table(dataset, tmp_path / "tables" / "corrected.csv")
    again = load_dataset(tmp_path / "tables" / "corrected.csv")
    assert [(s.label, s.extra_labels, s.path.resolve()) for s in again.samples] == [
        (s.label, s.extra_labels, s.path.resolve()) for s in dataset.samples
    ]


def test_decisions_as_csv_and_counted(corrections: Path, tmp_path: Path) -> None:
    first = next(iter(CorrectionsFile(corrections).decisions))
    CorrectionsFile(corrections).append(
        Decision(new_id(), utc_now(), "Ben", first.sha256, first.image, "undo", to=(first.id,))
    )
    assert export_decisions(corrections, tmp_path / "d.csv") == 5
    with (tmp_path / "d.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["active"] for row in rows] == ["false", "true", "true", "true", "false"]
    assert rows[2]["to"] == "blue|green"
    summary = summarize(corrections)
    assert (summary["num_decisions"], summary["num_active"], summary["num_images"]) == (5, 3, 3)
    assert summary["annotators"] == {"Ana": 3}


def test_a_decision_in_another_unicode_form_names_the_same_class(photos: Path, tmp_path: Path) -> None:
    (photos / "blue").rename(photos / "caf\u00e9")
    decide(tmp_path / "j.jsonl", photos / "red" / "0.png", "relabel", "cafe\u0301")
    decide(tmp_path / "j.jsonl", photos / "red" / "1.png", "tag", "cafe\u0301")
    dataset = load_dataset(photos, corrections=tmp_path / "j.jsonl")
    assert dataset.class_names == ("caf\u00e9", "green", "red")
    assert labels(dataset)["red/0.png"] == "caf\u00e9"


@pytest.mark.usefixtures("photos")
def test_a_table_with_fractions_is_written_so_that_it_reads_back(tmp_path: Path) -> None:
    text = "image,label\nphotos/red/0.png,red:0.6|blue:0.4\nphotos/blue/0.png,blue:0.5\n"
    (tmp_path / "t.csv").write_text(text)
    dataset = load_dataset(tmp_path / "t.csv")
    for samples in (dataset.samples, dataset.samples[1:]):
        export_table(replace(dataset, samples=samples), tmp_path / "out.csv", overwrite=True)
        again = load_dataset(tmp_path / "out.csv").samples
        assert [(each.label, each.extra_labels) for each in again] == [
            (each.label, each.extra_labels) for each in samples
        ]


def test_an_exported_table_keeps_the_groups(photos: Path, tmp_path: Path) -> None:
    rows = [f"{color}/{number}.png,{color},p{number}" for color in ("blue", "red") for number in range(2)]
    (photos / "t.csv").write_text("\n".join(["image,label,patient", *rows, "green/0.png,green,"]))
    dataset = load_dataset(photos / "t.csv", group_column="patient")
    export_table(dataset, tmp_path / "out.csv")
    assert [sample.group for sample in load_dataset(tmp_path / "out.csv").samples] == ["p0", "p1", "p0", "p1", None]
    export_table(load_dataset(photos), tmp_path / "plain.csv")
    assert (tmp_path / "plain.csv").read_text().startswith("image,label,split\n")


@pytest.mark.parametrize("labels", [("cat|dog",), ("cat", "dog|sea"), ("cat", "dog:0.5"), (" cat",)])
@pytest.mark.parametrize("spreadsheet", [False, True])
def test_labels_that_a_table_would_read_otherwise_are_refused(
    photos: Path, tmp_path: Path, labels: tuple[str, ...], spreadsheet: bool
) -> None:
    dataset = load_dataset(photos)
    sample = replace(dataset.samples[0], label=labels[0], extra_labels=labels[1:])
    with pytest.raises(UsageError, match=re.escape(repr(labels[-1]))):
        export_table(replace(dataset, samples=(sample,)), tmp_path / "out.csv", spreadsheet=spreadsheet)
    assert not (tmp_path / "out.csv").exists()


def test_a_name_that_is_not_utf8_is_refused_in_a_table(photos: Path, tmp_path: Path) -> None:
    dataset = load_dataset(photos)
    sample = replace(dataset.samples[0], path=photos / "blue" / "\udce9.png")
    with pytest.raises(UsageError, match="UTF-8"):
        export_table(replace(dataset, samples=(sample,)), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_equal_names_are_numbered_without_trying_each_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write_image(tmp_path / "images" / "cat" / f"plant{number}" / "1.png", "red", number, side=4)
    dataset, tried = load_dataset(tmp_path / "images", layout="classes"), list[Path]()

    def note_and_look(path: Path) -> bool:
        tried.append(path)
        return path.is_file()

    monkeypatch.setattr(os.path, "lexists", note_and_look)
    export_folder(dataset, tmp_path / "out", copy=True, overwrite=False)
    names = {path.name for path in (tmp_path / "out" / "cat").iterdir()}
    assert names == {"1.png", *(f"1-{number}.png" for number in range(2, 21))}
    assert sum(path.parent.name == "cat" for path in tried) == 39
