"""The out-of-distribution score: its terms, its fit and its percentiles."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from belvedere.inference.model import Model
from belvedere.inference.uncertainty.ood import (
    OODScorer,
    fit_ood_scorer,
    fit_quantiles,
    ood_scores,
    to_percentile,
)
from belvedere.training.networks import find_network
from belvedere.training.onnx_export import export_graph
from belvedere.types.model import Preprocess

CENTERS = np.array([[4.0, 0, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0], [0, 0, 4, 0, 0, 0]])


def draw(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Embeddings of three classes, their labels, and logits of a layer that knows the centers."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = (CENTERS[labels] + random.normal(0, 0.7, (count, 6))).astype(np.float32)
    return values, labels.astype(np.int64), (values @ CENTERS.T / 2).astype(np.float32)


def fit() -> OODScorer:
    values, labels, _ = draw(600, 0)
    held, _, logits = draw(300, 1)
    return fit_ood_scorer(values, labels, held, logits)


def test_other_embeddings_score_higher_than_held_out_ones() -> None:
    rule = fit()
    values, _, logits = draw(300, 2)
    unlike = np.random.default_rng(3).normal(0, 1.5, (300, 6)).astype(np.float32)
    inside = ood_scores(rule, values, logits)
    outside = ood_scores(rule, unlike, (unlike @ CENTERS.T / 2).astype(np.float32))
    assert np.mean(outside > np.quantile(inside, 0.95)) > 0.8


def test_percentiles_keep_the_fraction_asked_for() -> None:
    rule = fit()
    held, _, logits = draw(2000, 4)
    quantiles = fit_quantiles(ood_scores(rule, held, logits))
    new, _, new_logits = draw(2000, 5)
    ranks = to_percentile(ood_scores(rule, new, new_logits), quantiles)
    for rate in (0.5, 0.9, 0.95):
        assert np.mean(ranks <= rate) == pytest.approx(rate, abs=0.03)
    assert to_percentile(np.array([-1e9, 1e9]), quantiles).tolist() == [0, 1]
    beyond = to_percentile(quantiles[-1] + np.array([0.0, 0.1, 1, 10]), quantiles)
    assert (np.diff(beyond) > 0).all()  # the more unlike one has the higher percentile
    assert 0.95 < beyond[0] < beyond[-1] < 1


def simple(**terms: float) -> OODScorer:
    """Return a scorer of two classes in the plane, of which only these terms count."""
    terms = {"quadratic": 0.0, "linear": 0.0, "offsets": 0.0, "energy_weight": 0.0, "knn_weight": 0.0} | terms
    return OODScorer(
        np.array([[1.0, 2.0], [0.0, 3.0]], np.float32) * np.float32(terms["quadratic"]),
        np.array([[1.0, 0.0], [0.0, -1.0]], np.float32) * np.float32(terms["linear"]),
        np.array([0.5, 0.0], np.float32) * np.float32(terms["offsets"]),
        terms["energy_weight"],
        np.repeat(np.eye(2, dtype=np.float32), [4, 10], 0),
        terms["knn_weight"],
    )


def test_terms_of_the_score_by_hand() -> None:
    """Of the embeddings (3, 4) and (0, 1) with logits (ln 3, 0) and (1000, 0)."""
    embeddings, logits = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32), np.array([[np.log(3), 0], [1000, 0]])

    def score(scorer: OODScorer) -> list[float]:
        return list(ood_scores(scorer, embeddings, logits.astype(np.float32)))

    assert score(simple(quadratic=1)) == pytest.approx([3 * 3 + 2 * 3 * 4 + 3 * 4 * 4, 3])
    assert score(simple(linear=1)) == pytest.approx([-4, -1])  # the nearer class: of 3 and -4, of 0 and -1
    assert score(simple(linear=1, offsets=100)) == pytest.approx([-4, -1])
    assert score(simple(linear=-1, offsets=-1)) == pytest.approx([-3.5, -0.5])
    assert score(simple(energy_weight=2)) == pytest.approx([-2 * np.log(4), -2000])
    # The ten nearest of (3, 4): all ten (0, 1), with the cosine 0.8; of (0, 1): the same, 1.
    assert score(simple(knn_weight=3)) == pytest.approx([-3 * 0.8, -3])
    assert score(simple(quadratic=1, energy_weight=2, knn_weight=3)) == pytest.approx(
        [81 - 2 * np.log(4) - 2.4, 3 - 2000 - 3]
    )
    eight = np.array([[4.0, 3.0]], np.float32)  # cosines 0.8 with four and 0.6 with ten: the mean of 4 and of 6
    assert ood_scores(simple(knn_weight=1), eight, logits[:1].astype(np.float32)) == pytest.approx([-0.68])


def test_null_scorer_scores_nothing() -> None:
    scorer = OODScorer.null(3, 5)
    assert (scorer.quadratic.shape, scorer.linear.shape, scorer.offsets.shape) == ((5, 5), (3, 5), (3,))
    assert scorer.reference_embeddings.shape == (0, 5)
    assert scorer.quadratic.dtype == scorer.linear.dtype == scorer.offsets.dtype == np.float32
    assert (scorer.energy_weight, scorer.knn_weight) == (0.0, 0.0)
    assert ood_scores(scorer, np.ones((2, 5), np.float32), np.ones((2, 3), np.float32)).tolist() == [0, 0]


def distances(values: NDArray[np.float64], labels: NDArray[np.int64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative Mahalanobis distance by its definition (Ren et al. 2021), with the same regularization."""

    def precision(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
        covariance = deviations.T @ deviations / len(deviations)
        covariance = covariance + np.eye(len(covariance)) * 0.01 * covariance.trace() / len(covariance)
        inverse: NDArray[np.float64] = np.linalg.inv(covariance)
        return inverse

    centers = np.stack([values[labels == label].mean(0) for label in sorted(set(labels.tolist()))])
    own = centers[np.searchsorted(sorted(set(labels.tolist())), labels)]
    within, around = precision(values - own), precision(values - values.mean(0))
    found = []
    for row in new:
        nearest = min((row - center) @ within @ (row - center) for center in centers)
        found.append(nearest - (row - values.mean(0)) @ around @ (row - values.mean(0)))
    return np.array(found)


def test_fitted_score_is_the_sum_of_standardized_terms() -> None:
    values, labels, _ = draw(90, 0)
    held, _, logits = draw(60, 1)
    scorer = fit_ood_scorer(values, labels, held, logits)

    def unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        wide = rows.astype(np.float64)
        lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
        return np.asarray(wide / lengths)

    distance = distances(values.astype(np.float64), labels, held.astype(np.float64))
    energy = np.log(np.exp(logits.astype(np.float64)).sum(1))
    similarity = np.sort(unit(held) @ unit(values).T, 1)[:, -10:].mean(1)
    expected = distance / distance.std() - energy / energy.std() - similarity / similarity.std()
    assert ood_scores(scorer, held, logits) == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert scorer.energy_weight == pytest.approx(1 / energy.std(), rel=1e-4)
    assert scorer.knn_weight == pytest.approx(1 / similarity.std(), rel=1e-4)
    kinds = {array.dtype for array in (scorer.quadratic, scorer.linear, scorer.offsets, scorer.reference_embeddings)}
    assert kinds == {np.dtype(np.float32)}


@pytest.mark.parametrize(("kept", "expected"), [(0, 0), (9, 0), (10, 10), (45, 45), (500, 90)])
def test_reference_embeddings_are_spread_evenly(kept: int, expected: int) -> None:
    """Fewer than the ten neighbors that the score is a mean of are none."""
    values, labels, _ = draw(90, 0)
    held, _, logits = draw(60, 1)
    scorer = fit_ood_scorer(values, labels, held, logits, kept)
    assert len(scorer.reference_embeddings) == expected
    assert (scorer.knn_weight > 0) == (expected > 0)
    if expected:
        directions = values / np.linalg.norm(values, axis=1, keepdims=True)
        assert scorer.reference_embeddings[0] == pytest.approx(directions[0], abs=1e-6)
        assert scorer.reference_embeddings[-1] == pytest.approx(directions[-1], abs=1e-6)
        assert len(np.unique(scorer.reference_embeddings, axis=0)) == expected
    unknown = fit_ood_scorer(values, labels, held, np.ones_like(logits), kept)
    assert unknown.energy_weight == pytest.approx(1e6)  # a term without deviation is not divided by zero


def test_2048_embeddings_are_kept_by_default() -> None:
    values, labels, _ = draw(2100, 0)
    assert len(fit_ood_scorer(values, labels, *draw(60, 1)[::2]).reference_embeddings) == 2048


def test_percentiles_by_hand() -> None:
    """Scores 0, 1, ..., 4: between them straight lines, the last half way to 1, beyond it closer and closer to 1."""
    quantiles = (0.0, 1.0, 2.0, 3.0, 4.0)
    found = to_percentile(np.array([-5, 0, 0.5, 1, 3, 3.5, 4]), quantiles)
    assert found == pytest.approx([0, 0, 0.125, 0.25, 0.75, 0.8125, 0.875])
    # Beyond, 1/8 is left, less by e for each distance from the median to the last, 2.
    assert to_percentile(np.array([6.0, 8.0]), quantiles) == pytest.approx(1 - np.exp([-1, -2]) / 8)
    assert to_percentile(np.array([2.0, 2.1]), (2.0,) * 5) == pytest.approx([0.875, 1])


def test_quantiles_by_hand() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(401) / 10)
    assert fit_quantiles(scores) == pytest.approx(tuple(np.arange(201) / 5))
    assert fit_quantiles(np.arange(29.0)) == ()
    assert len(fit_quantiles(np.arange(30.0))) == 201


@given(st.lists(st.floats(-100, 100), min_size=30, max_size=60), st.lists(st.floats(-300, 300), min_size=2, max_size=9))
def test_percentiles_rise_with_the_score(known: list[float], scores: list[float]) -> None:
    found = to_percentile(np.sort(scores), fit_quantiles(np.array(known)))
    assert (np.diff(found) >= -1e-12).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_class_without_embeddings_has_no_distance() -> None:
    values, labels, _ = draw(600, 0)
    held, _, logits = draw(300, 1)
    rule = fit_ood_scorer(values[labels < 2], labels[labels < 2], held, logits)
    inside, outside = (ood_scores(rule, held[group], logits[group]) for group in (held[:, 2] < 2, held[:, 2] > 2))
    assert np.isfinite([*inside, *outside]).all()
    assert np.median(outside) > np.quantile(inside, 0.9)


@pytest.mark.parametrize("count", [0, 512])
def test_graph_scores_as_numpy_does(count: int) -> None:
    network = find_network("compact-small").create(3).eval()
    images = torch.randint(0, 256, (60, 48, 48, 3), dtype=torch.uint8)
    with torch.inference_mode():
        values = network.forward_embedding(images.permute(0, 3, 1, 2).float())
        logits = network.classify(values)
        rule = fit_ood_scorer(values.numpy(), np.arange(60) % 3, values.numpy(), logits.numpy(), count)
    exported = export_graph(network, Preprocess(48, 48, "stretch"), images.numpy(), ood_scorer=rule)
    score = Model.from_bytes(exported.graph.SerializeToString(), None).forward_all(images.numpy()).ood_score
    assert score == pytest.approx(ood_scores(rule, values.numpy(), logits.numpy()), rel=1e-3, abs=1e-2)
    assert len(rule.reference_embeddings) == min(count, 60)
