"""Temperature scaling: its fit, the log loss and the softmax."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from belvedere.evaluation.metrics import compute_metrics
from belvedere.inference.uncertainty.conformal import fit_conformal_threshold
from belvedere.inference.uncertainty.fit import fit_uncertainty
from belvedere.inference.uncertainty.ood import fit_quantiles
from belvedere.inference.uncertainty.temperature_scaling import (
    fit_temperature,
    golden_section_minimize,
    log_loss,
    remove_temperature,
    sigmoid,
    softmax,
)
from belvedere.types.prediction import Prediction

NAMES = ("a", "b", "c")


def draw(count: int, temperature: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose probabilities are right when they are divided by a temperature, and labels drawn by these."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, 3))
    labels = (logits + random.gumbel(size=(count, 3))).argmax(1)  # draws by softmax(logits)
    return (logits * temperature).astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_fit_finds_the_temperature_that_the_labels_were_drawn_by(temperature: float) -> None:
    assert fit_temperature(*draw(20_000, temperature)) == pytest.approx(temperature, rel=0.04)


def test_fit_has_the_lowest_log_loss() -> None:
    logits, labels = draw(500, 3.0)
    fitted = log_loss(logits / fit_temperature(logits, labels), labels)
    assert fitted <= min(log_loss(logits / each, labels) for each in np.logspace(-1, 1, 200)) + 1e-6


def test_no_fit_on_fewer_than_30_images() -> None:
    assert fit_temperature(*draw(29, 3.0)) == 1
    assert fit_temperature(*draw(30, 3.0)) != 1


def test_temperature_is_bounded() -> None:
    logits, labels = np.eye(3, dtype=np.float32)[np.arange(60) % 3], np.arange(60) % 3
    assert fit_temperature(logits, labels) == pytest.approx(0.1, rel=1e-4)
    assert fit_temperature(logits, (labels + 1) % 3) == pytest.approx(10, rel=1e-4)


def test_temperature_is_removed_from_probabilities() -> None:
    logits, _ = draw(50, 1.0)

    def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
        powers = np.exp(values.astype(np.float64))
        divided: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
        return divided

    assert remove_temperature(softmax(logits / 2.5), 2.5) == pytest.approx(softmax(logits), abs=1e-6)
    assert np.isfinite(remove_temperature(np.array([[1.0, 0.0, 0.0]]), 3.0)).all()


def test_evaluation_holds_the_figures_without_the_temperature() -> None:
    logits, labels = draw(3000, 3.0)
    temperature = fit_temperature(logits, labels)
    powers = np.exp(logits.astype(np.float64) / temperature)
    rows = powers / powers.sum(1, keepdims=True)
    answers = [
        Prediction(str(place), NAMES[row.argmax()], row.max(), tuple(row), label=NAMES[label])
        for place, (row, label) in enumerate(zip(rows, labels, strict=True))
    ]
    found = compute_metrics(answers, NAMES, split="test", temperature=temperature)
    assert found.uncalibrated is not None
    assert found.ece < 0.03 < 0.1 < found.uncalibrated.ece
    assert found.log_loss < found.uncalibrated.log_loss == pytest.approx(log_loss(logits, labels), rel=1e-2)
    assert compute_metrics(answers, NAMES, split="test").uncalibrated is None


def test_softmax_keeps_the_precision_and_takes_any_logits() -> None:
    logits = np.array([[0, np.log(3)], [1000, 1000], [-1000, 1000]])
    exact, rough = softmax(logits), softmax(logits.astype(np.float32))
    assert (exact.dtype.name, rough.dtype.name) == ("float64", "float32")
    for found in (exact, rough):
        assert found == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5], [0, 1]]), rel=1e-6)


def test_temperature_by_hand() -> None:
    """Logits ln 9 apart give 90%; 3 of 4 are right, so 75% and logits ln 3 apart are best: half, temperature 2."""
    logits = np.tile([[np.log(9), 0.0]], (40, 1))
    labels = (np.arange(40) % 4 == 0).astype(np.int64)
    assert fit_temperature(logits, labels) == pytest.approx(2, rel=1e-4)
    assert fit_temperature((logits * 3).astype(np.float32), labels) == pytest.approx(6, rel=1e-4)


def test_log_loss_by_hand() -> None:
    logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0], [4.0, 1.0]]))
    assert log_loss(logits, np.array([1, 0, 1])) == pytest.approx(-(np.log(3 / 4) + np.log(1 / 2) + np.log(1 / 5)) / 3)
    assert log_loss(logits + 1000, np.array([1, 0, 1])) == pytest.approx(log_loss(logits, np.array([1, 0, 1])))


@given(st.floats(-5, 5), st.floats(0.1, 3))
def test_golden_section_finds_the_minimum_within_its_tolerance(lowest: float, width: float) -> None:
    calls: list[float] = []

    def valley(value: float) -> float:
        calls.append(value)
        return float(abs(value - lowest) ** width)

    found = golden_section_minimize(valley, -6, 6)
    assert found == pytest.approx(lowest, abs=1e-5)
    assert len(calls) == 2 + np.ceil(
        np.log(1e-5 / 12) / np.log((5**0.5 - 1) / 2)
    )  # each narrows it by the golden ratio
    assert -6 <= min(calls) <= max(calls) <= 6


def test_golden_section_stops_at_the_tolerance() -> None:
    calls: list[float] = []
    found = golden_section_minimize(lambda value: calls.append(value) or (value - 1) ** 2, 0, 2, 0.5)  # type: ignore[func-returns-value]
    golden = (5**0.5 - 1) / 2
    assert calls[:2] == pytest.approx([2 - 2 * golden, 2 * golden])
    assert len(calls) == 5  # 2, 1.24, 0.76, 0.47
    assert found == pytest.approx(1, abs=0.25)


def test_removed_temperature_by_hand() -> None:
    assert remove_temperature(np.array([[0.8, 0.2]]), 2.0)[0] == pytest.approx([16 / 17, 1 / 17])
    assert remove_temperature(np.array([[0.8, 0.2]], np.float32), 2.0).dtype == np.float64
    least = float(np.finfo(np.float32).tiny)
    assert remove_temperature(np.array([[1.0, 0.0]]), 0.5)[0, 1] == pytest.approx(least**0.5)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=5), st.floats(0.5, 5))
def test_temperature_is_removed_exactly(logits: list[float], temperature: float) -> None:
    values = np.array([logits])
    assert remove_temperature(softmax(values / temperature), temperature) == pytest.approx(softmax(values), abs=1e-9)


def test_sigmoid_by_hand() -> None:
    found = sigmoid(np.array([0.0, math.log(3), -math.log(3), -1000.0, 1000.0]))
    assert found.dtype == np.float64
    assert found == pytest.approx([0.5, 0.75, 0.25, 0.0, 1.0], abs=1e-12)
    assert found[3] > 0  # no overflow warning, and a finite logarithm


def test_uncertainty_is_fitted_by_its_parts() -> None:
    """Three of four labels are the likelier class, at a logit of 10: the best temperature is 10 / ln 3."""
    logits = np.tile(np.array([[10.0, 0.0]], np.float32), (200, 1))
    labels = np.array([0, 0, 0, 1] * 50)
    scores = np.linspace(0, 1, 200)
    found = fit_uncertainty(logits, labels, scores)
    assert found.temperature == pytest.approx(10 / math.log(3), rel=1e-3)
    assert found.num_calibration_images == 200
    probabilities = np.tile([[0.75, 0.25]], (200, 1))
    assert found.conformal_threshold == pytest.approx(fit_conformal_threshold(probabilities, labels), abs=1e-3)
    assert found.ood_score_quantiles == fit_quantiles(scores)
    few = fit_uncertainty(logits[:20], labels[:20])
    assert (few.conformal_threshold, few.ood_score_quantiles, few.num_calibration_images) == (None, (), 20)
