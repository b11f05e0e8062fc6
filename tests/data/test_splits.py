import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from belvedere.data.hashing import (
    MINHASH_SIZE,
    HashedSamples,
    duplicate_warnings,
    estimate_overlap,
    fingerprint,
    hash_samples,
    minhash,
)
from belvedere.data.splits import stratified_group_split
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample

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
