"""Losses of a batch: cross-entropy of mixed and weighted images, and the similarity of two embeddings."""

from torch import Tensor, nn

from belvedere.training.balancing import weighted_mean


def mixed_loss(logits: Tensor, targets: Tensor, mix_weight: float, smoothing: float) -> Tensor:
    """Return the cross-entropy to labels, (n,), or probabilities, (n, K); of a mixed batch, to those of both images."""
    loss = nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    if mix_weight == 1:
        return loss
    other = nn.functional.cross_entropy(logits, targets.flip(0), label_smoothing=smoothing)
    return mix_weight * loss + (1 - mix_weight) * other


def weighted_loss(
    logits: Tensor, targets: Tensor, mix_weight: float, smoothing: float, labels: Tensor, weights: Tensor
) -> Tensor:
    """Return `mixed_loss` with the losses of the images weighted by class, (K,), of their labels, (n,)."""
    losses = nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    loss = weighted_mean(losses, labels, weights)
    if mix_weight == 1:
        return loss
    others = nn.functional.cross_entropy(logits, targets.flip(0), label_smoothing=smoothing, reduction="none")
    return mix_weight * loss + (1 - mix_weight) * weighted_mean(others, labels.flip(0), weights)


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Return the linear centered kernel alignment of two embeddings of a batch, (n, D) and (n, E).

    It is 1 if one is a rotation of the other, scaled and shifted, and at least 0 (Kornblith et al. 2019,
    https://arxiv.org/abs/1905.00414).
    """
    first, second = first - first.mean(0), second - second.mean(0)
    one, other = first @ first.T, second @ second.T
    similarity: Tensor = (one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-12)
    return similarity
