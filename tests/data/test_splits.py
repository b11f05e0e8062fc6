import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from belvedere.data.dataset import load_dataset
from belvedere.data.hashing import (
    MINHASH_SIZE,
    HashedSamples,
    duplicate_warnings,
    estimate_overlap,
    fingerprint,
    hash_samples,
    minhash,
)
from belvedere.data.splits import DataSplit, SplitFractions, split_dataset, stratified_group_split
from belvedere.errors import DatasetError
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample
from conftest import write_classes, write_picture

Row = tuple[str, str]  # label and content


def contents(rows: Sequence[Row], part: str = "") -> HashedSamples:
    samples = [Sample(Path(f"{i}.png"), f"{i}.png", label, part) for i, (label, _) in enumerate(rows)]
    return HashedSamples(tuple(samples), tuple(content for _, content in rows), ())


def rows_of(contents: HashedSamples) -> list[Row]:
    return [(sample.label, content) for sample, content in zip(contents.samples, contents.hashes, strict=True)]


ANY_ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30).map(str)), max_size=80)
SHARES = st.sampled_from([0.0, 0.1, 0.15, 0.33, 0.5])


@given(ANY_ROWS, SHARES, st.integers(0, 3))
def test_every_sample_is_on_one_side_and_identical_files_together(rows: list[Row], share: float, seed: int) -> None:
    whole = contents(rows)
    stays, kept = stratified_group_split(whole, share, seed)
    assert Counter(stays.samples + kept.samples) == Counter(whole.samples)
    assert not set(stays.hashes) & set(kept.hashes)
    assert rows_of(stays) + rows_of(kept) == [rows[int(s.path.stem)] for s in stays.samples + kept.samples]
    sizes, taken = Counter(label for label, _ in rows), Counter(sample.label for sample in kept.samples)
    assert all(taken[label] <= max(1, round(share * size)) for label, size in sizes.items())
    assert share or not kept.samples


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40)), SHARES, st.integers(0, 3))
@example({"a": 2, "b": 3}, 0.1, 0)
def test_different_files_are_kept_back_by_the_share_of_each_class(
    sizes: dict[str, int], share: float, seed: int
) -> None:
    rows = [(label, f"{label}{number}") for label, size in sizes.items() for number in range(size)]
    taken = Counter(label for label, _ in rows_of(stratified_group_split(contents(rows), share, seed)[1]))
    for label, size in sizes.items():
        least = 1 if size >= 3 and share else 0
        assert taken[label] == max(round(share * size), least)


@given(ANY_ROWS, SHARES, st.randoms(use_true_random=False))
def test_names_and_order_do_not_matter(rows: list[Row], share: float, shuffler: random.Random) -> None:
    turned = rows.copy()
    shuffler.shuffle(turned)
    assert Counter(rows_of(stratified_group_split(contents(rows), share, 1)[1])) == Counter(
        rows_of(stratified_group_split(contents(turned), share, 1)[1])
    )
    assert fingerprint(contents(rows)) == fingerprint(contents(turned))


def test_seed_decides_and_order_is_kept() -> None:
    whole = contents([("a", str(number)) for number in range(100)])
    draws = [stratified_group_split(whole, 0.2, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    for side in draws[0]:
        assert list(side.samples) == sorted(side.samples, key=lambda sample: int(sample.path.stem))


def test_identical_files_with_different_labels_stay_together() -> None:
    rows = [("a" if number % 2 else "b", str(number // 2)) for number in range(40)]
    for seed in range(10):
        stays, kept = stratified_group_split(contents(rows), 0.3, seed)
        sides = defaultdict(set)
        for name, side in (("stays", stays), ("kept", kept)):
            for content in side.hashes:
                sides[content].add(name)
        assert all(len(names) == 1 for names in sides.values())
        assert Counter(sample.label for sample in kept.samples) == {"a": 6, "b": 6}


def test_fingerprint_changes_with_a_label_or_a_content() -> None:
    prints = {fingerprint(contents(rows)) for rows in ([("a", "1")], [("b", "1")], [("a", "2")], [("a", "1")] * 2)}
    assert len(prints) == 4
    whole = contents([("a", "1")])
    tagged = replace(whole, samples=(replace(whole.samples[0], extra_labels=("b",)),))
    assert fingerprint(tagged) not in prints


def test_contents_are_hashed_and_files_that_cannot_be_opened_are_apart(tmp_path: Path) -> None:
    for name, content in {"1": b"one", "2": b"one", "3": b"two", "empty": b""}.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    names = ("3", "gone", "2", "empty", "1", "nul\0")
    samples = [Sample(tmp_path / f"{name}.png", name, "a", None) for name in names]
    found = hash_samples(samples, Progress())
    assert [sample.name for sample in found.samples] == ["3", "2", "1"]
    assert found.hashes[1] == found.hashes[2] != found.hashes[0]
    assert [(sample.name, reason) for sample, reason in found.unreadable][:2] == [
        ("gone", "no such file"),
        ("empty", "empty file"),
    ]
    assert len(found.unreadable) == 3


def test_identical_files_are_named_leaks_first() -> None:
    named = [("x", "a", "train", "1"), ("y", "a", "train", "1"), ("p", "a", "train", "2"), ("q", "b", "train", "2")]
    named += [("r", "a", "train", "3"), ("s", "a", "test", "3"), ("t", "a", "train", "4"), ("u", "b", "test", "4")]
    named += [("alone", "a", "test", "5")]
    samples = tuple(Sample(Path(name), name, label, part) for name, label, part, _ in named)
    notes = duplicate_warnings(HashedSamples(samples, tuple(content for *_, content in named), ()))
    assert [(note.message, note.names) for note in notes] == [
        (
            "2 groups of identical images across splits: test scores are optimistic",
            ("r = s", "t = u"),
        ),
        ("2 groups of identical images with conflicting labels", ("p = q", "t = u")),
        ("1 group of identical images within one split and class", ("x = y",)),
    ]


def test_nothing_identical_is_nothing_to_say() -> None:
    assert duplicate_warnings(contents([("a", "1"), ("a", "2")])) == []


def test_parts_are_chosen() -> None:
    whole = contents([("a", "1")], "train"), contents([("b", "2")], "test")
    both = HashedSamples(whole[0].samples + whole[1].samples, ("1", "2"), ())
    assert both.in_splits("test") == whole[1]
    assert both.in_splits("train", "test") == both
    assert both.in_splits("val").samples == ()


@pytest.mark.parametrize(("own", "shared"), [(300, 0), (300, 300), (3000, 600), (9000, 2000)])
def test_a_sketch_tells_what_share_of_photographs_was_among_others(own: int, shared: int) -> None:
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(own + 2000)]
    known = minhash(hashes[own - shared :])  # `shared` of the first `own`, and 2000 others
    assert len(known) == MINHASH_SIZE
    assert estimate_overlap(hashes[:own], known) == pytest.approx(shared / own, abs=0.07)
    assert estimate_overlap(hashes[:own], minhash(hashes[own - shared : own][:200])) == pytest.approx(
        min(shared, 200) / own, abs=1e-9
    )
    assert estimate_overlap([], known) == estimate_overlap(hashes, ()) == 0


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
    assert "2 images have several labels: all are used in training, the first is the label to predict" in messages(
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
