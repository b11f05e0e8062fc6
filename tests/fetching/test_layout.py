"""Where the files of an archive are put."""

import pytest

from belvedere.errors import ArchiveError
from belvedere.fetching.layout import MAX_DEPTH, DistinctNames, arrange, is_hidden, split_name

FOLDERS = {"seg_train": "train", "seg_test": "test", "seg_pred": "unlabeled"}


def arranged(*names: str, folders: dict[str, str] | None = None) -> list[str | None]:
    return [
        None if parts is None else "/".join(parts)
        for parts in arrange([split_name(name) for name in names], folders or {})
    ]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../a.jpg",
            "a/../../b.jpg",
            "a\\..\\..\\b.jpg",
            "/etc/passwd",
            "\\windows\\a",
            "C:/a.jpg",
            "c:a.jpg",
            "//host/a",
        ),
        *("", "/", "./", "a\0.jpg", "a" * 256, "é" * 128, "/".join("a" * (MAX_DEPTH + 2))),
    ],
)
def test_names_that_could_do_harm_are_refused(name: str) -> None:
    with pytest.raises(ArchiveError) as raised:
        split_name(name)
    assert "\n" not in str(raised.value)


def test_names_are_split() -> None:
    assert split_name("a\\b/./c.jpg") == ("a", "b", "c.jpg")
    assert split_name("a/b..c/...jpg") == ("a", "b..c", "...jpg")


def test_doubled_folders_of_a_known_dataset() -> None:
    names = ("seg_train/seg_train/sea/1.jpg", "seg_test/seg_test/sea/2.jpg", "seg_pred/seg_pred/3.jpg", "other/4.jpg")
    expected = ["train/sea/1.jpg", "test/sea/2.jpg", "unlabeled/3.jpg", None]
    assert arranged(*names, folders=FOLDERS) == expected
    assert arranged(*(f"archive/{name}" for name in names), folders=FOLDERS) == expected
    assert arranged(*names[:3], "seg_train/sea/5.jpg", folders=FOLDERS) == [*expected[:3], "train/sea/5.jpg"]
    assert arranged("seg_train/sea/1.jpg", "seg_pred/3.jpg", folders=FOLDERS) == ["train/sea/1.jpg", "unlabeled/3.jpg"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["flowers/rose/1.jpg", "flowers/tulip/1.jpg"], ["rose/1.jpg", "tulip/1.jpg"]),
        (["a/b/rose/1.jpg", "a/b/tulip/1.jpg"], ["rose/1.jpg", "tulip/1.jpg"]),
        (["rose/1.jpg", "tulip/1.jpg"], ["rose/1.jpg", "tulip/1.jpg"]),
        (["rose/1.jpg", "rose/2.jpg"], ["rose/1.jpg", "rose/2.jpg"]),  # the only class
        (["train/rose/1.jpg", "train/tulip/1.jpg"], ["train/rose/1.jpg", "train/tulip/1.jpg"]),
        (["train/train/rose/1.jpg", "test/test/rose/1.jpg"], ["train/rose/1.jpg", "test/rose/1.jpg"]),
        (["rose/rose/1.jpg", "rose/2.jpg", "tulip/1.jpg"], ["rose/rose/1.jpg", "rose/2.jpg", "tulip/1.jpg"]),
        (["data/labels.csv", "data/images/1.jpg"], ["data/labels.csv", "data/images/1.jpg"]),
        (["1.jpg", "1.jpg/1.jpg"], ["1.jpg", "1.jpg/1.jpg"]),
    ],
)
def test_folders_around_all_files_are_dropped(names: list[str], expected: list[str]) -> None:
    assert arranged(*names) == expected


@pytest.mark.parametrize(
    "names",
    [
        ("Sea/1.jpg", "sea/2.jpg"),
        ("sea/1.jpg", "sea/1.JPG"),
        ("sea/1.jpg", "sea/1.jpg"),
        ("caf\u00e9/1.jpg", "cafe\u0301/2.jpg"),
        ("sea", "sea/1.jpg"),
        ("sea/1.jpg", "sea"),
    ],
)
def test_names_that_are_one_on_some_disks_are_refused(names: tuple[str, ...]) -> None:
    distinct = DistinctNames()
    distinct.add(split_name(names[0]))
    with pytest.raises(ArchiveError):
        distinct.add(split_name(names[1]))


def test_other_names_do_not_collide() -> None:
    distinct = DistinctNames()
    for name in ("sea/1.jpg", "sea/2.jpg", "seas/1.jpg", "1.jpg"):
        distinct.add(split_name(name))


def test_hidden_files() -> None:
    assert is_hidden(("__MACOSX", "sea", "._1.jpg"))
    assert is_hidden((".git", "1.jpg"))
    assert not is_hidden(("sea", "1.jpg"))
