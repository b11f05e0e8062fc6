"""Weights of classes against scikit-learn and by hand, and balanced orders."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight

from belvedere.training.balancing import BETA, class_weights, epoch_order, probe_weights, weighted_mean
from belvedere.training.linear_probe import fit_probe
from belvedere.training.recipe_config import choose_recipe
from belvedere.training.recipes import RECIPES

LABELS = np.repeat([0, 1, 2], [60, 30, 10]).astype(np.int64)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert class_weights(LABELS, 3, "balanced") == pytest.approx(expected)


@pytest.mark.parametrize("method", ["balanced", "effective"])
def test_weights_have_the_mean_1_over_the_images(method: str) -> None:
    weights = class_weights(LABELS, 3, method)
    assert weights is not None
    assert weights[LABELS].mean() == pytest.approx(1, abs=1e-6)
    assert weights[0] < weights[1] < weights[2]


def test_effective_weights_follow_the_effective_number() -> None:
    labels = np.repeat([0, 1], [1000, 50]).astype(np.int64)
    weights = class_weights(labels, 2, "effective")
    assert weights is not None
    assert weights[1] / weights[0] == pytest.approx((1 - BETA**1000) / (1 - BETA**50), rel=1e-5)


def test_no_weights() -> None:
    assert class_weights(LABELS, 3, "none") is None
    assert probe_weights(LABELS, 3, RECIPES["probe"]) is None


def test_sampling_weights_a_probe() -> None:
    by_sampling = probe_weights(LABELS, 3, choose_recipe("probe", sampling="balanced"))
    assert by_sampling == pytest.approx(probe_weights(LABELS, 3, choose_recipe("probe", class_weighting="balanced")))


def test_uniform_order_is_a_permutation() -> None:
    rows = epoch_order(np.random.default_rng(0), LABELS, 200, "uniform")
    assert (rows == np.random.default_rng(0).permutation(200)).all()


@pytest.mark.parametrize("size", [100, 300])
def test_balanced_order_has_as_many_of_each_class(size: int) -> None:
    rows = epoch_order(np.random.default_rng(0), LABELS, size, "balanced")
    assert rows.shape == (size,)
    assert rows.max() < size
    counts = np.bincount(LABELS[rows % 100])
    assert counts.max() - counts.min() <= 1
    for label in range(3):  # images of a class occur about equally often
        images = np.bincount(rows[LABELS[rows % 100] == label] % 100, minlength=100)[label == LABELS]
        assert images.max() - images.min() <= size // 100


def test_balanced_orders_differ_by_epoch_and_follow_the_seed() -> None:
    first, second = np.random.default_rng(3), np.random.default_rng(3)
    orders = [epoch_order(first, LABELS, 100, "balanced") for _ in range(2)]
    assert (orders[0] != orders[1]).any()
    assert all((epoch_order(second, LABELS, 100, "balanced") == order).all() for order in orders)


def test_weighted_mean() -> None:
    losses, labels = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 1, 1])
    assert float(weighted_mean(losses, labels, torch.tensor([0.5, 2.0]))) == pytest.approx((0.5 + 4 + 8) / 3)


def test_a_weighted_probe_is_the_minimum_that_scikit_learn_finds() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [250, 50]).astype(np.int64)
    points = (random.normal(0, 1, (300, 5)) + labels[:, None]).astype(np.float32)
    names = [str(number) for number in range(300)]
    weights = class_weights(labels, 2, "balanced")
    probe = fit_probe(points, labels, names, 2, seed=0, class_weights=weights)
    scaled = (points - points.mean(0)) / points.std(0)
    theirs = LogisticRegression(C=2 / (probe.penalty * 300), tol=1e-8, max_iter=2000, class_weight="balanced")
    expected = theirs.fit(scaled, labels).decision_function(scaled)
    logits = points @ probe.weight.T + probe.bias
    assert logits[:, 1] - logits[:, 0] == pytest.approx(expected, abs=0.02)
    plain = fit_probe(points, labels, names, 2, seed=0)
    assert (logits.argmax(1) == 1).sum() > ((points @ plain.weight.T + plain.bias).argmax(1) == 1).sum()
