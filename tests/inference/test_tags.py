"""Tags: what else is in a picture, learnt from photographs with one label each."""

import numpy as np
import pytest
from numpy.typing import NDArray

from belvedere.inference.tags import (
    area_fractions,
    choose_tags,
    fit_tags,
    fit_tags_multilabel,
    is_multilabel_data,
    tag_confidences,
    top_k_mean,
)

NAMES = ("forest", "mountain", "sea")


def paint(parts: list[tuple[int, float]], random: np.random.Generator, side: int = 10) -> NDArray[np.float32]:
    """Evidence (3, side, side) of a picture of bands, each of a class and a share of it."""
    evidence = random.normal(-1, 0.8, (3, side, side))
    start = 0
    for label, share in parts:
        stop = min(side, start + round(share * side))
        evidence[label, :, start:stop] += 4
        start = stop
    return evidence.astype(np.float32)


def draw_single(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return np.stack([paint([(int(label), 0.9)], random) for label in labels]), np.eye(3, dtype=bool)[labels]


def draw_several(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    pictures, present = [], np.zeros((count, 3), bool)
    for row in range(count):
        labels = random.permutation(3)[: random.integers(1, 3)]
        present[row, labels] = True
        pictures.append(paint([(int(label), 0.9 / len(labels)) for label in labels], random))
    return np.stack(pictures), present


def test_from_single_labels_it_tells_what_pictures_of_several_hold() -> None:
    rule = fit_tags(*draw_single(90, 0))
    assert rule is not None
    assert not rule.several_labels
    evidence, present = draw_several(200, 1)
    chosen = tag_confidences(rule, evidence) >= 0.5
    assert 2 * (chosen & present).sum() / (chosen.sum() + present.sum()) > 0.95


def test_shares_are_those_of_the_bands() -> None:
    random = np.random.default_rng(2)
    evidence = np.stack([paint([(2, 0.6), (1, 0.3), (0, 0.1)], random)])
    assert area_fractions(evidence, 0.5)[0] == pytest.approx([0.1, 0.3, 0.6], abs=0.08)


def test_the_main_class_comes_first_then_the_larger_share() -> None:
    confidences = np.array([[0.9, 0.8, 0.2], [0.1, 0.1, 0.1]])
    shares = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], np.float32)
    first, second = choose_tags(confidences, shares, np.array([1, 0]), NAMES)
    assert [tag.name for tag in first] == ["mountain", "forest"]
    assert [tag.share for tag in first] == pytest.approx([0.375, 0.625])
    assert [tag.confidence for tag in first] == pytest.approx([0.8, 0.9])
    assert [(tag.name, tag.share) for tag in second] == [("forest", 1.0)]  # the answer is a tag, however unsure


def test_photographs_with_all_their_labels_teach_what_goes_together() -> None:
    """Here the sea is never without a mountain, of which nothing is seen."""
    rule = fit_tags(*draw_single(90, 0))
    assert rule is not None
    random = np.random.default_rng(3)
    labels = np.arange(60) % 3
    evidence = np.stack([paint([(int(label), 0.9)], random) for label in labels])
    present = np.eye(3, dtype=bool)[labels]
    present[labels == 2, 1] = True
    refitted = fit_tags_multilabel(rule, evidence, present)
    assert refitted.several_labels
    assert refitted.fitted_on == 60
    new = np.stack([paint([(2, 0.9)], np.random.default_rng(seed)) for seed in range(100, 120)])
    assert (tag_confidences(rule, new)[:, 1] < 0.5).all()
    assert (tag_confidences(refitted, new)[:, 1] > 0.5).all()


def test_a_class_in_none_of_the_photographs_keeps_its_rule() -> None:
    rule = fit_tags(*draw_single(90, 0))
    assert rule is not None
    evidence, present = draw_several(40, 5)
    present[:, 0] = False
    refitted = fit_tags_multilabel(rule, evidence, present)
    assert tag_confidences(refitted, evidence)[:, 0] == pytest.approx(tag_confidences(rule, evidence)[:, 0])
    again, there = draw_several(40, 6)
    there[:, 1] = True
    twice = fit_tags_multilabel(refitted, again, there)  # what it knows of other classes stays as well
    assert tag_confidences(twice, again)[:, 1] == pytest.approx(tag_confidences(refitted, again)[:, 1])


def test_few_photographs_with_several_labels_do_not_say_that_the_others_have_all() -> None:
    present = np.eye(3, dtype=bool)[np.arange(100) % 3]
    assert not is_multilabel_data(present[:0])
    present[:9] = True
    assert not is_multilabel_data(present)
    present[9] = True
    assert is_multilabel_data(present)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2)])
def test_the_smallest_maps_are_composed_of_both_photographs(shape: tuple[int, int]) -> None:
    evidence = np.full((60, 3, *shape), -4, np.float32)
    labels = np.arange(60) % 3
    evidence[np.arange(60), labels] = 4
    rule = fit_tags(evidence, np.eye(3, dtype=bool)[labels])
    assert rule is not None
    both = np.full((1, 3, *shape), -4, np.float32)
    both[0, 0].flat[0] = both[0, 1].flat[-1] = 4
    assert (tag_confidences(rule, both)[0] >= 0.5).tolist() == [True, True, False]


def test_nothing_is_learnt_of_too_few_photographs_or_where_there_are_no_places() -> None:
    assert fit_tags(*draw_single(29, 0)) is None
    evidence, present = draw_single(60, 0)
    assert fit_tags(evidence[:, :, :1, :1], present) is None


def test_a_class_without_photographs_is_never_a_tag() -> None:
    evidence, present = draw_single(60, 0)
    rule = fit_tags(evidence[~present[:, 2]], present[~present[:, 2]])
    assert rule is not None
    assert tag_confidences(rule, evidence)[:, 2].max() < 1e-6


def test_the_strongest_places_speak() -> None:
    evidence = np.zeros((1, 1, 2, 5), np.float32)
    evidence[0, 0, 0, :4] = 1
    assert top_k_mean(evidence)[0, 0] == 1  # four of ten places
