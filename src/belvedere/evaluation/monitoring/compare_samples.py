"""All statistics of new images beside the test images of a run."""

import numpy as np
from numpy.typing import NDArray

from belvedere.evaluation.intervals import wilson_interval
from belvedere.evaluation.monitoring.estimates import estimate_class_frequencies
from belvedere.evaluation.monitoring.result import ClassFrequency, DriftTest, OODRate
from belvedere.evaluation.monitoring.samples import Sampled
from belvedere.evaluation.monitoring.two_sample import (
    compare_counts,
    compare_embeddings,
    compare_values,
    fisher_exact,
    holm,
)


def run_tests(reference: Sampled, new: Sampled, accept_rate: float, seed: int) -> tuple[DriftTest, ...]:
    """Test for a change in predictions, scores and embeddings, as far as both samples have them.

    Args:
        reference: Test images.
        new: New images.
        accept_rate: Score above which an image is "none of these".
        seed: Seed of the permutations.
    """
    rng = np.random.default_rng(seed)
    p_values = {
        "predicted_labels": compare_counts(reference.label_counts, new.label_counts, rng),
        "confidence": compare_values(reference.confidence, new.confidence),
    }
    before, after = reference.none_of_these_score, new.none_of_these_score
    if before is not None and after is not None:
        hits = [(int((scores > accept_rate).sum()), len(scores)) for scores in (before, after)]
        p_values["none_of_these"] = fisher_exact(hits[0], hits[1])
        p_values["none_of_these_score"] = compare_values(before, after)
    if reference.embeddings is not None and new.embeddings is not None:
        p_values["embeddings"] = compare_embeddings(reference.embeddings, new.embeddings, rng)
    return tuple(DriftTest(name, p_values[name], adjusted) for name, adjusted in holm(p_values).items())


def compare_classes(reference: Sampled, new: Sampled, labels: NDArray[np.int64]) -> tuple[ClassFrequency, ...]:
    """Return the frequency of each class among the test images and among the new ones.

    Args:
        reference: Test images.
        new: New images.
        labels: (N,), 0 to K - 1, of the test images.
    """
    before, after = reference.label_counts / len(reference), new.label_counts / len(new)
    estimated = estimate_class_frequencies(labels, new.probabilities)
    return tuple(
        ClassFrequency(
            name,
            float(before[k]),
            float(after[k]),
            *wilson_interval(new.label_counts[k] / len(new), len(new)),
            float(estimated[k]),
        )
        for k, name in enumerate(new.class_names)
    )


def compare_ood_rates(reference: Sampled, new: Sampled, accept_rate: float) -> OODRate | None:
    """Return the fractions of images with a score above `accept_rate`; None without scores."""
    before, after = reference.none_of_these_score, new.none_of_these_score
    if before is None or after is None:
        return None
    hits = int((after > accept_rate).sum())
    return OODRate(
        hits / len(after),
        *wilson_interval(hits / len(after), len(after)),
        float((before > accept_rate).mean()),
        1 - accept_rate,
    )
