"""Estimates from a sample with unequal probabilities: exact values by hand, and coverage by simulation."""

import hashlib
import math

import numpy as np
import pytest

from belvedere.evaluation.assessment.assess import Estimator
from belvedere.evaluation.assessment.estimator import Fraction, LabeledDraw, estimate_difference, estimate_fraction
from belvedere.evaluation.assessment.outcomes import (
    NONE,
    UNSURE,
    calibrate_outcomes,
    expect_outcomes,
    none_probabilities,
)
from belvedere.evaluation.assessment.population import (
    ModelPredictions,
    Population,
    join_class_names,
    make_population,
    read_model_predictions,
)
from belvedere.evaluation.assessment.sampling import (
    draw_order,
    draw_probabilities,
    inclusion_probabilities,
    random_numbers,
)
from belvedere.evaluation.intervals import student_t_quantile, wilson_interval
from belvedere.types.assessment import ModelAssessment
from belvedere.types.data import ModelId
from conftest import make_prediction

NAMES = ("blue", "green", "red")


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (10, 2.2281), (30, 2.0423), (99, 1.9842)]
)
def test_quantile_of_student(degrees: int, expected: float) -> None:
    assert student_t_quantile(degrees) == pytest.approx(expected, abs=5e-5)


def test_wilson_interval() -> None:
    assert wilson_interval(0.8, 10, 1.96) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0.0, 10, 1.96) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0.3, math.inf, 1.96) == (0.3, 0.3)


def test_draws_follow_the_standard_deviation_above_a_floor() -> None:
    draws = draw_probabilities(np.array([0.0, 0.01, 0.09, 0.0]), floor=0.2)
    assert draws.tolist() == pytest.approx([0.05, 0.05 + 0.8 * 0.25, 0.05 + 0.8 * 0.75, 0.05])
    assert draw_probabilities(np.zeros(4)).tolist() == [0.25] * 4


def test_inclusion_probabilities_add_up_to_the_number_drawn() -> None:
    draws = np.array([0.5, 0.3, 0.1, 0.1])
    assert inclusion_probabilities(draws, 1).tolist() == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert inclusion_probabilities(draws, 2).tolist() == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert inclusion_probabilities(draws, 3).tolist() == pytest.approx([1.0, 1.0, 0.5, 0.5])
    assert inclusion_probabilities(draws, 4).tolist() == [1.0] * 4


def test_random_numbers_belong_to_the_content() -> None:
    hashes = [hashlib.sha256(bytes([k])).hexdigest() for k in (1, 2, 1)]
    numbers = random_numbers(hashes)
    assert len(set(numbers)) == 3  # copies have different ones
    assert random_numbers(hashes[::-1])[1] == numbers[1]
    assert random_numbers(hashes, seed=1)[1] != numbers[1]
    assert ((numbers > 0) & (numbers < 1)).all()


def test_inclusion_probabilities_are_those_of_the_order() -> None:
    """Each image is as often among the first n as its probability says, for two sizes of one order."""
    random = np.random.default_rng(0)
    draws = draw_probabilities(random.random(40) ** 4)
    orders = [draw_order(random.random(40), draws) for _ in range(4000)]
    for size in (8, 16):
        counts = np.bincount(np.concatenate([order[:size] for order in orders]), minlength=40) / len(orders)
        assert np.abs(counts - inclusion_probabilities(draws, size)).max() < 0.035


def test_label_and_prediction_together() -> None:
    probabilities = np.array([[0.6, 0.4]] + [[0.99, 0.01]] * 18 + [[0.01, 0.99]])
    labels = np.array([1] + [0] * 19)
    found = expect_outcomes(probabilities, labels).classes
    assert found[0, 1] > 0.5  # the label turns an unsure prediction
    assert 0.5 < found[-1, 1] < 0.99  # and makes a sure one less sure
    assert found[1, 0] > 0.999
    assert expect_outcomes(probabilities).classes == pytest.approx(probabilities)


def test_excess_of_high_ood_scores() -> None:
    usual = np.linspace(0, 1, 100, endpoint=False)
    assert none_probabilities(usual).max() < 0.03
    many = none_probabilities(np.concatenate([usual, np.full(50, 0.999)]))
    assert many[-1] == pytest.approx(1 - 5 / 54, abs=0.06)
    assert many[0] < 0.05


def test_answers_calibrate_the_expected_ones() -> None:
    outcomes = expect_outcomes(np.full((100, 2), [0.99, 0.01]))
    images = np.arange(50)
    wrong = calibrate_outcomes(outcomes, images, [0, 1] * 25)
    right = calibrate_outcomes(outcomes, images, [0] * 50)
    assert wrong.classes[99, 1] > 0.15
    assert right.classes[99, 1] < 0.02
    assert right.none.max() < outcomes.none.max()
    unsure = calibrate_outcomes(outcomes, images, [UNSURE] * 10 + [NONE] * 10 + [0] * 30)
    assert 0.1 < unsure.unsure[99] < 0.2  # 10 of 50, pulled to the 0.3% before
    assert 0.1 < unsure.none[99] < 0.2


def test_difference_estimate_by_hand() -> None:
    """Two of four images, each with the probability one half: 0.5 + (2 * 0.5 - 2 * 0.5) / 4."""
    sample = LabeledDraw(np.array([0, 2]), np.full(4, 0.5))
    half, ones = np.full(4, 0.5), np.ones(4)
    found = estimate_fraction(sample, Fraction(half, ones, np.array([1.0, 0.0]), np.ones(2)))
    assert found.value == pytest.approx(0.5)
    # observed: 2 * 0.5 * (1 + 1) = 2; predicted: 4 * 0.25 = 1; mean with weights 2 and 8, over 4^2
    assert found.standard_error == pytest.approx(math.sqrt((2 * 2 + 8 * 1) / 10 / 16))
    both = estimate_fraction(sample, Fraction(half, ones, np.array([1.0, 1.0]), np.ones(2)))
    assert both.value == pytest.approx(1.0)


def test_without_a_counterexample_the_interval_ends_at_one() -> None:
    sample = LabeledDraw(np.arange(6), np.full(12, 0.5))
    expected = np.full(12, 0.9)
    found = estimate_fraction(sample, Fraction(expected, np.ones(12), np.ones(6), np.ones(6)))
    assert found.ci_low < 0.9 < found.ci_high == 1.0
    none = estimate_fraction(sample, Fraction(1 - expected, np.ones(12), np.zeros(6), np.ones(6)))
    assert 0.0 == none.ci_low < 0.1 < none.ci_high


def test_all_images_give_the_exact_value() -> None:
    sample = LabeledDraw(np.arange(4), np.ones(4))
    found = estimate_fraction(sample, Fraction(np.full(4, 0.9), np.ones(4), np.array([1.0, 0, 0, 1]), np.ones(4)))
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx((0.5, 0.5, 0.5))
    lost = Fraction(np.zeros(4), np.ones(4), np.array([1.0, 0, 0, -1]), np.ones(4), np.full(4, 0.1))
    assert estimate_difference(sample, lost).value == pytest.approx(0.0)


def test_class_without_reviewed_images_is_unknown() -> None:
    sample = LabeledDraw(np.array([0]), np.full(4, 0.25))
    expected = np.array([0.0, 0.5, 0.5, 0.5])
    found = estimate_fraction(sample, Fraction(expected / 2, expected, np.zeros(1), np.zeros(1)))
    assert (found.value, found.ci_low, found.ci_high, found.num_images) == (None, 0.0, 1.0, 0)


def make_images(count: int, seed: int = 0) -> tuple[ModelPredictions, np.ndarray]:
    """Return calibrated predictions of three classes, and the true ones."""
    random = np.random.default_rng(seed)
    confidence = 1 - 0.6 * random.random(count) ** 6  # 0.91 on average
    predicted = random.integers(0, 3, count)
    true = np.where(random.random(count) < confidence, predicted, (predicted + random.integers(1, 3, count)) % 3)
    values = np.repeat((1 - confidence[:, None]) / 2, 3, 1)
    values[np.arange(count), predicted] = confidence
    return ModelPredictions(ModelId("m", "0"), values, predicted, confidence, None, None, None), true


def population_of(models: list[ModelPredictions], labels: np.ndarray | None = None, seed: int = 0) -> Population:
    hashes = [f"{k:064x}" for k in range(len(models[0].predicted))]
    return make_population(models, NAMES, None if labels is None else [NAMES[k] for k in labels], hashes, seed)


def assess_model(population: Population, true: np.ndarray, size: int) -> ModelAssessment:
    return Estimator(population, true[population.order[:size]].tolist()).estimate().models[0]


def test_intervals_cover_the_accuracy() -> None:
    """250 samples of 60 images: about 95% cover, without bias, and with a smaller error than random images."""
    model, true = make_images(800)
    truth = float((model.predicted == true).mean())
    found = []
    for seed in range(250):
        population = population_of([model], seed=seed)
        found.append(Estimator(population, true[population.order[:60]].tolist()).accuracy(model))
    values = np.array([each.value for each in found], float)
    assert 0.91 <= np.mean([each.ci_low <= truth <= each.ci_high for each in found]) <= 0.99
    assert abs(values.mean() - truth) < 0.006
    assert values.std() < 0.8 * math.sqrt(truth * (1 - truth) / 60)


def test_wrong_labels_and_classes() -> None:
    model, true = make_images(600, seed=1)
    random = np.random.default_rng(2)
    labels = np.where(random.random(600) < 0.1, (true + 1) % 3, true)
    population = population_of([model], labels)
    answers = true[population.order[:200]].tolist()
    found = Estimator(population, answers).estimate()
    assert found.label_errors is not None
    assert found.label_errors.ci_low < np.mean(labels != true) < found.label_errors.ci_high
    assert found.models[0].label_accuracy == pytest.approx(np.mean(labels == model.predicted))
    for k, row in enumerate(found.models[0].per_class):
        pairs = [(row.recall, model.predicted[true == k] == k), (row.precision, true[model.predicted == k] == k)]
        for estimate, is_right in pairs:
            assert estimate.value == pytest.approx(is_right.mean(), abs=3 * (estimate.standard_error or 0))
        assert row.recall.num_images == answers.count(k)
    assert (found.models[0].accuracy.effective_size or 0) > 300  # labels and predictions explain most


def test_none_of_these_and_unsure() -> None:
    """With all images answered, every figure is the exact one."""
    model, true = make_images(100, seed=3)
    answers = true.copy()
    answers[:10], answers[10:15] = NONE, UNSURE
    is_none = np.arange(100) % 2 == 0
    sets = np.zeros((100, 3), bool)
    sets[:, 0] = True
    flagged = ModelPredictions(
        model.model, model.probabilities, model.predicted, model.confidence, sets, is_none, np.linspace(0, 1, 100), 0.95
    )
    population = population_of([flagged])
    found = Estimator(population, answers[population.order].tolist()).estimate()
    first, rest = found.models[0], slice(15, 100)
    right = np.mean(model.predicted[rest] == true[rest])
    assert first.accuracy.value == pytest.approx(right)
    assert first.prediction_set_coverage is not None
    assert first.prediction_set_coverage.value == pytest.approx(np.mean(true[rest] == 0))
    assert (found.none_of_these.value, found.unsure.value) == pytest.approx((10 / 95, 0.05))
    assert first.none_detected is not None
    assert first.none_false is not None
    assert (first.none_detected.value, first.none_false.value) == pytest.approx((0.5, is_none[rest].mean()))
    assert first.answer_accuracy is not None
    hits = 5 + np.sum((model.predicted[rest] == true[rest]) & ~is_none[rest])
    assert first.answer_accuracy.value == pytest.approx(hits / 95)
    assert first.if_unsure_wrong is not None
    assert first.if_unsure_right is not None
    assert first.if_unsure_wrong.value == pytest.approx(right * 85 / 90)
    assert first.if_unsure_right.value == pytest.approx((right * 85 + 5) / 90)


def test_difference_of_two_models() -> None:
    model, true = make_images(700, seed=4)
    better = np.where(np.arange(700) % 3 == 0, true, model.predicted)
    other = ModelPredictions(ModelId("n", "1"), model.probabilities, better, model.confidence, None, None, None)
    truth = np.mean(better == true) - np.mean(model.predicted == true)
    covered = 0
    for seed in range(100):
        population = population_of([model, other], seed=seed)
        change = Estimator(population, true[population.order[:80]].tolist()).accuracy_change(model, other)
        covered += change.ci_low <= truth <= change.ci_high
    assert 88 <= covered <= 100
    assert change.ci_low < change.ci_high


def test_a_longer_sample_contains_the_shorter() -> None:
    model, true = make_images(300, seed=5)
    population = population_of([model])
    first, second = (assess_model(population, true, size).accuracy for size in (40, 160))
    assert second.ci_high - second.ci_low < first.ci_high - first.ci_low
    assert population.inclusion(40).sum() == pytest.approx(40)
    assert (population.inclusion(160) >= population.inclusion(40)).all()


def test_classes_that_a_model_lacks() -> None:
    names = join_class_names([("red", "blue"), ("blue", "green")], ["sea", "red"])
    assert names == ("red", "blue", "green", "sea")
    found = read_model_predictions(
        [make_prediction("a", None, 0.3, 0.7, names=("red", "blue"))], names, ModelId("m", ""), None
    )
    assert found.probabilities.tolist() == [[0.3, 0.7, 0.0, 0.0]]
    assert (found.predicted.tolist(), found.in_set, found.is_none) == ([1], None, None)
