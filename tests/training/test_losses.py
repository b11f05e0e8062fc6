"""Losses of a batch, by hand."""

import math

import numpy as np
import pytest
import torch

from belvedere.training.losses import linear_cka, mixed_loss, weighted_loss


def test_loss_of_mixed_batches_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 3.0], [4.0, 1.0]]))
    own, other = -(math.log(1 / 4) + math.log(1 / 5)) / 2, -(math.log(3 / 4) + math.log(4 / 5)) / 2
    for weight in (1.0, 0.3, 0.0):
        found = mixed_loss(logits, torch.tensor([0, 1]), weight, 0.0)
        assert float(found) == pytest.approx(weight * own + (1 - weight) * other)
        soft = mixed_loss(logits, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), weight, 0.0)
        assert float(soft) == pytest.approx(weight * own + (1 - weight) * other)
        smooth = mixed_loss(logits, torch.tensor([0, 1]), weight, 0.2)
        mixed = (0.9 * weight + 0.1 * (1 - weight)) * own + (0.9 * (1 - weight) + 0.1 * weight) * other
        assert float(smooth) == pytest.approx(mixed)


@pytest.mark.parametrize(("smoothing", "certain", "wrong"), [(0.0, 1.0, 0.0), (0.2, 0.9, 0.1)])
def test_loss_with_class_weights_by_hand(smoothing: float, certain: float, wrong: float) -> None:
    """Probabilities 3/4 and 1/4, and twice 1/2; the weights are 2 and 1."""
    logits, labels = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    right = (2 * (certain * math.log(4 / 3) + wrong * math.log(4)) + math.log(2)) / 2
    swapped = (certain * math.log(4) + wrong * math.log(4 / 3) + 2 * math.log(2)) / 2
    for weight in (1.0, 0.75, 0.0):
        found = weighted_loss(logits, labels, weight, smoothing, labels, torch.tensor([2.0, 1.0]))
        assert float(found) == pytest.approx(weight * right + (1 - weight) * swapped)


def test_cka_is_one_for_rotations_and_follows_its_formula() -> None:
    first = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 4)))
    rotation = torch.linalg.qr(torch.from_numpy(np.random.default_rng(1).normal(size=(4, 4)))).Q
    assert linear_cka(first, 3 * first @ rotation + 5).item() == pytest.approx(1)
    assert linear_cka(0.01 * first, first).item() == pytest.approx(1)
    # Centered: (1, -1) in one dimension and (1, -1, 1, -1) against (1, 1, -1, -1), whose products sum to zero.
    assert linear_cka(torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [7.0]])).item() == pytest.approx(1)
    one, other = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    assert linear_cka(one, other).item() == pytest.approx(0)
    both = torch.cat([one, other], 1)  # kernels I x 2 - ...: 8 / (4 x sqrt(32))
    assert linear_cka(one, both).item() == pytest.approx(16 / (4 * 32**0.5))
    assert linear_cka(torch.ones(3, 2), one[:3]).item() == 0  # no variance, no NaN
