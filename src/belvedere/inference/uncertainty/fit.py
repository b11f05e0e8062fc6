"""Fits temperature, prediction sets and out-of-distribution threshold on held-out images."""

import numpy as np
from numpy.typing import NDArray

from belvedere.inference.uncertainty.conformal import fit_conformal_threshold
from belvedere.inference.uncertainty.ood import fit_quantiles
from belvedere.inference.uncertainty.temperature_scaling import Floats, fit_temperature, softmax
from belvedere.types.model import Uncertainty


def fit_uncertainty(logits: Floats, labels: NDArray[np.int64], ood_scores: Floats | None = None) -> Uncertainty:
    """Fit everything but the tags on images with one label.

    Args:
        logits: (N, K), of images that the model was not trained on.
        labels: (N,), class indices, 0 to K - 1.
        ood_scores: (M,), out-of-distribution scores of such images; None if the model has none.

    Returns:
        Temperature, conformal threshold and quantiles of the scores. Values that too few images cannot
        fit have their defaults.
    """
    temperature = fit_temperature(logits, labels)
    return Uncertainty(
        temperature,
        len(labels),
        conformal_threshold=fit_conformal_threshold(softmax((logits / temperature).astype(np.float64)), labels),
        ood_score_quantiles=() if ood_scores is None else fit_quantiles(ood_scores),
    )
