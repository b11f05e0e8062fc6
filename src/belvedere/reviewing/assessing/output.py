"""Makes the result of an assessment from its answers."""

from collections import Counter
from itertools import islice

from belvedere.errors import UsageError
from belvedere.evaluation.assessment.assess import Estimator
from belvedere.evaluation.assessment.sampling import UNIFORM_FLOOR
from belvedere.evaluation.intervals import wilson_interval
from belvedere.reviewing.assessing.session import Answer, AssessmentSession
from belvedere.types.assessment import Assessment, Disagreement, ReviewedImage

MIN_ANSWERS = 2


def make_assessment(session: AssessmentSession, seed: int) -> Assessment:
    """Estimate everything from the answers so far.

    Raises:
        UsageError: There are fewer than two answers in the order drawn.
    """
    data, answers = session.data, session.counted()
    if len(answers) < MIN_ANSWERS:
        raise UsageError(
            f"There are too few answers in {session.corrections_file.path}: {len(answers)}, in the order drawn. "
            "Classify more images on the page."
        )
    estimator = Estimator(data.population, [each.value for each in answers])
    found = estimator.estimate()
    model, inclusion = data.population.models[0], estimator.sample.inclusion
    reviewed = tuple(
        ReviewedImage(
            image=data.samples[row].name,
            path=data.samples[row].path,
            answer=session.describe(answer.value),
            annotator=answer.annotator,
            label=data.samples[row].label if data.has_labels else None,
            predicted_label=data.population.class_names[model.predicted[row]],
            confidence=float(model.confidence[row]),
            inclusion_probability=float(inclusion[row]),
        )
        for row, answer in zip(session.rows(), answers, strict=False)
    )
    return Assessment(
        source=data.source,
        num_images=len(data.hashes),
        num_reviewed=len(answers),
        budget=session.budget,
        seed=seed,
        uniform_floor=UNIFORM_FLOOR,
        models=found.models,
        none_of_these=found.none_of_these,
        unsure=found.unsure,
        label_errors=found.label_errors,
        accuracy_change=found.accuracy_change,
        disagreement=_compare_people([session.answers_of(row) for row in session.rows()]),
        annotators=dict(Counter(each.annotator for row in session.rows() for each in session.answers_of(row))),
        reviewed=reviewed,
        warnings=data.warnings,
    )


def _compare_people(answers: list[list[Answer]]) -> Disagreement | None:
    """Compare the first two people's answers on each image."""
    pairs = [list(islice(each, 2)) for each in answers if len(each) > 1]
    if not pairs:
        return None
    different = sum(first.value != second.value for first, second in pairs)
    return Disagreement(len(pairs), different, *wilson_interval(different / len(pairs), len(pairs)))
