"""Metrics by hand and against scikit-learn: calibration, selective accuracy, prediction sets, tags, OOD."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from belvedere.evaluation.metrics import (
    average_precision,
    compute_metrics,
    ood_metrics,
    prediction_set_metrics,
    reliability,
    roc_auc,
    selective_accuracy,
    tag_metrics,
)
from belvedere.inference.uncertainty.conformal import COVERAGE
from belvedere.types.evaluation import Confusion, PredictionSetMetrics
from belvedere.types.prediction import Prediction

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=3, max_size=40)


@given(SCORES)
def test_ranking_metrics_are_scikit_learns(scores: list[float]) -> None:
    values = np.array(scores)
    truth = np.random.default_rng(len(scores)).random(len(scores)) < 0.4
    truth[0], truth[1] = True, False
    assert average_precision(values, truth) == pytest.approx(average_precision_score(truth, values))
    assert roc_auc(values[~truth], values[truth]) == pytest.approx(roc_auc_score(truth, values))


def test_average_precision_by_hand() -> None:
    assert average_precision(np.array([0.1, 0.9]), np.array([False, False])) is None
    # Ranks 1, 2 and 4 are true: precisions 1, 1 and 3/4.
    scores, truth = np.array([0.2, 0.9, 0.4, 0.6]), np.array([True, True, False, True])
    assert average_precision(scores, truth) == pytest.approx((1 + 1 + 3 / 4) / 3)
    # One rank of three equal scores, of which two are true; then the last.
    tied, true = np.array([0.5, 0.5, 0.5, 0.1]), np.array([False, True, True, True])
    assert average_precision(tied, true) == pytest.approx(2 / 3 * 2 / 3 + 1 / 3 * 3 / 4)


def test_roc_auc_by_hand() -> None:
    # Of 2 * 3 pairs: 0.5 is over one of three and equal to one, 0.9 over all three.
    assert roc_auc(np.array([0.5, 0.1, 0.7]), np.array([0.5, 0.9])) == pytest.approx((1 + 0.5 + 3) / 6)
    assert roc_auc(np.array([0.0]), np.array([1.0])) == 1
    assert roc_auc(np.array([1.0]), np.array([0.0])) == 0


def test_reliability_by_hand() -> None:
    """Bins of 1/15, closed above: 0.6 is 9/15 and in the ninth, 0.61 in the tenth, 1 in the last."""
    probabilities = np.array([[0.6, 0.4], [0.39, 0.61], [0.35, 0.65], [1.0, 0.0]])
    found = reliability(np.array([0, 0, 1, 1]), probabilities)
    least = float(np.finfo(np.float32).eps)
    assert found.log_loss == pytest.approx(-np.log([0.6, 0.39, 0.65, least]).mean())
    filled = {
        index: (each.count, each.confidence, each.accuracy) for index, each in enumerate(found.bins) if each.count
    }
    assert filled == {
        8: (1, 0.6, 1.0),
        9: (2, pytest.approx(0.63), 0.5),
        14: (1, 1.0, 0.0),
    }
    assert found.ece == pytest.approx((0.4 + 2 * 0.13 + 1) / 4)
    assert [each.low for each in found.bins] == pytest.approx(np.arange(15) / 15)
    assert [each.high for each in found.bins] == pytest.approx(np.arange(1, 16) / 15)
    assert {(each.confidence, each.accuracy) for each in found.bins if not each.count} == {(0.0, 0.0)}


def test_a_confidence_of_zero_is_in_the_first_bin() -> None:
    assert reliability(np.array([0]), np.array([[0.0, 0.0]])).bins[0].count == 1


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_bins_hold_every_image_once(rows: list[tuple[float, bool]]) -> None:
    probabilities = np.array([[value, 1 - value] for value, _ in rows])
    found = reliability(np.array([int(label) for _, label in rows]), probabilities)
    assert sum(each.count for each in found.bins) == len(rows)
    assert sum(each.count * each.confidence for each in found.bins) == pytest.approx(probabilities.max(1).sum())
    assert all(each.low <= each.confidence <= each.high for each in found.bins if each.count)


def test_selective_accuracy_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
    right = np.array([True] * 8 + [False, False])
    points = {point.coverage: point for point in selective_accuracy(confidence, right)}
    assert (points[1.0].count, points[1.0].accuracy, points[1.0].threshold) == (10, 0.8, 0.05)
    assert (points[0.8].count, points[0.8].accuracy, points[0.8].threshold) == (8, 1.0, 0.2)
    order = [9, 3, 0, 7, 5, 1, 8, 2, 6, 4]
    assert selective_accuracy(confidence[order], right[order]) == tuple(points.values())
    [*_, half] = selective_accuracy(confidence[:1], right[8:9])
    assert (half.coverage, half.count, half.accuracy, half.threshold) == (0.5, 1, 0.0, 0.9)  # one image at least
    equal = selective_accuracy(np.full(4, 0.5), np.array([True, False, False, False]))
    assert [(point.count, point.accuracy) for point in equal] == [(4, 0.25)] * 3 + [(3, 1 / 3)] * 2 + [(2, 0.5)] * 2


def test_prediction_sets_by_hand() -> None:
    inside = np.array([[True, True, False], [False, True, False], [True, False, False]])
    found = prediction_set_metrics(inside, np.array([0, 1, 1]), 0.95)
    assert found.coverage == pytest.approx(2 / 3)
    assert found.mean_size == pytest.approx(4 / 3)
    assert found.per_class == (1.0, 0.5, None)
    assert found.target_coverage == 0.95


def test_tags_are_measured_as_scikit_learn_does() -> None:
    random = np.random.default_rng(0)
    present = random.random((60, 4)) < 0.4
    confidence = np.clip(0.6 * present + 0.5 * random.random((60, 4)), 0, 1)
    chosen = confidence > 0.5
    areas = np.where(present, 0.25, 0.0)
    areas[30:] = np.nan
    found = tag_metrics(chosen, confidence, np.where(chosen, 0.35, 0.0), present, areas)
    assert found.micro_f1 == pytest.approx(f1_score(present, chosen, average="micro"))
    assert found.macro_f1 == pytest.approx(f1_score(present, chosen, average="macro"))
    assert found.mean_average_precision == pytest.approx(average_precision_score(present, confidence))
    expected = np.abs(np.where(chosen, 0.35, 0.0)[:30] - areas[:30]).mean()
    assert found.area_mae == pytest.approx(expected)
    assert found.num_images == 60
    assert found.average_precision == pytest.approx(average_precision_score(present, confidence, average=None))
    nowhere = np.zeros((60, 4), bool)
    nothing = tag_metrics(nowhere, confidence, np.zeros((60, 4)), nowhere, np.full((60, 4), np.nan))
    assert (nothing.micro_f1, nothing.macro_f1, nothing.mean_average_precision) == (None, None, None)
    assert (nothing.area_mae, nothing.average_precision) == (None, (None,) * 4)


def test_tags_by_hand() -> None:
    """Of three classes the last is neither tagged nor there: it counts in no mean."""
    present = np.array([[True, False, False], [True, True, False]])
    chosen = np.array([[True, True, False], [False, True, False]])
    confidence = np.array([[0.9, 0.8, 0.1], [0.3, 0.7, 0.2]])
    areas = np.array([[1.0, 0.0, 0.0], [np.nan, np.nan, np.nan]])
    found = tag_metrics(chosen, confidence, np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0]]), present, areas)
    assert found.average_precision == (1.0, 0.5, None)
    assert found.mean_average_precision == 0.75
    assert found.micro_f1 == pytest.approx(2 * 2 / (3 + 3))
    assert found.macro_f1 == pytest.approx(2 / 3)
    assert found.area_mae == pytest.approx((0.3 + 0.3 + 0) / 3)


def test_metrics_of_predictions_by_hand() -> None:
    """No image is labeled c, which is predicted twice."""
    rows = [
        ("a", (0.7, 0.2, 0.1), "a"),
        ("a", (0.3, 0.6, 0.1), "ba"),
        ("b", (0.1, 0.2, 0.7), "c"),
        ("b", (0.2, 0.1, 0.7), "cb"),
        ("b", (0.2, 0.5, 0.3), "bc"),
    ]
    predictions = [
        Prediction(str(number), label=label, probability_values=values, prediction_set=tuple(found))
        for number, (label, values, found) in enumerate(rows)
    ]
    metrics = compute_metrics(predictions, "abc", split="test")
    assert metrics.accuracy == 2 / 5
    assert metrics.confusion_matrix.tolist() == [[1, 1, 0], [0, 1, 2], [0, 0, 0]]
    assert metrics.confusions == (Confusion("b", "c", 2, 2 / 3), Confusion("a", "b", 1, 1 / 2))
    assert metrics.macro_f1 == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert metrics.prediction_sets == PredictionSetMetrics(COVERAGE, 4 / 5, 8 / 5, (1.0, 2 / 3, None))
    assert metrics.selective_accuracy == selective_accuracy(
        np.array([0.7, 0.6, 0.7, 0.7, 0.5]), np.array([True, False, False, False, True])
    )
    assert metrics.num_none_of_these is None
    without = compute_metrics([*predictions, Prediction("5", label="a", probability_values=(1, 0, 0))], "abc", split="")
    assert without.prediction_sets is None


def test_ood_by_hand() -> None:
    inside, outside = np.linspace(0, 1, 101), np.array([0.5, 0.97, 0.99, 1.0])
    found = ood_metrics(inside, outside, np.full(101, 0.9), np.full(4, 0.9), threshold=0.97)
    assert found.num_images == 4
    assert found.auroc == pytest.approx((50.5 + 97.5 + 99.5 + 100.5) / 404)  # 0.5 is over 50 and equal to one, ...
    assert found.fpr_at_95_tpr == 0.25  # 95% of the others are at 0.95 or below
    assert found.ood_acceptance_rate == 0.5  # the limit itself is accepted
    assert found.id_acceptance_rate == pytest.approx(98 / 101)
    assert found.msp_auroc == 0.5
    assert found.msp_fpr_at_95_tpr == 1.0
    ties = ood_metrics(np.arange(21.0), np.array([19.0, 20.0]), np.ones(21), np.ones(2), threshold=0)
    assert ties.fpr_at_95_tpr == 0.5  # 95% are at 19 or below, itself included
    # By the largest probability: 95% of the others have 0.05 or more, and so has one of these four.
    baseline = ood_metrics(inside, outside, inside, np.array([0.01, 0.02, 0.04, 0.06]), threshold=0.5)
    assert baseline.msp_fpr_at_95_tpr == 0.25
    assert baseline.msp_auroc == pytest.approx((99.5 + 98.5 + 96.5 + 94.5) / 404)
    assert baseline.ood_acceptance_rate == 0.25
