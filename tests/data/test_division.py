from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from belvedere.data.dataset import load_dataset
from belvedere.data.splits import DataSplit, SplitFractions, split_dataset
from belvedere.errors import DatasetError
from belvedere.runtime.progress import LoggedProgress, Progress
from belvedere.types.data import DataWarning, Sample
from conftest import write_classes, write_picture

FRACTIONS = SplitFractions(test=0.2, validation=0.25)


def division_of(photos: Path, seed: int = 0, needs_validation: bool = True) -> DataSplit:
    fractions = replace(FRACTIONS, needs_validation=needs_validation)
    return split_dataset(load_dataset(photos), fractions, seed, Progress())


def refusal(photos: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        division_of(photos)
    return str(caught.value)


def counts(division: DataSplit) -> list[dict[str, int]]:
    parts = division.train.samples, division.validation.samples, division.test
    return [dict(Counter(sample.label for sample in part)) for part in parts]


def messages(division: DataSplit) -> list[str]:
    return [note.message for note in division.warnings]


def names(samples: tuple[Sample, ...]) -> set[Path]:
    return {sample.path for sample in samples}


def test_named_parts_are_kept(tmp_path: Path) -> None:
    for part, each in (("train", 4), ("val", 2), ("test", 3)):
        for label, colour in (("sea", "blue"), ("wood", "green")):
            for number in range(each):
                write_picture(tmp_path / part / label / f"{number}.png", colour, 100 * each + number)
    division = division_of(tmp_path)
    assert counts(division) == [{"sea": each, "wood": each} for each in (4, 2, 3)]
    assert {sample.split for sample in division.test} == {"test"}
    assert messages(division) == []


def test_parts_that_are_not_named_are_kept_back_with_a_note(tmp_path: Path) -> None:
    write_classes(tmp_path, 20)
    division = division_of(tmp_path)
    assert counts(division) == [dict.fromkeys(("blue", "green", "red"), each) for each in (12, 4, 4)]
    assert messages(division) == [
        "12 images held out for testing: the dataset has no test split",
        "12 images held out for validation: the dataset has no validation split",
    ]
    whole = names(division.train.samples) | names(division.validation.samples) | names(division.test)
    assert len(whole) == 60
    assert division_of(tmp_path) == division
    assert division_of(tmp_path, seed=1).test != division.test


def test_validation_is_kept_back_from_train_and_never_from_test(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 8)
    for number in range(5):
        write_picture(tmp_path / "test/red" / f"{number}.png", "red", 1000 + number)
    division = division_of(tmp_path)
    assert {sample.split for sample in division.train.samples + division.validation.samples} == {"train"}
    assert counts(division)[1:] == [{"blue": 2, "green": 2, "red": 2}, {"red": 5}]


def test_identical_files_are_on_one_side_and_named(tmp_path: Path) -> None:
    for number in range(20):
        write_picture(tmp_path / "sea" / f"{number}.png", "blue", number // 2)
        write_picture(tmp_path / "wood" / f"{number}.png", "green", number // 2)
    division = division_of(tmp_path)
    parts = division.train.samples, division.validation.samples, division.test
    contents = [{path.read_bytes() for path in names(part)} for part in parts]
    assert not (contents[0] & contents[1] or contents[0] & contents[2] or contents[1] & contents[2])
    assert messages(division)[0] == "20 groups of identical images within one split and class"


def test_fingerprint_is_of_what_is_learnt_and_not_of_its_place(tmp_path: Path) -> None:
    for place in ("here", "there"):
        write_classes(tmp_path / place, 8)
    write_picture(tmp_path / "there/red/9.png", "red", 9)
    first, other = division_of(tmp_path / "here"), division_of(tmp_path / "there")
    assert first.sha256 != other.sha256
    (tmp_path / "there/red/9.png").unlink()
    (tmp_path / "there/red/3.png").rename(tmp_path / "there/red/zzz.png")
    assert division_of(tmp_path / "there").sha256 == first.sha256


def test_files_that_cannot_be_opened_and_further_labels_are_noted(tmp_path: Path) -> None:
    write_classes(tmp_path / "p", 8)
    rows = [f"p/{name}/{n}.png,{name}{'|sea' * (n == 0)}" for name in ("blue", "red") for n in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label", *rows, "gone.png,red"]))
    division = division_of(tmp_path / "t.csv")
    assert "2 images have several labels: all are used in training, the first is the expected answer" in messages(
        division
    )
    note = next(note for note in division.warnings if "left out: cannot be opened" in note.message)
    assert note.names == (f"{tmp_path / 'gone.png'}: no such file",)
    assert len(division.train.samples + division.validation.samples + division.test) == 16


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    assert "has only one class: 'red'" in refusal(write_classes(tmp_path, 9, ("red",)))


def test_too_few_photographs_are_refused(tmp_path: Path) -> None:
    assert "Too few images" in refusal(write_classes(tmp_path, 1))


def test_a_probe_too_needs_photographs_to_report_on(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="test_fraction"):
        division_of(write_classes(tmp_path, 2), needs_validation=False)


def test_test_part_alone_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "test", 4)
    assert "No training split" in refusal(tmp_path)


@pytest.mark.parametrize(("part", "named"), [("train", "training"), ("val", "validation"), ("test", "test")])
def test_part_of_which_nothing_can_be_opened_is_refused_and_not_replaced(part: str, named: str, tmp_path: Path) -> None:
    for other in ("train", "val", "test"):
        write_classes(tmp_path / other, 4)
    for path in (tmp_path / part).rglob("*.png"):
        path.write_bytes(b"")
    assert f"None of the {named} images in {tmp_path} can be opened" in refusal(tmp_path)


def test_the_log_has_all_names_and_the_console_three(tmp_path: Path) -> None:
    class Said(Progress):
        lines: list[str]

        def log(self, message: str) -> None:
            self.lines.append(message)

    said = Said()
    said.lines = []
    log = LoggedProgress(tmp_path / "train.log", said)
    log.log("Training on naïve café")
    log.log_warnings([DataWarning("5 ignored", ("a", "b", "odd\udce9.png", "d", "e")), DataWarning("nothing more")])
    assert said.lines == [
        "Training on naïve café",
        "Warning: 5 ignored: a, b, odd\udce9.png and 2 more",
        "Warning: nothing more",
    ]
    lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    assert [line[20:] for line in lines] == [
        "Training on naïve café",
        "5 ignored",
        *(f"  {name}" for name in ("a", "b", r"odd\udce9.png", "d", "e")),
        "nothing more",
    ]
