"""Doubt about labels: thresholds, weights, order and flags, on probabilities that are made up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from belvedere.auditing.label_issues import (
    confident_class,
    confusion_weights,
    find_label_issues,
    find_thresholds,
    merge_extra_labels,
)
from belvedere.auditing.linear_probe import draw_folds, hold_out
from belvedere.auditing.outliers import find_outliers, knn_similarity
from belvedere.inference.uncertainty.temperature_scaling import softmax

CLASSES = 4


def answers(true: NDArray[np.int64], sure: float, seed: int) -> NDArray[np.float32]:
    """Probabilities of a network that is right mostly."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1, (len(true), CLASSES)) + sure * np.eye(CLASSES)[true]
    return softmax(logits.astype(np.float32))


def test_thresholds_are_means_of_the_own_class() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], np.float32)
    thresholds = find_thresholds(probabilities, np.array([0, 0, 1]))
    assert thresholds == pytest.approx([0.7, 0.9])
    assert confident_class(probabilities, thresholds).tolist() == [0, -1, 1]
    assert find_thresholds(probabilities, np.array([0, 0, 0]))[1] == 2  # no picture of it: never reached


def test_planted_mistakes_come_first_and_are_flagged() -> None:
    true = np.random.default_rng(0).integers(0, CLASSES, 1200)
    labels = true.copy()
    labels[::40] = (labels[::40] + 1) % CLASSES
    doubts = find_label_issues(answers(true, 6, 1), labels)
    wrong = labels != true
    first = np.argsort(-doubts.scores)[: wrong.sum()]
    assert wrong[first].mean() > 0.9
    assert doubts.flagged[wrong].mean() > 0.9
    assert doubts.flagged[~wrong].mean() < 0.01
    assert (doubts.suggestions[wrong & doubts.flagged] == true[wrong & doubts.flagged]).mean() > 0.95


@pytest.mark.parametrize("each", [10, 15, 100])
def test_mistakes_are_flagged_by_networks_that_are_never_sure(each: int) -> None:
    random = np.random.default_rng(each)
    true = np.repeat([0, 1], each)
    labels = true.copy()
    labels[:2] = 1
    likely = np.clip(random.normal(0.83, 0.03, len(true)), 0, 0.89)  # of the class in the picture
    second = np.where(true == 1, likely, 1 - likely)
    doubts = find_label_issues(np.stack([1 - second, second], axis=1), labels)
    assert np.flatnonzero(doubts.flagged).tolist() == [0, 1]


def test_nothing_is_flagged_where_networks_tell_nothing() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        probabilities = softmax(random.normal(0, 0.5, (40, 2)).astype(np.float32))
        assert not find_label_issues(probabilities, random.integers(0, 2, 40)).flagged.any()


def test_what_else_a_picture_is_labelled_with_counts_as_its_label() -> None:
    probabilities = np.array([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2], [0.3, 0.3, 0.4]], np.float32)
    joined = merge_extra_labels(probabilities, np.array([0, 0, 2]), [[1], [], [0, 2]])
    assert joined == pytest.approx(np.array([[0.8, 0, 0.2], [0.1, 0.7, 0.2], [0, 0.3, 0.7]]))


def test_mistakes_by_chance_weigh_alike_and_frequent_ones_more() -> None:
    true = np.repeat(np.arange(CLASSES), 600)
    random = np.random.default_rng(3)
    by_chance = np.where(random.random(len(true)) < 0.05, random.integers(0, CLASSES, len(true)), true)
    assert (confusion_weights(answers(true, 6, 4), by_chance) == 1).all()
    swapped = true.copy()
    swapped[np.flatnonzero(true == 1)[::10]], swapped[np.flatnonzero(true == 2)[::10]] = 2, 1
    weights = confusion_weights(answers(true, 6, 4), swapped)
    assert weights[1, 2] > 5
    assert weights[2, 1] > 5
    assert weights[0, 3] == weights[3, 1] == 1


def test_a_frequent_mistake_is_ranked_before_a_confusion() -> None:
    true = np.repeat(np.arange(CLASSES), 600)
    labels = true.copy()
    labels[np.flatnonzero(true == 1)[::10]], labels[np.flatnonzero(true == 2)[::10]] = 2, 1
    probabilities = answers(true, 3, 5)
    plain = 1 - probabilities[np.arange(len(labels)), labels].astype(np.float64)

    def found(scores: NDArray[np.float64]) -> float:
        wrong = labels != true
        return float(wrong[np.argsort(-scores)[: wrong.sum()]].mean())

    assert found(find_label_issues(probabilities, labels).scores) > found(plain) + 0.05


@given(st.integers(0, 1000), st.integers(2, 60))
def test_scores_are_shares_and_no_order_of_pictures_matters(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(0, 3, (count, CLASSES)).astype(np.float32))
    labels = random.integers(0, CLASSES, count)
    doubts, order = find_label_issues(probabilities, labels), random.permutation(count)
    again = find_label_issues(probabilities[order], labels[order])
    assert ((doubts.scores >= 0) & (doubts.scores <= 1)).all()
    assert (doubts.suggestions != labels).all()
    assert again.scores == pytest.approx(doubts.scores[order])
    assert (again.flagged == doubts.flagged[order]).all()


@given(st.integers(0, 1000), st.integers(5, 80))
def test_folds_keep_copies_together_and_classes_apart(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    groups = random.integers(0, max(2, count // 2), count).tolist()
    of_group = {group: int(random.integers(0, 3)) for group in set(groups)}
    labels = np.array([of_group[group] for group in groups])
    folds = draw_folds(labels, groups, seed)
    for group in set(groups):
        assert len({fold for fold, other in zip(folds.tolist(), groups, strict=True) if other == group}) == 1
    for label in set(labels.tolist()):
        own = {group for group, other in zip(groups, labels.tolist(), strict=True) if other == label}
        assert len(set(folds[labels == label].tolist())) == min(5, len(own))


def test_probes_answer_for_pictures_that_they_have_not_seen() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    embeddings = (random.normal(0, 1, (300, 20)) + 3 * np.eye(20)[labels]).astype(np.float32)
    folds = draw_folds(labels, range(300), 0)
    logits, penalty = hold_out(embeddings, labels, folds, 3)
    assert (logits.argmax(1) == labels).mean() > 0.9
    assert penalty > 0
    chance = random.integers(0, 3, 300)  # labels that mean nothing can't be known of pictures held out
    assert (hold_out(embeddings, chance, folds, 3)[0].argmax(1) == chance).mean() < 0.5


def test_what_does_not_count_is_not_learnt() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    embeddings = (random.normal(0, 1, (200, 5)) + 3 * np.eye(5)[labels]).astype(np.float32)
    spoilt, weights = labels.copy(), np.ones(200, np.float32)
    spoilt[:40], weights[:40] = 1, 0
    folds = draw_folds(spoilt, range(200), 0)
    logits, _ = hold_out(embeddings, spoilt, folds, 2, weights)
    assert (logits[:40].argmax(1) == 0).mean() > 0.9


def test_outliers_are_far_from_everything() -> None:
    random = np.random.default_rng(0)
    embeddings = (random.normal(0, 0.2, (400, 16)) + np.eye(16)[random.integers(0, 3, 400)]).astype(np.float32)
    embeddings[0] = 0
    embeddings[0, 9] = 1
    nearness = knn_similarity(embeddings, embeddings)
    found = find_outliers(nearness)
    assert found.scores.argmax() == 0
    assert (found.scores >= 0.5).sum() <= 5
