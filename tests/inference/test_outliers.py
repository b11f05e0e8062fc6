"""The score behind "none of these"."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from belvedere.inference.uncertainty.ood import (
    OODScorer,
    fit_outlier_score,
    fit_quantiles,
    score_outliers,
    to_percentile,
)
from belvedere.training.networks import find_network
from belvedere.training.onnx_export import Graph

CENTRES = np.array([[4.0, 0, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0], [0, 0, 4, 0, 0, 0]])


def draw(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Embeddings of three classes, their labels, and logits of a layer that knows the centres."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = (CENTRES[labels] + random.normal(0, 0.7, (count, 6))).astype(np.float32)
    return values, labels.astype(np.int64), (values @ CENTRES.T / 2).astype(np.float32)


def fit() -> OODScorer:
    values, labels, _ = draw(600, 0)
    held, _, logits = draw(300, 1)
    return fit_outlier_score(values, labels, held, logits)


def test_what_lies_elsewhere_scores_higher_than_what_was_held_out() -> None:
    rule = fit()
    values, _, logits = draw(300, 2)
    strange = np.random.default_rng(3).normal(0, 1.5, (300, 6)).astype(np.float32)
    inside = score_outliers(rule, values, logits)
    outside = score_outliers(rule, strange, (strange @ CENTRES.T / 2).astype(np.float32))
    assert np.mean(outside > np.quantile(inside, 0.95)) > 0.8


def test_as_many_true_pictures_are_kept_as_asked_for() -> None:
    rule = fit()
    held, _, logits = draw(2000, 4)
    quantiles = fit_quantiles(score_outliers(rule, held, logits))
    new, _, new_logits = draw(2000, 5)
    ranks = to_percentile(score_outliers(rule, new, new_logits), quantiles)
    for rate in (0.5, 0.9, 0.95):
        assert np.mean(ranks <= rate) == pytest.approx(rate, abs=0.03)
    assert to_percentile(np.array([-1e9, 1e9]), quantiles).tolist() == [0, 1]
    beyond = to_percentile(quantiles[-1] + np.array([0.0, 0.1, 1, 10]), quantiles)
    assert (np.diff(beyond) > 0).all()  # the stranger one has the higher rank
    assert 0.95 < beyond[0] < beyond[-1] < 1


def test_a_class_that_nothing_is_known_of_has_no_distance() -> None:
    values, labels, _ = draw(600, 0)
    held, _, logits = draw(300, 1)
    rule = fit_outlier_score(values[labels < 2], labels[labels < 2], held, logits)
    inside, outside = (score_outliers(rule, held[group], logits[group]) for group in (held[:, 2] < 2, held[:, 2] > 2))
    assert np.isfinite([*inside, *outside]).all()
    assert np.median(outside) > np.quantile(inside, 0.9)


def test_of_too_few_pictures_nothing_is_said() -> None:
    assert fit_quantiles(np.arange(29.0)) == ()
    assert len(fit_quantiles(np.arange(30.0))) > 2


@pytest.mark.parametrize("count", [0, 512])
def test_the_graph_scores_as_numpy_does(count: int) -> None:
    network = find_network("compact-small").create(3).eval()
    pictures = torch.randint(0, 256, (60, 48, 48, 3), dtype=torch.uint8)
    with torch.inference_mode():
        values = network.embed(pictures.permute(0, 3, 1, 2).float())
        logits = network.classify(values)
        rule = fit_outlier_score(values.numpy(), np.arange(60) % 3, values.numpy(), logits.numpy(), count)
        score = Graph(network, 1.0, rule).eval()(pictures)[4]
    expected = score_outliers(rule, values.numpy(), logits.numpy())
    assert score.numpy() == pytest.approx(expected, rel=1e-3, abs=1e-2)
    assert len(rule.neighbours) == min(count, 60)
