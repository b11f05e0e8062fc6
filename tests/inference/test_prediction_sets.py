"""Sets that hold the true class as often as promised."""

import numpy as np
import pytest
from numpy.typing import NDArray

from belvedere.inference.uncertainty.conformal import COVERAGE, aps_scores, choose_sets, fit_conformal_threshold


def draw(count: int, seed: int, classes: int = 5) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities, sure for some and not for others, and labels drawn by them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1, (count, classes)) * random.uniform(0.5, 3, (count, 1))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True), labels.astype(np.int64)


def coverage(mass: float, seed: int) -> float:
    probabilities, labels = draw(5000, seed)
    return float(choose_sets(probabilities, mass)[np.arange(5000), labels].mean())


def test_the_promise_is_kept_whichever_photographs_it_was_fitted_on() -> None:
    found = []
    for seed in range(60):
        mass = fit_conformal_threshold(*draw(400, seed))
        assert mass is not None
        found.append(coverage(mass, 1000 + seed))
    assert np.mean(np.array(found) >= COVERAGE - 0.005) >= 0.9  # 5,000 are counted: half a point is chance
    assert np.mean(found) < COVERAGE + 0.025  # and not by sets that hold everything


def test_a_sure_picture_has_a_small_set_and_a_doubtful_one_a_large() -> None:
    mass = fit_conformal_threshold(*draw(2000, 0))
    assert mass is not None
    sizes = choose_sets(np.array([[0.97, 0.01, 0.01, 0.01], [0.4, 0.3, 0.2, 0.1]]), mass).sum(1)
    assert sizes[0] == 1
    assert sizes[1] >= 3


def test_the_likeliest_class_is_always_in() -> None:
    probabilities, _ = draw(200, 3)
    assert choose_sets(probabilities, 0.0)[np.arange(200), probabilities.argmax(1)].all()
    assert choose_sets(probabilities, 0.0).sum() == 200


def test_of_too_few_photographs_nothing_is_promised() -> None:
    assert fit_conformal_threshold(*draw(58, 0)) is None  # 0.95^58 > 0.05: even all of them would not do
    assert fit_conformal_threshold(*draw(100, 0)) is not None


def test_mass_of_likelier_classes() -> None:
    assert aps_scores(np.array([[0.2, 0.5, 0.3]]))[0] == pytest.approx([0.8, 0, 0.5])
    assert aps_scores(np.array([[0.5, 0.5]]))[0] == pytest.approx([0, 0.5])  # of equals the first is the likelier


def test_against_mapie() -> None:
    """MAPIE's adaptive sets on the same numbers: ours keep the promise with sets that are no larger."""
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
    mass = fit_conformal_threshold(*fitted_on)
    assert mass is not None
    ours = choose_sets(test[0], mass)
    rows = np.arange(5000)
    assert theirs[rows, test[1], 0].mean() >= COVERAGE - 0.01
    assert ours[rows, test[1]].mean() >= COVERAGE - 0.005
    assert ours.sum(1).mean() <= theirs[..., 0].sum(1).mean()
