"""From gradients to weights."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from belvedere.errors import UnknownNameError
from belvedere.training.checkpoint import State, read_checkpoint, write_checkpoint
from belvedere.training.networks import NETWORKS, find_network
from belvedere.training.networks.article import ArticleNetwork
from belvedere.training.networks.registry import Network
from belvedere.training.optimizers import Muon, OptimizerGroup, orthogonalize
from belvedere.training.recipes import RECIPES, Recipe

ADAM = replace(RECIPES["article"], l2_parameters=("features.0.weight",))
MUON = replace(RECIPES["quick"], weight_decay=0.1)


class Tiny(Network):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, bias=False), nn.Conv2d(6, 6, 3)
        )
        self.features.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        self.classify = nn.Linear(6, 2)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 64, 9), (1, 9, 64), (4, 32, 144), (1, 1, 5)])
def test_orthogonal_is_of_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(matrices * 1e3)
    assert found.shape == shape
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert values.mean() == pytest.approx(0.95, abs=0.3)
    ours, _, theirs = torch.linalg.svd(matrices, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(found.flatten(), (ours @ theirs).flatten(), dim=0) > 0.95


def test_nothing_stays_nothing() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_together_is_as_one_by_one() -> None:
    """Kernels of one shape are worked on together, but each as if alone."""
    random = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=random) for shape in ((4, 3, 2, 2), (4, 3, 2, 2), (8, 2, 1, 1))]

    def step(groups: list[list[Tensor]]) -> list[Tensor]:
        kernels = [[nn.Parameter(weights.clone()) for weights in group] for group in groups]
        for group in kernels:
            optimizer = Muon(group, 0.1, 0.9, 0.01)
            for _ in range(3):
                for weights in group:
                    weights.grad = weights.detach().cos()
                optimizer.step()
        return [weights.detach() for group in kernels for weights in group]

    for together, alone in zip(step([drawn]), step([[weights] for weights in drawn]), strict=True):
        assert torch.allclose(together, alone, atol=1e-3)


@pytest.mark.parametrize("recipe", [ADAM, MUON], ids=["adam", "muon"])
def test_steps_lower_the_loss(recipe: Recipe) -> None:
    torch.manual_seed(0)
    network = Tiny()
    optimizers = OptimizerGroup(network, replace(recipe, learning_rate=0.01))
    pixels, labels = torch.randn(16, 3, 8, 8), torch.arange(16) % 2
    losses = [training_step(network, optimizers, pixels, labels) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    assert all(weights.grad is None for weights in network.parameters())


def training_step(
    network: Network, optimizers: OptimizerGroup, pixels: Tensor, labels: Tensor, factor: float = 1.0
) -> float:
    loss = nn.functional.cross_entropy(network(pixels), labels)
    torch.autograd.backward(loss)
    optimizers.step(factor)
    return float(loss.detach())


@pytest.mark.parametrize("recipe", [ADAM, MUON], ids=["adam", "muon"])
def test_a_state_that_was_kept_goes_on_exactly(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    network = Tiny().to(memory_format=torch.channels_last)
    pixels, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 2
    optimizers = OptimizerGroup(network, recipe)
    for factor in (0.5, 1.0, 0.7):
        training_step(network, optimizers, pixels, labels, factor)
    path = tmp_path_factory.mktemp("state") / "state"
    write_checkpoint(State(tensors=optimizers.tensors()), path)
    other = Tiny().to(memory_format=torch.channels_last)
    other.load_state_dict(network.state_dict())
    restored = OptimizerGroup(other, recipe)
    restored.restore(read_checkpoint(path).tensors)
    assert optimizers.tensors().keys() == restored.tensors().keys()
    for factor in (0.6, 0.2):
        training_step(network, optimizers, pixels, labels, factor)
        training_step(other, restored, pixels, labels, factor)
    for name, weights in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], weights), name


def test_before_the_first_step_there_is_nothing_to_keep() -> None:
    optimizers = OptimizerGroup(Tiny(), MUON)
    assert optimizers.tensors() == {}
    optimizers.restore({})


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("recipe", [replace(ADAM, l2_parameters=()), MUON], ids=["adam", "muon"])
def test_every_weight_is_in_exactly_one_group(name: str, recipe: Recipe) -> None:
    network = find_network(name).create(3)
    groups = [group for part in OptimizerGroup(network, recipe).optimizers for group in part.param_groups]
    grouped = [id(weights) for group in groups for weights in group["params"]]
    assert sorted(grouped) == sorted(map(id, network.parameters()))


def test_muon_takes_the_kernels_of_the_blocks_and_nothing_else() -> None:
    network = find_network("compact-small").create(3)
    [muon, adam] = OptimizerGroup(network, MUON).optimizers
    names = {id(weights): name for name, weights in network.named_parameters()}
    kernels = {names[id(weights)] for weights in muon.param_groups[0]["params"]}
    assert kernels == {name for name in names.values() if "conv" in name}
    decayed, plain = ({names[id(weights)] for weights in group["params"]} for group in adam.param_groups)
    assert decayed == {"features.stem.weight", "classify.weight"}
    assert "classify.bias" in plain
    assert [group["weight_decay"] for group in adam.param_groups] == [0.1, 0]


def test_rates_follow_the_factor_and_never_drift() -> None:
    optimizers = OptimizerGroup(Tiny(), MUON)
    for factor in (0.5, 0.0, 0.25):
        optimizers.step(factor)
        rates = [group["lr"] for part in optimizers.optimizers for group in part.param_groups]
        expected = [MUON.muon_learning_rate, MUON.learning_rate, MUON.learning_rate]
        assert rates == [rate * factor for rate in expected]


def test_weight_decay_is_keras_l2() -> None:
    """Keras adds 0.01 * sum(w^2) to the loss; only the fourth convolution's kernel has it."""
    torch.manual_seed(0)
    network = ArticleNetwork(3)
    [optimizer] = OptimizerGroup(network, RECIPES["article"]).optimizers
    decayed = {id(weights) for group in optimizer.param_groups if group["weight_decay"] for weights in group["params"]}
    kernel = dict(network.named_parameters())["features.conv4.weight"]
    assert decayed == {id(kernel)}
    penalty = 0.01 * kernel.square().sum()
    (gradient,) = torch.autograd.grad(penalty, kernel)
    [decay] = [group["weight_decay"] for group in optimizer.param_groups if group["weight_decay"]]
    assert torch.allclose(gradient, decay * kernel)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))
    assert {(group["lr"], group["eps"]) for group in optimizer.param_groups} == {(0.001, 1e-7)}


@pytest.mark.parametrize(
    ("optimizer", "rates"), [("adamw", {"": 0.01}), ("muon", {"": 0.01, "features.3": 0.05, "features.4": 0.05})]
)
def test_weight_decay_of_matrices_only(optimizer: Literal["adamw", "muon"], rates: dict[str, float]) -> None:
    """Without gradients a step is the decay alone: 1 - rate * decay for matrices and kernels, 1 for others."""
    recipe = replace(MUON, optimizer=optimizer, learning_rate=0.01, muon_learning_rate=0.05, weight_decay=0.1)
    torch.manual_seed(0)
    network = Tiny()
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(1)
    before = {name: weights.detach().clone() for name, weights in network.named_parameters()}
    for weights in network.parameters():
        weights.grad = torch.zeros_like(weights)
    OptimizerGroup(network, recipe).step(0.5)
    decayed = {"features.0.weight", "features.3.weight", "features.4.weight", "classify.weight"}
    for name, weights in network.named_parameters():
        rate = rates.get(name.removesuffix(".weight"), rates[""]) if name in decayed else 0.0
        assert weights.detach() == pytest.approx(before[name] * (1 - 0.5 * rate * 0.1), rel=1e-6), name
        assert torch.equal(weights, before[name]) == (name not in decayed), name


def test_a_kernel_to_decay_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownNameError) as caught:
        OptimizerGroup(ArticleNetwork(3), replace(RECIPES["article"], l2_parameters=("features.conv4.wieght",)))
    assert (caught.value.name, caught.value.suggestion) == ("features.conv4.wieght", "features.conv4.weight")
