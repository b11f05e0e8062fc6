"""All estimates of an assessment, from the answers to the first images in the order drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.assessment.estimator import Fraction, LabeledDraw, estimate_difference, estimate_fraction
from belvedere.evaluation.assessment.outcomes import NONE, UNSURE, Outcomes, calibrate_outcomes
from belvedere.evaluation.assessment.population import ModelPredictions, Population
from belvedere.types.assessment import ClassAssessment, Estimate, ModelAssessment

Rates = NDArray[np.float64]


@dataclass(frozen=True)
class Estimates:
    """Everything that is estimated."""

    models: tuple[ModelAssessment, ...]
    none_of_these: Estimate
    unsure: Estimate
    label_errors: Estimate | None
    accuracy_change: Estimate | None


class Estimator:
    """Estimates from the answers to the first n images."""

    def __init__(self, population: Population, answers: Sequence[int]) -> None:
        """Fit the expected answers to the answers.

        Args:
            population: The images.
            answers: (n,), to the first n images in the order drawn, at least 1: index of a class, NONE or UNSURE.
        """
        images = population.order[: len(answers)]
        self.population, self.answers = population, np.asarray(answers, np.int64)
        self.sample = LabeledDraw(images, population.inclusion(len(answers)))
        self.outcomes: Outcomes = calibrate_outcomes(population.outcomes, images, answers)
        self._is_class = self.answers >= 0
        self._known = self.outcomes.known

    def accuracy(self, model: ModelPredictions) -> Estimate:
        """Estimate the accuracy of the most probable class."""
        is_rare = len(self.population.models) > 1  # images on which labels and both models agree are drawn rarely
        return self._fraction(*self._correct(model), self._known, self._is_class, is_rare=is_rare)

    def accuracy_change(self, before: ModelPredictions, after: ModelPredictions) -> Estimate:
        """Estimate the accuracy of a second model minus that of a first one."""
        differs = before.predicted != after.predicted
        lost = self.outcomes.of_class(before.predicted) * differs
        gained = self.outcomes.of_class(after.predicted) * differs
        found = self._correct(after)[1].astype(np.float64) - self._correct(before)[1]
        total = self._is_class.astype(np.float64)
        return estimate_difference(self.sample, Fraction(gained - lost, self._known, found, total, lost))

    def estimate(self) -> Estimates:
        """Estimate everything."""
        models, labels, ones = self.population.models, self.population.labels, np.ones(len(self._known))
        everything = np.ones(len(self.answers), bool)
        certain = self.answers != UNSURE
        return Estimates(
            models=tuple(self.assess_model(each) for each in models),
            none_of_these=self._fraction(self.outcomes.none, self.answers == NONE, 1 - self.outcomes.unsure, certain),
            unsure=self._fraction(self.outcomes.unsure, ~certain, ones, everything),
            label_errors=None if labels is None else self._label_errors(labels, np.ones(len(labels), bool)),
            accuracy_change=self.accuracy_change(*models) if len(models) > 1 else None,
        )

    def assess_model(self, model: ModelPredictions) -> ModelAssessment:
        """Estimate everything on one model."""
        labels = self.population.labels
        has_unsure = bool((self.answers == UNSURE).any())
        in_set, is_none = model.in_set, model.is_none
        return ModelAssessment(
            model=model.model,
            accuracy=self.accuracy(model),
            per_class=tuple(self._assess_class(model, k) for k in range(len(self.population.class_names))),
            label_accuracy=None if labels is None else float((model.predicted == labels).mean()),
            prediction_set_coverage=None if in_set is None else self._set_coverage(in_set),
            target_coverage=model.target_coverage,
            answer_accuracy=None if is_none is None else self._answer_accuracy(model, is_none),
            none_detected=None if is_none is None else self._flagged(is_none, self.outcomes.none, self.answers == NONE),
            none_false=None if is_none is None else self._flagged(is_none, self._known, self._is_class),
            if_unsure_wrong=self._with_unsure(model, right=False) if has_unsure else None,
            if_unsure_right=self._with_unsure(model, right=True) if has_unsure else None,
        )

    def _assess_class(self, model: ModelPredictions, k: int) -> ClassAssessment:
        labels, true = self.population.labels, self.answers == k
        predicted, expected = model.predicted == k, self.outcomes.classes[:, k] * self._known
        in_sample = predicted[self.sample.images]
        hits = (expected * predicted, true & in_sample)
        return ClassAssessment(
            name=self.population.class_names[k],
            recall=self._fraction(*hits, expected, true),
            precision=self._fraction(*hits, self._known * predicted, self._is_class & in_sample),
            label_errors=None if labels is None else self._label_errors(labels, labels == k),
        )

    def _label_errors(self, labels: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Estimate:
        """Estimate the fraction of wrong labels among chosen images; an image of no class has a wrong label."""
        certain = self.answers != UNSURE
        right, sure, images = self.outcomes.of_class(labels), 1 - self.outcomes.unsure, self.sample.images
        found = (self.answers != labels[images]) & certain & chosen[images]
        is_rare = len(self.population.models) > 1
        return self._fraction((sure - right) * chosen, found, sure * chosen, certain & chosen[images], is_rare=is_rare)

    def _set_coverage(self, in_set: NDArray[np.bool_]) -> Estimate:
        expected = (self.outcomes.classes * in_set).sum(1) * self._known
        rows = np.arange(len(self.answers))
        found = in_set[self.sample.images][rows, np.maximum(self.answers, 0)] & self._is_class
        return self._fraction(expected, found, self._known, self._is_class, is_rare=True)

    def _answer_accuracy(self, model: ModelPredictions, is_none: NDArray[np.bool_]) -> Estimate:
        expected_class, found_class = self._correct(model)
        flagged = is_none[self.sample.images]
        expected = np.where(is_none, self.outcomes.none, expected_class)
        found = np.where(flagged, self.answers == NONE, found_class)
        return self._fraction(expected, found, 1 - self.outcomes.unsure, self.answers != UNSURE)

    def _flagged(self, is_none: NDArray[np.bool_], expected: Rates, found: NDArray[np.bool_]) -> Estimate:
        """Estimate the fraction of some images whose answer is "none of these"."""
        flagged = is_none[self.sample.images]
        return self._fraction(expected * is_none, found & flagged, expected, found)

    def _with_unsure(self, model: ModelPredictions, *, right: bool) -> Estimate:
        expected, found = self._correct(model)
        is_unsure = self.answers == UNSURE
        return self._fraction(
            expected + self.outcomes.unsure * right,
            found | (is_unsure & right),
            self._known + self.outcomes.unsure,
            self._is_class | is_unsure,
        )

    def _correct(self, model: ModelPredictions) -> tuple[Rates, NDArray[np.bool_]]:
        """Return the probability that a prediction is correct, (N,), and whether those of the sample are, (n,)."""
        return self.outcomes.of_class(model.predicted), self.answers == model.predicted[self.sample.images]

    def _fraction(
        self,
        expected: Rates,
        found: NDArray[np.bool_],
        expected_total: Rates,
        found_total: NDArray[np.bool_],
        *,
        is_rare: bool = False,
    ) -> Estimate:
        counted, total = found.astype(np.float64), found_total.astype(np.float64)
        fraction = Fraction(expected, expected_total, counted, total)
        return estimate_fraction(self.sample, fraction, is_rare=is_rare)
