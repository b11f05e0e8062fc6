"""Fit calibration, prediction sets, OOD score and tags on held-out images."""

from dataclasses import dataclass, replace

from belvedere.inference.tags import fit_tags, fit_tags_multilabel, is_multilabel_data
from belvedere.inference.uncertainty.fit import fit_uncertainty
from belvedere.inference.uncertainty.ood import OODScorer, fit_ood_scorer, ood_scores
from belvedere.inference.uncertainty.temperature_scaling import MIN_IMAGES, log_loss
from belvedere.runtime.progress import Progress
from belvedere.training.held_out import HeldOutOutputs
from belvedere.types.model import TagModel, Uncertainty

MIN_MULTILABEL_IMAGES = 20


@dataclass(frozen=True)
class FittedUncertainty:
    """Parameters for the model card and for the ONNX graph."""

    uncertainty: Uncertainty
    ood_scorer: OODScorer | None


def fit_on_held_out(held_out: HeldOutOutputs, progress: Progress) -> FittedUncertainty:
    """Fit tags and, with enough images, temperature, prediction sets and OOD score."""
    logits, labels = held_out.logits, held_out.labels
    tags = _fit_tags(held_out)
    if len(labels) < MIN_IMAGES:
        progress.log(
            f"Only {len(labels)} images held out, fewer than {MIN_IMAGES}: probabilities are not calibrated, and "
            "there is no none-of-these score."
        )
        return FittedUncertainty(Uncertainty(tag_model=tags), None)
    mask = slice(None) if held_out.ood_mask is None or not held_out.ood_mask.any() else held_out.ood_mask
    embeddings, ood_logits = held_out.embeddings[mask], logits[mask]
    ood_scorer = fit_ood_scorer(held_out.train_embeddings, held_out.train_labels, embeddings, ood_logits)
    uncertainty = fit_uncertainty(logits, labels, ood_scores(ood_scorer, embeddings, ood_logits))
    temperature = uncertainty.temperature
    before, after = (log_loss(logits / divisor, labels) for divisor in (1.0, temperature))
    progress.log(f"Calibrated with temperature {temperature:.2f}: log loss {before:.4f} before, {after:.4f} after.")
    return FittedUncertainty(replace(uncertainty, tag_model=tags), ood_scorer)


def _fit_tags(held_out: HeldOutOutputs) -> TagModel | None:
    maps, multi_hot = held_out.activation_maps, held_out.multi_hot
    tags = fit_tags(maps, multi_hot)
    if tags is None or not is_multilabel_data(multi_hot) or (multi_hot.sum(1) > 1).sum() < MIN_MULTILABEL_IMAGES:
        return tags
    return fit_tags_multilabel(tags, maps, multi_hot)
