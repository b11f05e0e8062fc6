"""Tags: their fit on images with one or several labels, the confidences, and the choice."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from belvedere.inference import tags
from belvedere.inference.tags import (
    NUM_COMPOSITES,
    area_fractions,
    choose_tags,
    fit_tags,
    fit_tags_multilabel,
    identity_tag_model,
    is_multilabel_data,
    multi_hot,
    tag_confidences,
    top_k_mean,
)
from belvedere.types.data import Sample
from belvedere.types.model import TagModel

NAMES = ("forest", "mountain", "sea")


def paint(parts: list[tuple[int, float]], random: np.random.Generator, side: int = 10) -> NDArray[np.float32]:
    """Evidence (3, side, side) of an image of bands, each of a class and a fraction of it."""
    evidence = random.normal(-1, 0.8, (3, side, side))
    start = 0
    for label, fraction in parts:
        stop = min(side, start + round(fraction * side))
        evidence[label, :, start:stop] += 4
        start = stop
    return evidence.astype(np.float32)


def draw_single(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return np.stack([paint([(int(label), 0.9)], random) for label in labels]), np.eye(3, dtype=bool)[labels]


def draw_several(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    images, present = [], np.zeros((count, 3), bool)
    for row in range(count):
        labels = random.permutation(3)[: random.integers(1, 3)]
        present[row, labels] = True
        images.append(paint([(int(label), 0.9 / len(labels)) for label in labels], random))
    return np.stack(images), present


def test_tags_fitted_on_single_labels_hold_for_several() -> None:
    rule = fit_tags(*draw_single(90, 0))
    assert rule is not None
    assert not rule.is_multilabel
    evidence, present = draw_several(200, 1)
    chosen = tag_confidences(rule, evidence) >= 0.5
    assert 2 * (chosen & present).sum() / (chosen.sum() + present.sum()) > 0.95


def test_area_fractions_are_those_of_the_bands() -> None:
    random = np.random.default_rng(2)
    evidence = np.stack([paint([(2, 0.6), (1, 0.3), (0, 0.1)], random)])
    assert area_fractions(evidence, 0.5)[0] == pytest.approx([0.1, 0.3, 0.6], abs=0.08)


def test_main_class_comes_first_then_the_larger_area() -> None:
    confidences = np.array([[0.9, 0.8, 0.2], [0.1, 0.1, 0.1]])
    fractions = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], np.float32)
    first, second = choose_tags(confidences, fractions, np.array([1, 0]), NAMES)
    assert [tag.name for tag in first] == ["mountain", "forest"]
    assert [tag.area_fraction for tag in first] == pytest.approx([0.375, 0.625])
    assert [tag.confidence for tag in first] == pytest.approx([0.8, 0.9])
    assert [(tag.name, tag.area_fraction) for tag in second] == [("forest", 1.0)]  # the answer is a tag, however unsure


def test_images_with_all_labels_give_weights_between_classes() -> None:
    """The sea is always labeled with a mountain, for which there is no evidence."""
    rule = fit_tags(*draw_single(90, 0))
    assert rule is not None
    random = np.random.default_rng(3)
    labels = np.arange(60) % 3
    evidence = np.stack([paint([(int(label), 0.9)], random) for label in labels])
    present = np.eye(3, dtype=bool)[labels]
    present[labels == 2, 1] = True
    refitted = fit_tags_multilabel(rule, evidence, present)
    assert refitted.is_multilabel
    assert refitted.num_images == 60
    new = np.stack([paint([(2, 0.9)], np.random.default_rng(seed)) for seed in range(100, 120)])
    assert (tag_confidences(rule, new)[:, 1] < 0.5).all()
    assert (tag_confidences(refitted, new)[:, 1] > 0.5).all()


def test_class_without_positive_images_keeps_its_weights() -> None:
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


def test_data_are_multilabel_from_one_tenth_on() -> None:
    present = np.eye(3, dtype=bool)[np.arange(100) % 3]
    assert not is_multilabel_data(present[:0])
    present[:9] = True
    assert not is_multilabel_data(present)
    present[9] = True
    assert is_multilabel_data(present)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2)])
def test_smallest_maps_are_composed_of_both_images(shape: tuple[int, int]) -> None:
    evidence = np.full((60, 3, *shape), -4, np.float32)
    labels = np.arange(60) % 3
    evidence[np.arange(60), labels] = 4
    rule = fit_tags(evidence, np.eye(3, dtype=bool)[labels])
    assert rule is not None
    both = np.full((1, 3, *shape), -4, np.float32)
    both[0, 0].flat[0] = both[0, 1].flat[-1] = 4
    assert (tag_confidences(rule, both)[0] >= 0.5).tolist() == [True, True, False]


def test_no_fit_on_too_few_images_or_maps_of_one_cell() -> None:
    assert fit_tags(*draw_single(29, 0)) is None
    evidence, present = draw_single(60, 0)
    assert fit_tags(evidence[:, :, :1, :1], present) is None


def test_class_without_images_is_never_a_tag() -> None:
    evidence, present = draw_single(60, 0)
    rule = fit_tags(evidence[~present[:, 2]], present[~present[:, 2]])
    assert rule is not None
    assert tag_confidences(rule, evidence)[:, 2].max() < 1e-6


def test_strongest_two_fifths_are_averaged() -> None:
    evidence = np.zeros((1, 1, 2, 5), np.float32)
    evidence[0, 0, 0, :4] = 1
    assert top_k_mean(evidence)[0, 0] == 1  # four of ten cells


def test_pooling_by_hand() -> None:
    evidence = np.array([[[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 0, 9]]]], np.float32)
    assert top_k_mean(evidence).tolist() == [[5.5, 4.5]]  # 0.4 of six cells: the two strongest
    assert top_k_mean(evidence[..., :1, :1]).tolist() == [[1, 0]]  # at least one
    assert top_k_mean(evidence[..., :1, :]).tolist() == [[3, 0]]  # 1.2 of three
    assert top_k_mean(evidence).dtype == np.float32


def test_area_fractions_by_hand() -> None:
    evidence = np.log(np.array([[[[3.0, 1.0]], [[1.0, 1.0]]]], np.float32))  # odds of 3 and 1
    assert area_fractions(evidence, 1.0)[0] == pytest.approx([(0.75 + 0.5) / 2, (0.25 + 0.5) / 2])
    assert area_fractions(evidence, 0.5)[0] == pytest.approx([(0.9 + 0.5) / 2, (0.1 + 0.5) / 2])  # odds of 9
    assert area_fractions(evidence + 1000, 1.0)[0] == pytest.approx([0.625, 0.375], abs=1e-4)  # without overflow
    assert area_fractions(evidence, 1.0).dtype == np.float32


def test_labels_are_marked_in_the_order_of_the_classes() -> None:
    samples = [
        Sample(Path("1"), "1", "sea", "train", ("forest", "street")),
        Sample(Path("2"), "2", "street", "train"),
    ]
    assert multi_hot(samples, NAMES).tolist() == [[True, False, True], [False, False, False]]


def test_untrained_tags_are_the_logistic_function_of_the_evidence() -> None:
    model = identity_tag_model(3)
    assert model == TagModel((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    evidence = np.log(np.array([3.0, 1.0, 0.25], np.float32)).reshape(1, 3, 1, 1)
    assert tag_confidences(model, evidence)[0] == pytest.approx([0.75, 0.5, 0.2])
    assert tag_confidences(model, evidence * 1000)[0] == pytest.approx([1, 0.5, 0])  # without overflow


def test_confidences_by_hand() -> None:
    model = TagModel((2.0, 1.0), (-1.0, 0.5), ((0.0, 0.5), (-1.0, 0.0)))
    evidence = np.array([1.0, 2.0], np.float32).reshape(1, 2, 1, 1)
    sums = np.array([2 * 1 - 1 + 0.5 * 2, 1 * 2 + 0.5 - 1 * 1])
    assert tag_confidences(model, evidence)[0] == pytest.approx(1 / (1 + np.exp(-sums)))


def half_and_half(count: int = 40) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Constant evidence, so that only the labels count: half of the first class, half of the second."""
    present = np.arange(count)[:, None] % 2 == np.arange(2)
    return np.zeros((count, 2, 2, 2), np.float32), present


@pytest.mark.parametrize("seed", [0, 5])
def test_confidence_is_corrected_for_unlabeled_classes(seed: int) -> None:
    """Elkan and Noto (2008): a fraction q of composites names the class, so q is the mean over those that do.

    Half of that, q / 2, becomes the even point: the odds q / (1 - q) are divided by those of q / 2. With q = 3/4 a
    confidence of 0.75 becomes 5/6.
    """
    evidence, present = half_and_half()
    model = fit_tags(evidence, present, seed)
    assert model is not None
    pairs = np.random.default_rng(seed).integers(len(present), size=(NUM_COMPOSITES, 2))
    q = (present[pairs[:, 0]] | present[pairs[:, 1]]).mean(0)
    assert q == pytest.approx([0.75, 0.75], abs=0.02)
    assert tag_confidences(model, evidence[:1])[0] == pytest.approx((2 - q) / (3 - 2 * q), abs=1e-6)
    assert model.scale == pytest.approx((0, 0))
    assert (model.num_images, model.is_multilabel, model.cross_class_weights) == (40, False, ())


def test_composites_are_fitted_by_logistic_regression() -> None:
    """Against scikit-learn, on the composites of maps of two cells: one cell of either image."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    evidence = random.normal(0, 1, (90, 3, 1, 2)).astype(np.float32)
    evidence[np.arange(90), labels] += 1
    model = fit_tags(evidence, np.eye(3, dtype=bool)[labels])
    assert model is not None
    pairs = np.random.default_rng(0).integers(90, size=(NUM_COMPOSITES, 2))
    pooled = np.maximum(evidence[pairs[:, 0], :, 0, 0], evidence[pairs[:, 1], :, 0, 1])
    for index in range(3):
        named = (labels[pairs] == index).any(1)
        reference = LogisticRegression(C=100, tol=1e-10, max_iter=1000).fit(pooled[:, [index]], named)
        even = reference.predict_proba(pooled[named][:, [index]])[:, 1].mean() / 2
        assert model.scale[index] == pytest.approx(reference.coef_[0, 0], rel=1e-4)
        assert model.bias[index] == pytest.approx(reference.intercept_[0] - np.log(even / (1 - even)), abs=1e-4)


class Draws(np.random.Generator):
    """Gives chosen pairs, fractions and directions in the place of random ones."""

    def __init__(self, pairs: list[tuple[int, int]], fractions: list[float], directions: list[float]) -> None:
        super().__init__(np.random.PCG64(0))
        self._given = np.array(pairs), np.array(fractions), np.array(directions)

    def integers(self, low: int, size: tuple[int, int]) -> NDArray[np.int64]:  # type: ignore[override]
        assert (low, size) == (2, self._given[0].shape)
        return self._given[0]

    def uniform(self, low: float, high: float, size: int) -> NDArray[np.float64]:  # type: ignore[override]
        assert (low, high, size) == (0.1, 0.9, len(self._given[1]))
        return self._given[1]

    def random(self, size: int) -> NDArray[np.float64]:  # type: ignore[override]
        assert size == len(self._given[2])
        return self._given[2]


def test_composites_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first image has high evidence on the left, the second on the right; of 10 cells the 4 strongest count."""
    left, right = np.zeros((2, 5)), np.zeros((2, 5))
    left[:, :2], right[:, 3:] = 1, 10
    evidence = np.stack([left, right])[:, None].astype(np.float32)
    cases: list[
        tuple[tuple[int, int], float, float, float]
    ] = [  # pair, fraction of the first, direction (below one half: side by side), mean of the 4 strongest
        ((0, 1), 0.6, 0.49, 10.0),  # columns 0 to 2 of the first, 3 and 4 of the second
        ((0, 1), 0.85, 0.0, (2 * 10 + 2 * 1) / 4),  # columns 0 to 3, and 4
        ((0, 1), 0.1, 0.3, 10.0),  # at least one column of the first
        ((1, 0), 0.9, 0.3, 2 * 10 / 4),  # and of the second: columns 0 to 3 of the first hold two cells of 10
        ((0, 1), 0.5, 0.5, (2 * 10 + 2 * 1) / 4),  # one row of each
        ((1, 1), 0.9, 0.9, 10.0),
        ((0, 0), 0.1, 0.9, 1.0),
    ]
    pairs, fractions, directions, expected = map(list, zip(*cases, strict=True))
    monkeypatch.setattr(tags, "NUM_COMPOSITES", len(cases))
    present = np.array([[True, False], [False, True]])
    pooled, named = tags._compose(evidence, present, Draws(pairs, fractions, directions))
    assert pooled[:, 0].tolist() == expected
    assert named.tolist() == [[True, True]] * 5 + [[False, True], [True, False]]


def test_class_in_every_composite_or_none_is_never_a_tag() -> None:
    evidence, present = half_and_half()
    present[:, 0], present[:, 1] = True, False
    model = fit_tags(evidence, present)
    assert model == TagModel((0.0, 0.0), (-20.0, -20.0), num_images=40)


def test_fit_on_all_labels_by_hand() -> None:
    """Without evidence only the biases move: to the log-odds of how many images have the class."""
    model = TagModel((2.0, 3.0, 4.0), (1.0, 1.0, -7.0))
    evidence = np.zeros((40, 3, 1, 1), np.float32)
    present = np.zeros((40, 3), bool)
    present[:30, 0] = present[:10, 1] = True
    fitted = fit_tags_multilabel(model, evidence, present)
    assert fitted.scale == pytest.approx((2, 3, 4))
    assert fitted.bias == pytest.approx((np.log(3), -np.log(3), -7))
    assert np.allclose(fitted.cross_class_weights, 0)
    assert (fitted.num_images, fitted.is_multilabel) == (40, True)


def test_weights_between_classes_against_scikit_learn() -> None:
    """From no weights the fit is a ridge logistic regression on evidence in units of its deviation."""
    from sklearn.linear_model import LogisticRegression

    evidence, present = draw_several(60, 8)
    pooled = top_k_mean(evidence).astype(np.float64)
    spread = pooled.std(0) + 1e-6
    fitted = fit_tags_multilabel(TagModel((0.0,) * 3, (0.0,) * 3), evidence, present)
    weights = np.diag(fitted.scale) + np.array(fitted.cross_class_weights)
    assert (np.array(fitted.cross_class_weights).diagonal() == 0).all()
    for index in range(3):
        reference = LogisticRegression(C=1, tol=1e-10, max_iter=1000).fit(pooled / spread, present[:, index])
        assert weights[index] * spread == pytest.approx(reference.coef_[0], abs=1e-4)
        assert fitted.bias[index] == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_fit_on_all_labels_starts_from_the_model_it_is_given() -> None:
    """The penalty pulls toward the given weights, those between classes too: much data moves them, little does not."""
    given = TagModel((5.0, 5.0, 5.0), (0.0, 0.0, 0.0), ((0.0, 3.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    evidence, present = draw_several(60, 8)
    evidence = evidence * np.float32(1e-3)  # says next to nothing: the deviations are a thousandth
    fitted = fit_tags_multilabel(given, evidence, present)
    assert fitted.scale != given.scale
    flat = fit_tags_multilabel(given, np.zeros_like(evidence), present)
    assert flat.scale == pytest.approx(given.scale)
    assert np.array(flat.cross_class_weights) == pytest.approx(np.array(given.cross_class_weights))


def test_tags_by_hand() -> None:
    confidences = np.array([[0.5, 0.499, 0.9, 0.1]])
    areas = np.array([[0.002, 0.3, 0.25, 0.448]], np.float32)
    [found] = choose_tags(confidences, areas, np.array([3]), (*NAMES, "street"))
    # At least 1% is counted for the forest; what the mountain covers is divided among the others.
    total = 0.01 + 0.25 + 0.448
    expected = [("street", 0.448 / total, 0.1), ("sea", 0.25 / total, 0.9), ("forest", 0.01 / total, 0.5)]
    assert [tag.name for tag in found] == [name for name, _, _ in expected]
    for tag, (_, area, confidence) in zip(found, expected, strict=True):
        assert (tag.area_fraction, tag.confidence) == pytest.approx((area, confidence))


@given(st.integers(0, 1000), st.integers(1, 6))
def test_areas_of_tags_add_up_and_are_sorted(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    confidences, main = random.random((5, classes)), random.integers(classes, size=5)
    names = [f"class {index}" for index in range(classes)]
    areas = random.dirichlet(np.ones(classes), 5).astype(np.float32)
    for row, found in enumerate(choose_tags(confidences, areas, main, names)):
        assert found[0].name == names[main[row]]
        assert [tag.area_fraction for tag in found[1:]] == sorted(
            (tag.area_fraction for tag in found[1:]), reverse=True
        )
        assert sum(tag.area_fraction for tag in found) == pytest.approx(1)
        assert {tag.name for tag in found[1:]} == {
            name for index, name in enumerate(names) if confidences[row, index] >= 0.5 and index != main[row]
        }
