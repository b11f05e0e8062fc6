import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from belvedere.data.dataset import load_dataset
from belvedere.data.groups import group_names
from belvedere.data.hashing import (
    MINHASH_SIZE,
    HashedSamples,
    duplicate_warnings,
    estimate_overlap,
    fingerprint,
    hash_samples,
    minhash,
)
from belvedere.data.splits import DataSplit, SplitFractions, _smallest_groups, split_dataset, stratified_group_split
from belvedere.errors import DatasetError
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample
from conftest import write_classes, write_image

Row = tuple[str, str]  # label and content


def contents(rows: Sequence[Row], name: str = "") -> HashedSamples:
    samples = [Sample(Path(f"{i}.png"), f"{i}.png", label, name) for i, (label, _) in enumerate(rows)]
    return HashedSamples(tuple(samples), tuple(content for _, content in rows), ())


def rows_of(contents: HashedSamples) -> list[Row]:
    return [(sample.label, content) for sample, content in zip(contents.samples, contents.hashes, strict=True)]


ANY_ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30).map(str)), max_size=80)
FRACTION_VALUES = st.sampled_from([0.0, 0.1, 0.15, 0.33, 0.5])


@given(ANY_ROWS, FRACTION_VALUES, st.integers(0, 3))
def test_every_sample_is_in_one_set_and_identical_files_together(rows: list[Row], fraction: float, seed: int) -> None:
    whole = contents(rows)
    stays, held_out = stratified_group_split(whole, fraction, seed)
    assert Counter(stays.samples + held_out.samples) == Counter(whole.samples)
    assert not set(stays.hashes) & set(held_out.hashes)
    assert rows_of(stays) + rows_of(held_out) == [rows[int(s.path.stem)] for s in stays.samples + held_out.samples]
    sizes, taken = Counter(label for label, _ in rows), Counter(sample.label for sample in held_out.samples)
    assert all(taken[label] <= max(1, round(fraction * size)) for label, size in sizes.items())
    assert fraction or not held_out.samples


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40)), FRACTION_VALUES, st.integers(0, 3))
@example({"a": 2, "b": 3}, 0.1, 0)
def test_different_files_are_held_out_by_the_fraction_of_each_class(
    sizes: dict[str, int], fraction: float, seed: int
) -> None:
    rows = [(label, f"{label}{number}") for label, size in sizes.items() for number in range(size)]
    taken = Counter(label for label, _ in rows_of(stratified_group_split(contents(rows), fraction, seed)[1]))
    for label, size in sizes.items():
        least = 1 if size >= 3 and fraction else 0
        assert taken[label] == max(round(fraction * size), least)


@given(ANY_ROWS, FRACTION_VALUES, st.randoms(use_true_random=False))
def test_names_and_order_do_not_matter(rows: list[Row], fraction: float, shuffler: random.Random) -> None:
    turned = rows.copy()
    shuffler.shuffle(turned)
    assert Counter(rows_of(stratified_group_split(contents(rows), fraction, 1)[1])) == Counter(
        rows_of(stratified_group_split(contents(turned), fraction, 1)[1])
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
        stays, held_out = stratified_group_split(contents(rows), 0.3, seed)
        sides = defaultdict(set)
        for name, side in (("stays", stays), ("held out", held_out)):
            for content in side.hashes:
                sides[content].add(name)
        assert all(len(names) == 1 for names in sides.values())
        assert Counter(sample.label for sample in held_out.samples) == {"a": 6, "b": 6}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 30)), max_size=80),
    FRACTION_VALUES,
    st.integers(0, 3),
)
def test_groups_are_not_divided(rows: list[tuple[str, int, int]], fraction: float, seed: int) -> None:
    """Rows have a label, a group and a content; group 0 stands for none."""
    samples = tuple(
        Sample(Path("x"), f"{i}", row[0], None, group=f"{row[1]}" if row[1] else None) for i, row in enumerate(rows)
    )
    stays, held_out = stratified_group_split(HashedSamples(samples, tuple(f"{row[2]}" for row in rows)), fraction, seed)
    assert Counter(stays.samples + held_out.samples) == Counter(samples)
    assert not set(group_names(stays)) & set(group_names(held_out))
    assert not {sample.group for sample in stays.samples} & {sample.group for sample in held_out.samples} - {None}
    assert {sample.label for sample in stays.samples} == {sample.label for sample in samples}


def test_groups_larger_than_the_fraction_are_held_out_once() -> None:
    sizes = {"a": [8] * 6, "b": [8] * 6, "c": [9, 9], "d": [40]}  # two groups are too few
    names = [
        (label, f"{label}{number}")
        for label, groups in sizes.items()
        for number, size in enumerate(groups)
        for _ in range(size)
    ]
    samples = tuple(Sample(Path("x"), f"{i}", label, None, group=group) for i, (label, group) in enumerate(names))
    whole = HashedSamples(samples, tuple(map(str, range(len(names)))))
    for seed in range(5):
        _, held_out = stratified_group_split(whole, 0.15, seed)
        assert Counter(sample.label for sample in held_out.samples) == {"a": 8, "b": 8}
        assert len({sample.group for sample in held_out.samples}) == 2


def test_a_group_of_several_classes_is_held_out_if_each_keeps_two() -> None:
    groups = {"p": "aaab", "q": "aaab", "r": "aaab", "s": "aaa", "t": "aaa"}
    samples = tuple(
        Sample(Path("x"), f"{g}{i}", label, None, group=g)
        for g, labels in groups.items()
        for i, label in enumerate(labels)
    )
    _, held_out = stratified_group_split(HashedSamples(samples, tuple(each.name for each in samples)), 0.1, 0)
    assert len({sample.group for sample in held_out.samples}) == 2
    assert Counter(sample.label for sample in held_out.samples) == {"a": 6, "b": 1}


def smallest_by_search(labels: Sequence[Counter[str]], chosen: set[int]) -> set[int]:
    """What `_smallest_groups` returns, found without an index."""
    added: set[int] = set()
    for label in sorted({label for each in labels for label in each}):
        left = Counter(other for place, each in enumerate(labels) if place not in chosen | added for other in each)
        with_label = [place for place, each in enumerate(labels) if label in each]
        fitting = [place for place in with_label if all(left[other] >= 2 for other in labels[place])]
        if len(with_label) >= 3 and not (chosen | added) & {*with_label} and fitting:
            added.add(min(fitting, key=lambda place: labels[place].total()))
    return added


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5), min_size=1), max_size=20), st.data())
def test_the_smallest_groups_are_those_of_a_search(groups: list[dict[str, int]], data: st.DataObject) -> None:
    labels = [Counter(each) for each in groups]
    chosen = {place for place in range(len(labels)) if data.draw(st.integers(0, 4)) == 0}
    assert _smallest_groups(labels, chosen) == smallest_by_search(labels, chosen)


class Counted(list[Counter[str]]):
    """A list that counts how often it is passed through."""

    passes = 0

    def __iter__(self) -> Iterator[Counter[str]]:
        self.passes += 1
        return super().__iter__()


def test_the_smallest_groups_are_found_in_one_pass() -> None:
    labels = Counted([Counter({f"{number % 30}": 2}) for number in range(90)])
    assert len(_smallest_groups(labels, {0})) == 29
    assert labels.passes == 1


def test_new_images_follow_the_known_ones_of_their_group(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for group in range(8):
            for number in range(3):
                write_image(tmp_path / label / f"{group}" / f"{number}.png", "red", hash_number(label, group, number))
    first = split_dataset(load_dataset(tmp_path, layout="classes"), FRACTIONS, 0, Progress(), group_by="folder")
    splits = {"train": first.train, "val": first.validation, "test": first.hashed_test}
    known = {key: name for name, part in splits.items() for key, sample in zip(part.hashes, part.samples, strict=True)}
    partly = {key: name for number, (key, name) in enumerate(sorted(known.items())) if number % 2}
    second = split_dataset(load_dataset(tmp_path, layout="classes"), FRACTIONS, 5, Progress(), partly, "folder")
    again = {"train": second.train, "val": second.validation, "test": second.hashed_test}
    assert all(partly.get(key, name) == name for name, part in again.items() for key in part.hashes)
    groups = [{sample.group for sample in part.samples} for part in again.values()]
    assert not groups[0] & groups[1] | groups[1] & groups[2] | groups[0] & groups[2]


def hash_number(label: str, group: int, number: int) -> int:
    return group * 10 + number + (100 if label == "dog" else 0)


def test_groups_in_two_given_splits_are_counted(tmp_path: Path) -> None:
    for number, file in enumerate(
        ("train/cat/p", "train/dog/q", "train/dog/r", "test/cat/p", "test/dog/s", "val/dog/r", "val/cat/t")
    ):
        write_image(tmp_path / file / "1.png", "red", number)
    warnings = split_dataset(load_dataset(tmp_path), FRACTIONS, 0, Progress(), group_by="folder").warnings
    (divided,) = [warning for warning in warnings if "more than one split" in warning.message]
    assert divided.message.startswith("2 groups")
    assert divided.names == ("p", "r")


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
    samples = tuple(Sample(Path(name), name, label, split) for name, label, split, _ in named)
    notes = duplicate_warnings(HashedSamples(samples, tuple(content for *_, content in named), ()))
    assert [(note.message, note.names) for note in notes] == [
        (
            "2 groups of identical images across splits: test scores are optimistic",
            ("r = s", "t = u"),
        ),
        ("2 groups of identical images with conflicting labels", ("p = q", "t = u")),
        ("1 group of identical images within one split and class", ("x = y",)),
    ]


def test_an_image_without_a_split_is_for_training() -> None:
    samples = tuple(Sample(Path(name), name, "a", split) for name, split in (("x", "train"), ("y", None)))
    [warning] = duplicate_warnings(HashedSamples(samples, ("1", "1")))
    assert "within one split" in warning.message


def test_nothing_identical_is_nothing_to_say() -> None:
    assert duplicate_warnings(contents([("a", "1"), ("a", "2")])) == []


def test_parts_are_chosen() -> None:
    whole = contents([("a", "1")], "train"), contents([("b", "2")], "test")
    both = HashedSamples(whole[0].samples + whole[1].samples, ("1", "2"), ())
    assert both.in_splits("test") == whole[1]
    assert both.in_splits("train", "test") == both
    assert both.in_splits("val").samples == ()


@pytest.mark.parametrize(("own", "shared"), [(300, 0), (300, 300), (3000, 600), (9000, 2000)])
def test_a_sketch_tells_what_fraction_of_images_was_among_others(own: int, shared: int) -> None:
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(own + 2000)]
    known = minhash(hashes[own - shared :])  # `shared` of the first `own`, and 2000 others
    assert len(known) == MINHASH_SIZE
    assert estimate_overlap(hashes[:own], known) == pytest.approx(shared / own, abs=0.07)
    assert estimate_overlap(hashes[:own], minhash(hashes[own - shared : own][:200])) == pytest.approx(
        min(shared, 200) / own, abs=1e-9
    )
    assert estimate_overlap([], known) == estimate_overlap(hashes, ()) == 0


FRACTIONS = SplitFractions(test=0.2, validation=0.25)


def split_of(photos: Path, seed: int = 0, needs_validation: bool = True) -> DataSplit:
    fractions = replace(FRACTIONS, needs_validation=needs_validation)
    return split_dataset(load_dataset(photos), fractions, seed, Progress())


def refusal(photos: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        split_of(photos)
    return str(caught.value)


def counts(split: DataSplit) -> list[dict[str, int]]:
    splits = split.train.samples, split.validation.samples, split.test
    return [dict(Counter(sample.label for sample in each)) for each in splits]


def messages(split: DataSplit) -> list[str]:
    return [note.message for note in split.warnings]


def names(samples: tuple[Sample, ...]) -> set[Path]:
    return {sample.path for sample in samples}


def test_named_splits_stay(tmp_path: Path) -> None:
    for name, each in (("train", 4), ("val", 2), ("test", 3)):
        for label, color in (("sea", "blue"), ("wood", "green")):
            for number in range(each):
                write_image(tmp_path / name / label / f"{number}.png", color, 100 * each + number)
    split = split_of(tmp_path)
    assert counts(split) == [{"sea": each, "wood": each} for each in (4, 2, 3)]
    assert {sample.split for sample in split.test} == {"test"}
    assert messages(split) == []


def test_splits_that_are_not_named_are_held_out_with_a_warning(tmp_path: Path) -> None:
    write_classes(tmp_path, 20)
    split = split_of(tmp_path)
    assert counts(split) == [dict.fromkeys(("blue", "green", "red"), each) for each in (12, 4, 4)]
    assert messages(split) == [
        "12 images held out for testing: the dataset has no test split",
        "12 images held out for validation: the dataset has no validation split",
    ]
    whole = names(split.train.samples) | names(split.validation.samples) | names(split.test)
    assert len(whole) == 60
    assert split_of(tmp_path) == split
    assert split_of(tmp_path, seed=1).test != split.test


def test_splits_of_an_earlier_run_stay_and_new_images_are_drawn(tmp_path: Path) -> None:
    write_classes(tmp_path, 20)
    first = split_of(tmp_path)
    parts = {"train": first.train, "val": first.validation, "test": first.hashed_test}
    known = {key: name for name, part in parts.items() for key in part.hashes}
    for number in range(100, 110):
        for name in ("blue", "green", "red"):
            write_image(tmp_path / name / f"{number}.png", name, number)
    second = split_dataset(load_dataset(tmp_path), FRACTIONS, 7, Progress(), known)
    assert counts(second) == [dict.fromkeys(("blue", "green", "red"), each) for each in (18, 6, 6)]
    assert names(first.test) < names(second.test)
    assert names(first.validation.samples) < names(second.validation.samples)
    assert names(first.train.samples) < names(second.train.samples)


def test_a_split_that_an_earlier_run_did_not_have_is_drawn_from_all(tmp_path: Path) -> None:
    write_classes(tmp_path, 20)
    first = split_of(tmp_path, needs_validation=False)
    known = dict.fromkeys(first.train.hashes, "train") | dict.fromkeys(first.hashed_test.hashes, "test")
    second = split_dataset(load_dataset(tmp_path), FRACTIONS, 0, Progress(), known)
    assert names(second.test) == names(first.test)
    assert len(second.validation.samples) == 12


def test_validation_is_held_out_from_train_and_never_from_test(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 8)
    for number in range(5):
        write_image(tmp_path / "test/red" / f"{number}.png", "red", 1000 + number)
    split = split_of(tmp_path)
    assert {sample.split for sample in split.train.samples + split.validation.samples} == {"train"}
    assert counts(split)[1:] == [{"blue": 2, "green": 2, "red": 2}, {"red": 5}]


def test_identical_files_stay_together_and_are_named(tmp_path: Path) -> None:
    for number in range(20):
        write_image(tmp_path / "sea" / f"{number}.png", "blue", number // 2)
        write_image(tmp_path / "wood" / f"{number}.png", "green", number // 2)
    split = split_of(tmp_path)
    splits = split.train.samples, split.validation.samples, split.test
    contents = [{path.read_bytes() for path in names(each)} for each in splits]
    assert not (contents[0] & contents[1] or contents[0] & contents[2] or contents[1] & contents[2])
    assert messages(split)[0] == "20 groups of identical images within one split and class"


def test_fingerprint_is_of_what_is_learned_and_not_of_its_place(tmp_path: Path) -> None:
    for place in ("here", "there"):
        write_classes(tmp_path / place, 8)
    write_image(tmp_path / "there/red/9.png", "red", 9)
    first, other = split_of(tmp_path / "here"), split_of(tmp_path / "there")
    assert first.sha256 != other.sha256
    (tmp_path / "there/red/9.png").unlink()
    (tmp_path / "there/red/3.png").rename(tmp_path / "there/red/zzz.png")
    assert split_of(tmp_path / "there").sha256 == first.sha256


def test_files_that_cannot_be_opened_and_further_labels_are_noted(tmp_path: Path) -> None:
    write_classes(tmp_path / "p", 8)
    rows = [f"p/{name}/{n}.png,{name}{'|sea' * (n == 0)}" for name in ("blue", "red") for n in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label", *rows, "gone.png,red"]))
    split = split_of(tmp_path / "t.csv")
    assert "2 images have several labels: all are used in training, the first is the label to predict" in messages(
        split
    )
    note = next(note for note in split.warnings if "left out: cannot be opened" in note.message)
    assert note.names == (f"{tmp_path / 'gone.png'}: no such file",)
    assert len(split.train.samples + split.validation.samples + split.test) == 16


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    assert "has only one class: 'red'" in refusal(write_classes(tmp_path, 9, ("red",)))


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    assert "Too few images" in refusal(write_classes(tmp_path, 1))


def test_a_probe_too_needs_images_to_report_on(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="test_fraction"):
        split_of(write_classes(tmp_path, 2), needs_validation=False)


def test_test_split_alone_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "test", 4)
    assert "No training split" in refusal(tmp_path)


@pytest.mark.parametrize(("name", "named"), [("train", "training"), ("val", "validation"), ("test", "test")])
def test_split_of_which_nothing_can_be_opened_is_refused_and_not_replaced(
    name: str, named: str, tmp_path: Path
) -> None:
    for other in ("train", "val", "test"):
        write_classes(tmp_path / other, 4)
    for path in (tmp_path / name).rglob("*.png"):
        path.write_bytes(b"")
    assert f"None of the {named} images in {tmp_path} can be opened" in refusal(tmp_path)
