"""Trainings of networks, optimizers and augmentations of the user's."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from belvedere.errors import UsageError
from belvedere.training.networks.register import make_spec
from belvedere.training.networks.registry import NETWORKS
from belvedere.training.optimizers import OptimizerGroup, register_optimizer
from belvedere.training.recipe_config import choose_recipe
from belvedere.training.recipes import OPTIMIZERS
from belvedere.training.train import train
from belvedere.training.trainer import initialize_network

SETTINGS = {"recipe": "quick", "min_steps": 0, "epochs": 2, "batch_size": 8, "image_size": 32}


class TinyNetwork(nn.Sequential):
    def __init__(self, num_classes: int) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
        )


def noise(pixels: Tensor, generator: torch.Generator) -> Tensor:
    return pixels + 5 * torch.randn(pixels.shape, generator=generator)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, color in (("blue", (40, 60, 200)), ("red", (200, 60, 40))):
        (folder / name).mkdir()
        for index in range(16):
            pixels = np.clip(np.array(color) + random.integers(-40, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def test_a_class_is_trained_with_an_augmentation_and_named_in_the_card(data: Path, tmp_path: Path) -> None:
    arguments = {"out": tmp_path / "run", "network": TinyNetwork, "augment": noise, **SETTINGS}
    run = train(data, **arguments)  # type: ignore[arg-type]
    card = run.load().card
    assert card.provenance.network == "TinyNetwork"
    assert "TinyNetwork" not in NETWORKS
    assert [layer.name for layer in card.layers][-1] == "classify"
    config = tomllib.loads((run.folder / "config.toml").read_text("utf-8"))
    assert config["run"]["augment"] == "noise"
    assert config["recipe"]["network"] == "TinyNetwork"
    assert not config["recipe"]["whitened_stem"]
    assert json.loads((run.folder / "metrics.json").read_text("utf-8"))["num_images"] > 0
    weights = (run.folder / "weights.safetensors").read_bytes()
    train(data, **arguments | {"overwrite": True})  # type: ignore[arg-type]
    assert (run.folder / "weights.safetensors").read_bytes() == weights


def test_a_module_starts_from_its_weights_and_stays_unchanged(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = TinyNetwork(2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    run = train(data, out=tmp_path / "run", network=module, learning_rate=1e-12, muon_learning_rate=1e-12, **SETTINGS)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    saved = safetensors.torch.load_file(run.folder / "weights.safetensors")
    torch.testing.assert_close(saved["features.module.0.weight"], before["0.weight"])
    torch.testing.assert_close(saved["classify.weight"], before["4.weight"])


@pytest.mark.parametrize(
    "changes",
    [
        {"network": TinyNetwork(3)},
        {"network": 5},
        {"network": lambda num_classes: num_classes},
        {"network": TinyNetwork, "recipe": "probe"},
        {"augment": lambda pixels, _: pixels[0]},
        {"optimizer": "sgdd"},
    ],
    ids=["classes", "number", "no module", "pretrained", "augment", "optimizer"],
)
def test_mistakes_are_one_line_and_leave_nothing(changes: dict[str, object], data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        train(data, out=tmp_path / "run", **{**SETTINGS, **changes})  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_registered_optimizer_continues_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPTIMIZERS, "_values", dict(OPTIMIZERS._values))

    class Counting(torch.optim.SGD):
        """Keeps a tensor and a number of each parameter."""

        def step(self, closure: None = None) -> None:  # type: ignore[override]
            super().step(closure)
            for group in self.param_groups:
                for weights in group["params"]:
                    state = self.state[weights]
                    state["steps"] = state.get("steps", 0) + 1
                    weights.data.mul_(1 - 0.01 * state["steps"])

    @register_optimizer("counting")
    def create(network: nn.Module, _: object) -> torch.optim.Optimizer:
        return Counting(network.parameters(), lr=0.1, momentum=0.9)

    recipe = choose_recipe("quick", optimizer="counting")
    torch.manual_seed(0)
    network = TinyNetwork(2)
    group = OptimizerGroup(network, recipe)  # type: ignore[arg-type]

    def step(module: nn.Module, optimizers: OptimizerGroup) -> None:
        module(torch.ones(2, 3, 8, 8)).square().sum().backward()
        optimizers.step(0.5)

    step(network, group)
    copy = TinyNetwork(2)
    copy.load_state_dict(network.state_dict())
    resumed = OptimizerGroup(copy, recipe)  # type: ignore[arg-type]
    resumed.restore(group.tensors())
    for _ in range(2):
        step(network, group)
        step(copy, resumed)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), copy.parameters(), strict=True))


@pytest.mark.parametrize("created", [None, [], [1], "sgd"])
def test_what_is_no_optimizer_is_refused(created: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPTIMIZERS, "_values", dict(OPTIMIZERS._values))
    register_optimizer("mine")(lambda *_: created)  # type: ignore[arg-type]
    recipe = choose_recipe("quick", optimizer="mine")
    with pytest.raises(UsageError, match="'mine'"):
        OptimizerGroup(TinyNetwork(2), recipe)  # type: ignore[arg-type]


def test_a_network_of_one_size_is_built_for_the_image_size_of_the_recipe() -> None:
    def flat(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3 * 3 * 3, num_classes))

    with NETWORKS.scoped("flat", make_spec("flat", flat)):
        recipe = choose_recipe("quick", network="flat", image_size=48, whitened_stem=False)
        network = initialize_network(recipe, 2, 0, np.empty((0, 48, 48, 3), np.uint8))
    assert network.classify.in_features == 27
