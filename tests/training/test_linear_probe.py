"""The probe: the minimum that another library finds, a strength that fits, folds that leak nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from belvedere.training.linear_probe import PENALTIES, draw_folds, fit_probe


def draw(count: int, noise: float, seed: int = 0, width: int = 12) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three clouds, of very different spreads in different directions."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    places = np.random.default_rng(9).normal(0, 1, (3, width))
    points = (places[labels] + random.normal(0, noise, (count, width))) * np.logspace(-2, 2, width) + 5
    return points.astype(np.float32), labels.astype(np.int64)


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_it_is_the_minimum_that_scikit_learn_finds() -> None:
    points, labels = draw(300, 1.5)
    probe = fit_probe(points, labels, names(300), 3, seed=0)
    scaled = (points - points.mean(0)) / points.std(0)
    theirs = LogisticRegression(C=1 / (probe.penalty * 300), tol=1e-8, max_iter=2000).fit(scaled, labels)
    expected = theirs.decision_function(scaled)
    found = points @ probe.weight.T + probe.bias
    assert found - found.mean(1, keepdims=True) == pytest.approx(expected - expected.mean(1, keepdims=True), abs=0.01)


def test_noise_wants_a_stronger_penalty() -> None:
    easy = fit_probe(*draw(600, 0.3), names(600), 3, seed=0)
    hard = fit_probe(*draw(600, 6.0), names(600), 3, seed=0)
    assert PENALTIES[-1] <= easy.penalty < hard.penalty
    assert (fit_probe(*draw(600, 0.3), names(600), 3, seed=0).weight == easy.weight).all()


def test_what_is_held_out_tells_the_accuracy_on_new_points() -> None:
    points, labels = draw(900, 2.5)
    probe = fit_probe(points, labels, names(900), 3, seed=0)
    assert probe.held_out is not None
    new, truth = draw(3000, 2.5, seed=1)
    expected = ((new @ probe.weight.T + probe.bias).argmax(1) == truth).mean()
    assert (probe.held_out.argmax(1) == labels).mean() == pytest.approx(expected, abs=0.04)
    assert probe.held_out.shape == (900, 3)


def test_copies_stay_in_one_fold_and_classes_in_all() -> None:
    labels = np.repeat([0, 1], [40, 20]).astype(np.int64)
    groups = [str(number // 2) for number in range(60)]
    folds = draw_folds(labels, groups, 0)
    assert folds is not None
    assert (folds[::2] == folds[1::2]).all()
    for label, each in ((0, 8), (1, 4)):
        assert np.bincount(folds[labels == label]).tolist() == [each] * 5
    again, other = draw_folds(labels, groups, 0), draw_folds(labels, groups, 1)
    assert again is not None
    assert other is not None
    assert (again == folds).all()
    assert (other != folds).any()


def test_few_images_make_few_folds_or_none() -> None:
    three = draw_folds(np.array([0, 0, 0, 1, 1, 1]), names(6), 0)
    assert three is not None
    assert three.max() == 2
    assert draw_folds(np.array([0, 1]), names(2), 0) is None
    single = draw_folds(np.array([0, 0, 1]), names(3), 0)  # the class with one cannot be held out, the other can
    assert single is not None
    assert sorted(single[:2].tolist()) == [0, 1]
    assert single[2] == -1
    points = np.array([[0, 1], [0, 2], [5, 0]], np.float32)
    probe = fit_probe(points, np.array([0, 0, 1]), names(3), 2, 0)
    assert probe.held_out is not None
    assert np.isnan(probe.held_out).all(1).tolist() == [False, False, True]
    assert (points @ probe.weight.T + probe.bias).argmax(1).tolist() == [0, 0, 1]
    assert fit_probe(points[1:], np.array([0, 1]), names(2), 2, 0).held_out is None


def test_a_value_that_never_changes_does_no_harm() -> None:
    points, labels = draw(90, 0.5)
    points[:, 3] = 7
    probe = fit_probe(points, labels, names(90), 3, 0)
    assert np.isfinite(probe.weight).all()
    assert ((points @ probe.weight.T + probe.bias).argmax(1) == labels).mean() > 0.9
