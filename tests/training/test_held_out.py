"""Outputs of a trained network on held-out images."""

import numpy as np
import pytest

from belvedere.training import held_out
from belvedere.training.held_out import select_train_rows


def test_a_rare_class_is_among_the_embedded_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "MAX_TRAIN_IMAGES", 10)
    labels = np.zeros(1000, np.int64)
    labels[503] = 1
    rows = select_train_rows(labels).tolist()
    assert {0, 503, 999} <= {*rows}
    assert 10 <= len(rows) <= 12
    assert select_train_rows(labels[498:506]).tolist() == [*range(8)]
