"""What a trained network says of photographs, and what is fitted on it so that its answers can be trusted.

Knows which photographs that takes; how each thing is fitted is `trust`'s, `prediction_sets`', `outliers`' and `tags`'.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.inference.tags import fit_tags, fit_tags_multilabel, is_multilabel_data
from belvedere.inference.uncertainty.conformal import fit_conformal_threshold
from belvedere.inference.uncertainty.ood import OODScorer, fit_outlier_score, fit_quantiles, score_outliers
from belvedere.inference.uncertainty.temperature_scaling import LEAST_FITTED_ON, fit_temperature, log_loss, softmax
from belvedere.runtime.progress import Progress
from belvedere.training.device import Hardware
from belvedere.training.networks.registry import Network
from belvedere.types.model import TagModel, Trust

AT_ONCE = 128  # pictures
LEARNT_FROM = 3000  # photographs are enough to know what the classes look like
EVIDENCE_OF = 800  # photographs are enough to know when a class is there
LEAST_SEVERAL = 20  # photographs with several labels, to fit tags to


@dataclass(frozen=True)
class Seen:
    """What a network says of N photographs."""

    logits: NDArray[np.float32]  # (N, K)
    embeddings: NDArray[np.float32]  # (N, D)
    evidence: NDArray[np.float32]  # (N, K, h, w), (0, ...) where it was not asked for


@dataclass(frozen=True)
class HeldOutOutputs:
    """What a network says of photographs that it has not learnt from, and of some that it has."""

    logits: NDArray[np.float32]  # (M, K)
    labels: NDArray[np.int64]  # (M,)
    embeddings: NDArray[np.float32]  # (M, D)
    evidence: NDArray[np.float32]  # (P, K, h, w)
    present: NDArray[np.bool_]  # (P, K) all labels that those have
    learnt: NDArray[np.float32]  # (n, D)
    learnt_labels: NDArray[np.int64]  # (n,)
    aside: NDArray[np.bool_] | None = None  # (M,) those that are not among `learnt`; None: all


@dataclass(frozen=True)
class FittedUncertainty:
    """What makes answers trustworthy: a part for the card and a part for the graph."""

    trust: Trust
    outliers: OODScorer | None


def look_at(network: Network, batches: Iterator[Tensor], hardware: Hardware, *, evidence: bool = False) -> Seen:
    """Asks a network about pictures.

    Args:
        network: On the hardware's device.
        batches: (n, 3, H, W) each, RGB of 0 to 255, there as well.
        hardware: Where it runs.
        evidence: Whether evidence by place is wanted too.
    """
    network.eval()
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.inference_mode(), hardware.autocast():
        for pixels in batches:
            places = network.look(pixels)  # (n, D, h, w)
            embedding = places.mean((2, 3))
            found = spatial_logits(network, places) if evidence else embedding[:0]
            rows.append((network.classify(embedding), embedding, found))
    return Seen(*(torch.cat(each).float().cpu().numpy() for each in zip(*rows, strict=True)))


def spatial_logits(network: Network, places: Tensor) -> Tensor:
    """Returns the logits of each place, (n, K, h, w), of a network's last map, (n, D, h, w)."""
    count, width, height, length = places.shape
    flat: Tensor = network.classify(places.permute(0, 2, 3, 1).reshape(-1, width))
    return flat.view(count, height, length, -1).permute(0, 3, 1, 2)


def in_batches(rows: NDArray[np.intp], take: Callable[[NDArray[np.intp]], Tensor]) -> Iterator[Tensor]:
    """Yields what `take` gives for rows, some at once."""
    return (take(rows[start : start + AT_ONCE]) for start in range(0, len(rows), AT_ONCE))


def fit_uncertainty(held_out: HeldOutOutputs, progress: Progress) -> FittedUncertainty:
    """Fits on photographs that were not learnt from how far the answers can be trusted."""
    logits, labels = held_out.logits, held_out.labels
    tags = _fit_tags(held_out)
    if len(labels) < LEAST_FITTED_ON:
        progress.say(
            f"{len(labels)} photographs were held out, fewer than {LEAST_FITTED_ON}: the probabilities are the "
            "network's own, and it can't say what is none of its classes."
        )
        return FittedUncertainty(Trust(tags=tags), None)
    temperature = fit_temperature(logits, labels)
    before, after = (log_loss(logits / each, labels) for each in (1.0, temperature))
    progress.say(f"Calibrated by a temperature of {temperature:.2f}: log loss {before:.4f} before, {after:.4f} after.")
    aside = slice(None) if held_out.aside is None or not held_out.aside.any() else held_out.aside
    unlearnt, unlearnt_logits = held_out.embeddings[aside], logits[aside]
    outliers = fit_outlier_score(held_out.learnt, held_out.learnt_labels, unlearnt, unlearnt_logits)
    trust = Trust(
        temperature,
        len(labels),
        set_mass=fit_conformal_threshold(softmax((logits / temperature).astype(np.float64)), labels),
        outlier_quantiles=fit_quantiles(score_outliers(outliers, unlearnt, unlearnt_logits)),
        tags=tags,
    )
    return FittedUncertainty(trust, outliers)


def _fit_tags(held_out: HeldOutOutputs) -> TagModel | None:
    present = held_out.present
    rule = fit_tags(held_out.evidence, present)
    if rule is None or not is_multilabel_data(present) or (present.sum(1) > 1).sum() < LEAST_SEVERAL:
        return rule
    return fit_tags_multilabel(rule, held_out.evidence, present)
