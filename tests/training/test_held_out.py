"""Outputs of a trained network on held-out images."""

import numpy as np
import pytest
import torch

from belvedere.training import held_out
from belvedere.training.device import Device
from belvedere.training.held_out import run_network, select_train_rows
from belvedere.training.networks import find_network


def test_a_rare_class_is_among_the_embedded_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "MAX_TRAIN_IMAGES", 10)
    labels = np.zeros(1000, np.int64)
    labels[503] = 1
    rows = select_train_rows(labels).tolist()
    assert {0, 503, 999} <= {*rows}
    assert 10 <= len(rows) <= 12
    assert select_train_rows(labels[498:506]).tolist() == [*range(8)]


def test_maps_are_of_the_requested_images_in_order() -> None:
    network = find_network("compact-small").create(3)
    batches = torch.randint(0, 256, (2, 4, 3, 32, 32)).float()
    device = Device(torch.device("cpu"), torch.float32)
    every = run_network(network, [(batch, np.arange(4)) for batch in batches], device)
    some = run_network(network, [(batches[0], np.array([1, 3])), (batches[1], np.zeros(0, np.intp))], device)
    assert every.activation_maps.shape == (8, 3, 2, 2)
    assert some.activation_maps == pytest.approx(every.activation_maps[[1, 3]], abs=1e-5)
    assert some.activation_maps.mean((2, 3)) == pytest.approx(some.logits[[1, 3]], abs=1e-4)
    assert np.array_equal(some.logits, every.logits)
