"""Split conformal prediction: the rank of the threshold, the scores and the sets."""

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from belvedere.inference.uncertainty.conformal import COVERAGE, aps_scores, fit_conformal_threshold, prediction_sets

# Wilks (1941): the number of images from which on the second, third, ... highest score covers 95% with 95% confidence.
WILKS = (59, 93, 124, 153, 181)


def draw(count: int, seed: int, classes: int = 5) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw probabilities, some of them high and some of them even, and labels by them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1, (count, classes)) * random.uniform(0.5, 3, (count, 1))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True), labels.astype(np.int64)


def coverage(threshold: float, seed: int) -> float:
    probabilities, labels = draw(5000, seed)
    return float(prediction_sets(probabilities, threshold)[np.arange(5000), labels].mean())


def with_scores(count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities of two classes and labels whose scores are 0.501, 0.502, ... in an order by chance."""
    likelier = np.random.default_rng(count).permutation(0.5 + np.arange(1, count + 1) / 1000)
    return np.stack([likelier, 1 - likelier], 1), np.ones(count, np.int64)


def threshold_from_top(count: int) -> int | None:
    """How many scores are above the threshold; None where there is none."""
    threshold = fit_conformal_threshold(*with_scores(count))
    return None if threshold is None else count - round((threshold - 0.5) * 1000)


def test_rank_of_the_threshold_is_that_of_wilks() -> None:
    assert threshold_from_top(58) is None  # 0.95^58 = 0.051: even the highest score is not enough
    for above, count in enumerate(WILKS):
        assert threshold_from_top(count) == above
    for above, count in enumerate(WILKS[1:]):
        assert threshold_from_top(count - 1) == above


@given(st.integers(1, 200))
def test_rank_is_the_smallest_that_keeps_the_promise(count: int) -> None:
    """The score of rank r covers too little if r or more scores are below the 95% quantile: with 5% at most."""
    exactly = [Fraction(math.comb(count, hits) * 19**hits, 20**count) for hits in range(count + 1)]
    failures = [*accumulate(reversed(exactly))][-2::-1]  # of rank 1, 2, ...
    safe = [rank for rank, probability in enumerate(failures, 1) if probability <= Fraction(1, 20)]
    assert threshold_from_top(count) == (count - safe[0] if safe else None)


def test_score_is_the_probability_of_all_likelier_classes() -> None:
    assert aps_scores(np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])) == pytest.approx(
        np.array([[0.8, 0, 0.5], [0, 0.9, 0.7]])
    )
    assert aps_scores(np.array([[0.25, 0.25, 0.5]]))[0].tolist() == [0.5, 0.75, 0]  # the first of equals is likelier
    assert aps_scores(np.array([[0.25, 0.75]], np.float32)).dtype == np.float64


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_scores_are_those_of_a_sum_over_likelier_classes(weights: list[int]) -> None:
    probabilities = np.array(weights) / sum(weights)
    for index, score in enumerate(aps_scores(probabilities[None])[0]):
        likelier = [
            each
            for other, each in enumerate(probabilities)
            if each > probabilities[index] or (each == probabilities[index] and other < index)
        ]
        assert score == pytest.approx(math.fsum(likelier))


def test_set_holds_the_classes_up_to_the_threshold() -> None:
    probabilities = np.array([[0.5, 0.25, 0.125, 0.125]])  # scores 0, 0.5, 0.75, 0.875
    for threshold, size in [(0.0, 1), (0.4999, 1), (0.5, 2), (0.75, 3), (0.874, 3), (0.875, 4)]:
        assert prediction_sets(probabilities, threshold)[0].tolist() == [index < size for index in range(4)]


@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_sets_hold_the_most_probable_class_and_grow_with_the_threshold(seed: int, first: float, second: float) -> None:
    probabilities, _ = draw(20, seed)
    small, large = (prediction_sets(probabilities, each) for each in sorted((first, second)))
    assert small[np.arange(20), probabilities.argmax(1)].all()
    assert (large | ~small).all()


def test_coverage_holds_for_nearly_every_draw_of_calibration_images() -> None:
    found = []
    for seed in range(60):
        threshold = fit_conformal_threshold(*draw(400, seed))
        assert threshold is not None
        found.append(coverage(threshold, 1000 + seed))
    assert np.mean(np.array(found) >= COVERAGE - 0.005) >= 0.9  # 5,000 are counted: half a point is chance
    assert np.mean(found) < COVERAGE + 0.025  # sets are not trivially large


def test_against_mapie() -> None:
    """MAPIE's adaptive sets on the same numbers: ours reach the coverage with sets that are no larger."""
    pytest.importorskip("mapie", reason="MAPIE is not installed")
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """A classifier whose inputs are its probabilities."""

        def fit(self, values: NDArray[np.float64], labels: NDArray[np.int64]) -> "Given":
            self.classes_ = np.arange(5)
            self.fitted_ = True
            return self

        def predict_proba(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
            return values

        def predict(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
            return np.asarray(values.argmax(1))

    fitted_on, test = draw(3000, 7), draw(5000, 8)
    peer = SplitConformalClassifier(
        Given().fit(*fitted_on), confidence_level=COVERAGE, conformity_score="aps", prefit=True
    )
    peer.conformalize(*fitted_on)
    _, theirs = peer.predict_set(test[0], conformity_score_params={"include_last_label": True})
    threshold = fit_conformal_threshold(*fitted_on)
    assert threshold is not None
    ours = prediction_sets(test[0], threshold)
    rows = np.arange(5000)
    assert theirs[rows, test[1], 0].mean() >= COVERAGE - 0.01
    assert ours[rows, test[1]].mean() >= COVERAGE - 0.005
    assert ours.sum(1).mean() <= theirs[..., 0].sum(1).mean()
