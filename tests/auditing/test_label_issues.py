"""Label issues: thresholds, weights, order and flags, on probabilities that are made up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from belvedere.auditing import label_issues
from belvedere.auditing.label_issues import (
    class_means,
    confident_class,
    confusion_weights,
    find_label_issues,
    merge_extra_labels,
)
from belvedere.auditing.linear_probe import cross_val_logits
from belvedere.auditing.outliers import find_outliers, knn_similarity
from belvedere.data.splits import stratified_group_folds
from belvedere.inference.uncertainty.temperature_scaling import softmax

CLASSES = 4


def answers(true: NDArray[np.int64], sure: float, seed: int) -> NDArray[np.float32]:
    """Probabilities of a network that is right mostly."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1, (len(true), CLASSES)) + sure * np.eye(CLASSES)[true]
    return softmax(logits.astype(np.float32))


def test_thresholds_are_means_of_the_own_class() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], np.float32)
    thresholds = class_means(probabilities, np.array([0, 0, 1]))
    assert thresholds == pytest.approx([0.7, 0.9])
    assert confident_class(probabilities, thresholds).tolist() == [0, -1, 1]
    assert class_means(probabilities, np.array([0, 0, 0]))[1] == 2  # no image of it: never reached


def test_planted_mistakes_come_first_and_are_flagged() -> None:
    true = np.random.default_rng(0).integers(0, CLASSES, 1200)
    labels = true.copy()
    labels[::40] = (labels[::40] + 1) % CLASSES
    issues = find_label_issues(answers(true, 6, 1), labels)
    wrong = labels != true
    first = np.argsort(-issues.scores)[: wrong.sum()]
    assert wrong[first].mean() > 0.9
    assert issues.flagged[wrong].mean() > 0.9
    assert issues.flagged[~wrong].mean() < 0.01
    assert (issues.suggestions[wrong & issues.flagged] == true[wrong & issues.flagged]).mean() > 0.95


@pytest.mark.parametrize("each", [10, 15, 100])
def test_mistakes_are_flagged_by_networks_that_are_never_sure(each: int) -> None:
    random = np.random.default_rng(each)
    true = np.repeat([0, 1], each)
    labels = true.copy()
    labels[:2] = 1
    likely = np.clip(random.normal(0.83, 0.03, len(true)), 0, 0.89)  # of the class in the image
    second = np.where(true == 1, likely, 1 - likely)
    issues = find_label_issues(np.stack([1 - second, second], axis=1), labels)
    assert np.flatnonzero(issues.flagged).tolist() == [0, 1]


def test_nothing_is_flagged_where_networks_tell_nothing() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        probabilities = softmax(random.normal(0, 0.5, (40, 2)).astype(np.float32))
        assert not find_label_issues(probabilities, random.integers(0, 2, 40)).flagged.any()


def test_what_else_an_image_is_labeled_with_counts_as_its_label() -> None:
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
def test_scores_are_fractions_and_no_order_of_images_matters(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(0, 3, (count, CLASSES)).astype(np.float32))
    labels = random.integers(0, CLASSES, count)
    issues, order = find_label_issues(probabilities, labels), random.permutation(count)
    again = find_label_issues(probabilities[order], labels[order])
    assert ((issues.scores >= 0) & (issues.scores <= 1)).all()
    assert (issues.suggestions != labels).all()
    assert again.scores == pytest.approx(issues.scores[order])
    assert (again.flagged == issues.flagged[order]).all()


# By hand


def logistic(*log_odds: float) -> NDArray[np.float64]:
    """Return probabilities (N, 2) whose first class has these log-odds."""
    first = 1 / (1 + np.exp(-np.array(log_odds)))
    return np.stack([first, 1 - first], 1)


def planted(
    own: int, wrong: int, rare: int, below: int = 0, clean: tuple[int, int] = (400, 200)
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Probabilities and labels of three classes whose confident images are counted by hand.

    Images of the first class have probabilities evenly spread from 0.6 to 0.9. Of those that are labeled as the second
    class, `wrong` are as probable as its confident images and `below` less so; `rare` are labeled as the third. All
    images of the others have the same probability, so all of them are confident.

    Returns:
        Probabilities, labels, and the fraction of the first class that is confident.
    """
    fraction = min(max(0.1, 200 / own), 1 / 3)
    bound = 0.9 - 0.3 * fraction
    first = [*np.linspace(0.6, 0.9, own), *[bound + 1e-6] * (wrong + rare), *[bound - 1e-6] * below]
    labels = np.repeat([0, 1, 2, 1, 1, 2], [own, wrong, rare, below, *clean])
    of_first = np.stack([first, *[(1 - np.array(first)) / 2] * 2], 1)
    others = np.repeat([[0.05, 0.9, 0.05], [0.05, 0.05, 0.9]], clean, 0)
    return np.concatenate([of_first, others]), labels, fraction


@pytest.mark.parametrize(("own", "confident"), [(300, 100), (1000, 200), (4000, 400)])
def test_weights_of_confusions_by_hand(own: int, confident: int) -> None:
    """A third of a class is confident, or 200 images if they are fewer, but a tenth at least."""
    probabilities, labels, fraction = planted(own, wrong=40, rare=6, below=100)
    assert confident == round(own * fraction)
    # Confident labels: (confident, 40, 6), (0, 400, 0), (0, 0, 200). The first two classes are often confused.
    first, second, third = confident + 46, 400, 200
    expected = (first + second) * 46 / (2 * (first + second + third))
    assert expected + 4 * expected**0.5 + 3 < 40
    rare_rate = (6 + 1) / (first + second + 2 * third + 1)
    both = 40 / (first + second)
    weights = confusion_weights(probabilities, labels)
    assert weights[0, 1] == pytest.approx((40 + 50 * both) / (first + 50) / rare_rate)
    assert weights[1, 0] == pytest.approx(max(50 * both / (second + 50) / rare_rate, 1))
    assert [weights[row, column] for row, column in [(0, 2), (2, 0), (1, 2), (2, 1), (0, 0), (1, 1), (2, 2)]] == [1] * 7


def test_weights_are_bounded() -> None:
    """By 50 above, by 1 below: the way that never happens among 4,000 is no less likely than usual."""
    probabilities, labels, _ = planted(300, wrong=400, rare=0, clean=(4000, 200))
    weights = confusion_weights(probabilities, labels)
    assert weights[0, 1] == 50
    probabilities, labels, _ = planted(300, wrong=60, rare=30, clean=(4000, 200))
    assert confusion_weights(probabilities, labels)[1, 0] == 1


@pytest.mark.parametrize(("wrong", "frequent"), [(24, False), (26, True)])
def test_confusion_is_frequent_above_four_deviations_and_three_images(wrong: int, frequent: bool) -> None:
    """Of 300 confident images of two classes, 100 of a third, 24 confusions: 9 are expected, 9 + 4 * 3 + 3 = 24."""
    probabilities, labels, _ = planted(300, wrong, rare=0, clean=(200 - wrong, 100))
    assert (confusion_weights(probabilities, labels)[0, 1] > 1) == frequent


def test_classes_without_images_are_not_confused() -> None:
    probabilities = np.tile([[0.7, 0.2, 0.1]], (60, 1))
    assert (confusion_weights(probabilities, np.zeros(60, np.int64)) == 1).all()


def test_scores_and_suggestions_by_hand() -> None:
    probabilities = np.array([[0.2, 0.7, 0.1], [0.6, 0.1, 0.3], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]], np.float32)
    found = find_label_issues(probabilities, np.array([0, 0, 2, 2]))
    assert found.scores == pytest.approx([0.8, 0.4, 0.3, 0.8])
    assert found.suggestions.tolist() == [1, 2, 1, 0]
    assert found.probabilities == pytest.approx([0.7, 0.3, 0.2, 0.4])
    assert found.scores.dtype == found.probabilities.dtype == np.float64
    assert (found.weights == np.ones((3, 3))).all()


def test_scores_count_frequent_confusions_more() -> None:
    probabilities, labels, _ = planted(300, wrong=40, rare=6)
    found = find_label_issues(probabilities, labels)
    weights = confusion_weights(probabilities, labels)
    for row in (0, 300, 340, 346, 746):
        evidence = [probabilities[row, true] * weights[true, labels[row]] for true in range(3)]
        assert found.scores[row] == pytest.approx(1 - evidence[labels[row]] / sum(evidence))
        others = [value if true != labels[row] else -1 for true, value in enumerate(evidence)]
        assert found.suggestions[row] == np.argmax(others)
        assert found.probabilities[row] == probabilities[row, found.suggestions[row]]
    assert (found.weights == weights).all()


@pytest.mark.parametrize("weight", [0.5, 1.0, 1.01])
def test_label_of_a_frequent_confusion_is_flagged_where_the_other_class_has_its_mean(
    weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = np.ones((3, 3))
    weights[0, 1] = weight
    monkeypatch.setattr(label_issues, "confusion_weights", lambda *_: weights)
    first, second = [[0.55, 0.4, 0.05]] * 10, [[0.4, 0.55, 0.05]] * 10
    unsure = [[0.56, 0.39, 0.05], [0.54, 0.41, 0.05], [0.55, 0.40, 0.05]]  # the mean of the first class is 0.55
    probabilities = np.array([*first, *second, *unsure])
    found = find_label_issues(probabilities, np.array([0] * 10 + [1] * 13))
    assert np.flatnonzero(found.flagged).tolist() == ([20, 22] if weight > 1 else [])
    turned = find_label_issues(probabilities[:, [1, 0, 2]], np.array([1] * 10 + [0] * 13))
    assert not turned.flagged.any()  # true second, labeled first


def test_label_with_less_than_a_tenth_of_the_mean_is_flagged() -> None:
    """No log-odds decide here: those of the label are spread as widely as the others."""
    probabilities = np.array([[0.999] * 9 + [0.0915, 0.0895], [0.001] * 9 + [0.9085, 0.9105]]).T
    mean = (9 * 0.999 + 0.0915 + 0.0895) / 11
    assert 0.0895 / mean > 0.1
    low = probabilities.copy()
    low[10] = [0.08, 0.92]
    everything = np.zeros(11, np.int64)
    assert not find_label_issues(probabilities, everything).flagged.any()
    assert np.flatnonzero(find_label_issues(low, everything).flagged).tolist() == [10]


@pytest.mark.parametrize(("log_odds", "flagged"), [(-0.11, True), (-0.10, False), (0.2, False), (-9.0, True)])
def test_label_that_fits_the_other_labels_is_flagged(log_odds: float, flagged: bool) -> None:
    """Own log-odds are 2, the others' -2, both with the least deviation, 0.3.

    The logarithm of the ratio is (2 - x)^2 / 0.18 - (-2 - x)^2 / 0.18 = -8 x / 0.18, and above ln 100 for x < -0.1036.
    """
    probabilities = logistic(*[2.0] * 20, *[-2.0] * 20, log_odds)
    labels = np.array([0] * 20 + [1] * 20 + [0])
    # By the mean of its class the label would be flagged below 0.088, log-odds of -2.3.
    assert np.flatnonzero(find_label_issues(probabilities, labels).flagged).tolist() == [40] * flagged


@pytest.mark.parametrize(("log_odds", "flagged"), [(-0.53, True), (-0.515, False)])
def test_deviations_are_median_absolute_ones(log_odds: float, flagged: bool) -> None:
    """Own: 2 with 0.7413 = 1.4826 * 0.5. Others: -2 with 1.4826: half of them are 1 away.

    (x - 2)^2 / (2 * 0.5495) - (x + 2)^2 / (2 * 2.198) - ln(1.4826 / 0.7413) is ln 100 = 4.605 at x = -0.5234.
    """
    own, others = [1.5, 2.0, 2.5, 1.5, 2.5, 2.0, 2.5, 1.5], [-1.0, -2.0, -3.0, -1.0, -3.0, -2.0, -3.0, -1.0]
    probabilities = logistic(*own * 5, *others * 5, log_odds)
    labels = np.array([0] * 40 + [1] * 40 + [0])
    assert np.flatnonzero(find_label_issues(probabilities, labels).flagged[40:]).tolist() == [40] * flagged


@given(st.integers(0, 1000))
def test_copies_of_all_images_change_no_score(seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(0, 2, (12, CLASSES)))
    labels = random.integers(0, CLASSES, 12)
    twice = find_label_issues(np.repeat(probabilities, 2, 0), np.repeat(labels, 2))
    assert twice.scores == pytest.approx(np.repeat(find_label_issues(probabilities, labels).scores, 2))


@given(st.integers(0, 1000), st.integers(5, 80))
def test_folds_keep_copies_together_and_classes_apart(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    groups = random.integers(0, max(2, count // 2), count).tolist()
    of_group = {group: int(random.integers(0, 3)) for group in set(groups)}
    labels = np.array([of_group[group] for group in groups])
    folds = stratified_group_folds(labels, groups, seed)
    for group in set(groups):
        assert len({fold for fold, other in zip(folds.tolist(), groups, strict=True) if other == group}) == 1
    for label in set(labels.tolist()):
        own = {group for group, other in zip(groups, labels.tolist(), strict=True) if other == label}
        assert len(set(folds[labels == label].tolist())) == min(5, len(own))


def test_probes_answer_for_images_that_they_have_not_seen() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    embeddings = (random.normal(0, 1, (300, 20)) + 3 * np.eye(20)[labels]).astype(np.float32)
    folds = stratified_group_folds(labels, range(300), 0)
    logits, penalty = cross_val_logits(embeddings, labels, folds, 3)
    assert (logits.argmax(1) == labels).mean() > 0.9
    assert penalty > 0
    chance = random.integers(0, 3, 300)  # labels that mean nothing cannot be known of images held out
    assert (cross_val_logits(embeddings, chance, folds, 3)[0].argmax(1) == chance).mean() < 0.5


def test_what_does_not_count_is_not_trained() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    embeddings = (random.normal(0, 1, (200, 5)) + 3 * np.eye(5)[labels]).astype(np.float32)
    spoilt, weights = labels.copy(), np.ones(200, np.float32)
    spoilt[:40], weights[:40] = 1, 0
    folds = stratified_group_folds(spoilt, range(200), 0)
    logits, _ = cross_val_logits(embeddings, spoilt, folds, 2, weights)
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
