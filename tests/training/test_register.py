"""Registration of networks."""

import functools
import logging

import pytest
import torch
from torch import nn

from belvedere.errors import UnknownNameError, UsageError
from belvedere.training.networks import NETWORKS, architecture_for, describe_architecture, find_network, list_models
from belvedere.training.networks.register import make_spec, name_of, register_network
from belvedere.training.networks.registry import Network
from belvedere.training.recipe_config import choose_recipe, register_recipe
from belvedere.training.recipes import RECIPES


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (NETWORKS, RECIPES):
        monkeypatch.setattr(registry, "_values", dict(registry._values))


class Mean(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(pixels.mean((2, 3)))
        return logits


def test_a_registered_network_is_listed_described_and_chosen() -> None:
    assert register_network("mean", image_size=40, summary="mean color", license="MIT")(Mean) is Mean
    [info] = [each for each in list_models() if each.name == "mean"]
    assert (info.image_size, info.license, info.description, info.parameters_millions) == (40, "MIT", "mean color", 0)
    architecture = describe_architecture("mean", 5)
    layers = architecture.layers
    assert architecture.spec.is_plugin
    assert layers[-1].name == "classify"
    assert (layers[-1].shape, layers[-1].parameters) == ((5,), 20)
    recipe = choose_recipe("quick", network="mean", image_size=64)
    assert architecture_for(recipe).preprocess.height == 64
    assert isinstance(architecture_for(recipe).create(2), Network)


def test_belvederes_networks_are_not_plugins() -> None:
    assert not any(find_network(name).is_plugin for name in NETWORKS)


def test_a_network_of_one_size_refuses_others() -> None:
    register_network("rigid", image_size=40, any_size=False)(Mean)
    with pytest.raises(UsageError, match="rigid"):
        architecture_for(choose_recipe("quick", network="rigid", image_size=64))


@pytest.mark.parametrize(
    "arguments",
    [{"image_size": 0}, {"image_size": 5000}, {"image_size": "96"}, {"std": (0.2, 0.2, 0.0)}, {"mean": (0.5, 0.5)}],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="'mean'"):
        register_network("mean", **arguments)  # type: ignore[arg-type]


def test_taken_names_are_refused() -> None:
    with pytest.raises(UsageError, match="'article'"):
        register_network("article")(Mean)
    with pytest.raises(UsageError, match="'quick'"):
        register_recipe("quick", recipe="standard")


def test_a_network_that_cannot_be_created_is_left_out_of_the_list(caplog: pytest.LogCaptureFixture) -> None:
    register_network("broken")(lambda num_classes: num_classes)  # type: ignore[arg-type, return-value]
    with caplog.at_level(logging.WARNING, "belvedere"):
        assert "broken" not in {each.name for each in list_models()}
    assert len(caplog.messages) == 1


def test_a_module_is_copied_and_a_seed_decides_the_weights_of_a_class() -> None:
    module = Mean(2)
    network = make_spec("mean", module).create(2)
    assert network.classify.weight is not module.head.weight
    assert torch.equal(network.classify.weight, module.head.weight)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = Mean(2).head.weight
        torch.manual_seed(3)
        assert torch.equal(make_spec("mean", Mean).create(2).classify.weight, expected)


def test_names() -> None:
    assert name_of(Mean) == "Mean"
    assert name_of(Mean(2)) == "Mean"
    assert name_of(functools.partial(Mean)) == "Mean"
    assert name_of(lambda _: Mean(2)) == "lambda"


def test_a_registered_network_is_not_pretrained() -> None:
    register_network("mean")(Mean)
    with pytest.raises(UnknownNameError) as raised:
        architecture_for(choose_recipe("probe", network="mean"))
    assert any("'mean'" in note for note in raised.value.__notes__)


def test_a_registered_recipe_has_its_keys() -> None:
    register_recipe("mine", recipe="quick", epochs=7)
    recipe = choose_recipe("mine")
    assert (recipe.name, recipe.epochs, recipe.network) == ("mine", 7, RECIPES["quick"].network)
    with pytest.raises(UnknownNameError, match="epochs"):
        register_recipe("other", epoks=3)
