"""The moving average of weights: its values, its use for a while, and its return from a checkpoint."""

import torch
from torch import nn

from belvedere.training.ema import EMA


def network(value: float) -> nn.Sequential:
    """Several tensors of the same shapes, whose names do not stand in the order of the alphabet."""
    layers = nn.Sequential()
    for name in ("stem", "block", "norm"):
        layers.add_module(name, nn.BatchNorm1d(2) if name == "norm" else nn.Linear(2, 2))
    fill(layers, value)
    return layers


def fill(layers: nn.Module, value: float) -> None:
    """Another value in every tensor, so that none can stand for another."""
    for number, tensor in enumerate(layers.state_dict().values()):
        tensor.fill_(value + 100 * number)


def test_it_follows_the_weights_slowly_and_statistics_too() -> None:
    layers = network(0)
    average = EMA(layers, 0.75)
    assert average.tensors == {}
    for value in (0.0, 1.0, 1.0):
        fill(layers, value)
        average.update()
    expected = [1 - 0.75**2 + 100 * number for number in range(9)]
    assert [float(tensor.flatten()[0]) for tensor in average.tensors.values()] == expected[:8]
    assert "norm.running_var" in average.tensors
    assert "norm.num_batches_tracked" not in average.tensors  # a count is not averaged


def test_the_network_answers_with_it_for_a_while() -> None:
    layers = network(0)
    average = EMA(layers, 0.5)
    average.update()
    fill(layers, 8)
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    average.update()
    with average.applied():
        assert float(layers.state_dict()["stem.bias"][0]) == 104
        assert all(torch.equal(layers.state_dict()[name], tensor) for name, tensor in average.tensors.items())
    assert all(torch.equal(layers.state_dict()[name], tensor) for name, tensor in before.items())
    assert float(average.tensors["stem.bias"][0]) == 104


def test_without_one_the_network_is_left_alone() -> None:
    layers = network(3)
    with EMA(layers, 0.5).applied():
        assert float(layers.state_dict()["stem.bias"][0]) == 103


def test_taken_back_in_another_order_it_goes_on_as_before() -> None:
    """A file of tensors has them in the order of their names, which is not the network's."""
    layers = network(0)
    average = EMA(layers, 0.5)
    average.update()
    other = EMA(layers, 0.5)
    other.restore(dict(sorted(average.tensors.items())))
    fill(layers, 8)
    average.update()
    other.update()
    assert all(torch.equal(other.tensors[name], tensor) for name, tensor in average.tensors.items())
