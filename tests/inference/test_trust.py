"""What is fitted on held-out photographs: the temperature."""

import numpy as np
import pytest
from numpy.typing import NDArray

from belvedere.evaluation.evaluate import measure
from belvedere.inference.uncertainty.temperature_scaling import fit_temperature, log_loss, remove_temperature, softmax
from belvedere.types.prediction import Prediction

NAMES = ("a", "b", "c")


def draw(count: int, temperature: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose probabilities are right when they are divided by a temperature, and labels drawn by these."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, 3))
    labels = (logits + random.gumbel(size=(count, 3))).argmax(1)  # draws by softmax(logits)
    return (logits * temperature).astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_it_finds_the_temperature_that_the_labels_were_drawn_by(temperature: float) -> None:
    assert fit_temperature(*draw(20_000, temperature)) == pytest.approx(temperature, rel=0.04)


def test_it_is_within_the_best_of_any() -> None:
    logits, labels = draw(500, 3.0)
    fitted = log_loss(logits / fit_temperature(logits, labels), labels)
    assert fitted <= min(log_loss(logits / each, labels) for each in np.logspace(-1, 1, 200)) + 1e-6


def test_of_too_few_photographs_nothing_is_said() -> None:
    assert fit_temperature(*draw(29, 3.0)) == 1
    assert fit_temperature(*draw(30, 3.0)) != 1


def test_one_that_is_always_right_is_made_no_surer_than_the_bound() -> None:
    logits = np.eye(3, dtype=np.float32)[np.arange(60) % 3]
    assert fit_temperature(logits, np.arange(60) % 3) == pytest.approx(0.1, rel=0.01)


def test_undoing_gives_back_what_was_before() -> None:
    logits, _ = draw(50, 1.0)

    def softmax(values: NDArray[np.float32]) -> NDArray[np.float64]:
        powers = np.exp(values.astype(np.float64))
        divided: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
        return divided

    assert remove_temperature(softmax(logits / 2.5), 2.5) == pytest.approx(softmax(logits), abs=1e-6)
    assert np.isfinite(remove_temperature(np.array([[1.0, 0.0, 0.0]]), 3.0)).all()


def test_an_evaluation_holds_the_figures_before_and_after() -> None:
    logits, labels = draw(3000, 3.0)
    temperature = fit_temperature(logits, labels)
    powers = np.exp(logits.astype(np.float64) / temperature)
    rows = powers / powers.sum(1, keepdims=True)
    answers = [
        Prediction(str(place), NAMES[row.argmax()], row.max(), tuple(row), label=NAMES[label])
        for place, (row, label) in enumerate(zip(rows, labels, strict=True))
    ]
    found = measure(answers, NAMES, part="test", temperature=temperature)
    assert found.uncalibrated is not None
    assert found.ece < 0.03 < 0.1 < found.uncalibrated.ece
    assert found.log_loss < found.uncalibrated.log_loss == pytest.approx(log_loss(logits, labels), rel=1e-2)
    assert measure(answers, NAMES, part="test").uncalibrated is None


def test_a_softmax_keeps_the_precision_and_takes_any_logits() -> None:
    logits = np.array([[0, np.log(3)], [1000, 1000], [-1000, 1000]])
    exact, rough = softmax(logits), softmax(logits.astype(np.float32))
    assert (exact.dtype.name, rough.dtype.name) == ("float64", "float32")
    for found in (exact, rough):
        assert found == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5], [0, 1]]), rel=1e-6)
