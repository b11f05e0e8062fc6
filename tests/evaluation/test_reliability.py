"""Figures for how far answers can be trusted, beside scikit-learn's where it has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from belvedere.evaluation.metrics import (
    average_precision,
    measure_outliers,
    measure_sets,
    measure_tags,
    roc_auc,
    selective_accuracy,
)

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=3, max_size=40)


@given(SCORES)
def test_ranking_figures_are_scikit_learns(scores: list[float]) -> None:
    values = np.array(scores)
    truth = np.random.default_rng(len(scores)).random(len(scores)) < 0.4
    truth[0], truth[1] = True, False
    assert average_precision(values, truth) == pytest.approx(average_precision_score(truth, values))
    assert roc_auc(values[~truth], values[truth]) == pytest.approx(roc_auc_score(truth, values))


def test_of_a_class_that_is_nowhere_there_is_no_precision() -> None:
    assert average_precision(np.array([0.1, 0.9]), np.array([False, False])) is None


def test_the_surest_are_answered_first() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
    right = np.array([True] * 8 + [False, False])
    points = {point.share: point for point in selective_accuracy(confidence, right)}
    assert (points[1.0].images, points[1.0].accuracy, points[1.0].confidence) == (10, 0.8, 0.05)
    assert (points[0.8].images, points[0.8].accuracy, points[0.8].confidence) == (8, 1.0, 0.2)


def test_sets_are_counted_by_class() -> None:
    inside = np.array([[True, True, False], [False, True, False], [True, False, False]])
    found = measure_sets(inside, np.array([0, 1, 1]), 0.95)
    assert found.coverage == pytest.approx(2 / 3)
    assert found.mean_size == pytest.approx(4 / 3)
    assert found.per_class == (1.0, 0.5, None)


def test_tags_are_scored_as_scikit_learn_does() -> None:
    random = np.random.default_rng(0)
    present = random.random((60, 4)) < 0.4
    confidence = np.clip(0.6 * present + 0.5 * random.random((60, 4)), 0, 1)
    chosen = confidence > 0.5
    areas = np.where(present, 0.25, 0.0)
    areas[30:] = np.nan
    found = measure_tags(chosen, confidence, np.where(chosen, 0.35, 0.0), present, areas)
    assert found.micro_f1 == pytest.approx(f1_score(present, chosen, average="micro"))
    assert found.macro_f1 == pytest.approx(f1_score(present, chosen, average="macro"))
    assert found.mean_average_precision == pytest.approx(average_precision_score(present, confidence))
    expected = np.abs(np.where(chosen, 0.35, 0.0)[:30] - areas[:30]).mean()
    assert found.share_error == pytest.approx(expected)


def test_outliers_beside_the_largest_probability() -> None:
    inside, outside = np.linspace(0, 1, 101), np.array([0.5, 0.97, 0.99, 1.0])
    found = measure_outliers(inside, outside, np.full(101, 0.9), np.full(4, 0.9), limit=0.98)
    assert found.accepted == 0.25
    assert found.accepted_by_model == 0.5
    assert found.kept_by_model == pytest.approx(99 / 101)
    assert found.baseline_auroc == 0.5
    assert found.baseline_accepted == 1.0
