"""Frozen blocks keep their weights and their batch-norm statistics."""

import copy
from typing import Any

import pytest
import timm
import torch

from belvedere.errors import UsageError
from belvedere.training.freezing import freeze_blocks
from belvedere.training.networks import find_backbone, find_network
from belvedere.training.networks.registry import Network


def train_step(network: Network) -> None:
    network.train()
    optimizer = torch.optim.SGD([each for each in network.parameters() if each.requires_grad], 0.1)
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    torch.autograd.backward(network(pixels).square().sum())
    optimizer.step()


def changed(network: Network) -> set[str]:
    before = copy.deepcopy(network.state_dict())
    train_step(network)
    return {name for name, each in network.state_dict().items() if not torch.equal(before[name], each)}


def test_blocks_of_a_compact_network() -> None:
    network = find_network("compact-small").create(3)
    numbers = network.block_numbers()
    assert numbers.keys() == {name for name, _ in network.named_parameters() if name.startswith("features.")}
    assert numbers["features.stem.weight"] == numbers["features.norm.weight"] == 0
    assert numbers["features.stage1_1.conv1.weight"] == 1
    freeze_blocks(network, 2, "compact-small")
    names = changed(network)
    assert not {name for name in names if numbers.get(name, 9) < 2}
    assert not {name for name in names if name.startswith(("features.norm.", "features.stage1_1."))}  # statistics too
    assert {"classify.weight", "features.stage3_1.norm1.running_mean"} <= names


def test_a_copy_is_frozen_like_the_network() -> None:
    network = find_network("compact-small").create(3)
    freeze_blocks(network, 1, "compact-small")
    other = copy.deepcopy(network)
    assert {id(each) for each in other.frozen_modules} <= {id(each) for each in other.modules()}
    assert not {name for name in changed(other) if name.startswith(("features.stem.", "features.norm."))}


def test_blocks_of_a_pretrained_network_are_those_of_timm() -> None:
    spec = find_backbone("test_vit.r160_in1k", 32)
    network = spec.create(2)
    model: Any = timm.create_model("test_vit.r160_in1k", num_classes=0, img_size=32)
    num_blocks = max(network.block_numbers().values()) + 1
    assert num_blocks == len(model.blocks) + 1  # the embedding of patches is the first
    freeze_blocks(network, 3, spec.name)
    frozen = {name for name, each in network.named_parameters() if not each.requires_grad}
    prefix = "features.backbone.model."
    assert f"{prefix}pos_embed" in frozen
    assert f"{prefix}blocks.1.mlp.fc1.weight" in frozen
    assert f"{prefix}blocks.2.mlp.fc1.weight" not in frozen


@pytest.mark.parametrize(("network", "count"), [("article", 1), ("compact-small", 99)])
def test_more_blocks_than_there_are_are_refused(network: str, count: int) -> None:
    with pytest.raises(UsageError):
        freeze_blocks(find_network(network).create(2), count, network)


def test_nothing_is_frozen_by_default() -> None:
    network = find_network("article").create(2)
    freeze_blocks(network, 0, "article")
    assert not network.frozen_modules
