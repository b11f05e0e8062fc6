"""All tensors of a training go to its device.

The device is torch's "meta", whose tensors have no values. Like a GPU, it refuses to compute with a tensor that stayed
on the CPU; a copy back to the CPU raises NotImplementedError, which other mistakes do not.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from belvedere.training.checkpoint import State
from belvedere.training.custom_augment import Augment
from belvedere.training.data_loader import ArrayDataset, DataLoader, SoftTargets
from belvedere.training.device import Device, Runtime
from belvedere.training.distillation import Teacher, load_teacher, weights_path
from belvedere.training.embedders import NetworkEmbedder, SpatialEmbedder
from belvedere.training.held_out import run_network
from belvedere.training.input_size import time_embedding
from belvedere.training.loop import LoopConfig, Trainer, predict_logits
from belvedere.training.networks import Network, architecture_for
from belvedere.training.recipe_config import to_toml
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import plan_batches
from belvedere.types.model import Preprocess
from crop_boxes import full_boxes


class MetaDevice(Device):
    """A device without autocast, which "meta" does not have."""

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", enabled=False)


META, CPU = MetaDevice(torch.device("meta"), torch.float32), Device(torch.device("cpu"), torch.float32)
NAMES = ("blue", "green", "red")
COUNT, SIZE, STEPS = 12, 32, 6
RICH = replace(
    RECIPES["quick"],
    batch_size=4,
    min_steps=0,
    image_size_schedule=((0.0, SIZE), (1.0, SIZE)),
    color_jitter=0.2,
    cutout_prob=0.5,
    mixup_prob=0.4,
    cutmix_prob=0.4,
    ema_decay=0.8,
    ema_start=0.0,
)
WHOLE = replace(RECIPES["article"], batch_size=4, ema_decay=0.8, l2_parameters=())


def dataset(**targets: object) -> ArrayDataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (COUNT, SIZE, SIZE, 3)).astype(np.uint8)
    return ArrayDataset(images, np.arange(COUNT) % 3, **targets)  # type: ignore[arg-type]


def trainer(recipe: Recipe, data: ArrayDataset, augment: Augment | None = None, device: Device = META) -> Trainer:
    network = architecture_for(RICH).create(len(NAMES))
    loader = DataLoader(data, device)
    config = LoopConfig(recipe, plan_batches(COUNT, recipe), 0, Runtime(device), augment=augment)
    return Trainer(network, config, loader, loader)


def tensors_of(trained: Trainer) -> dict[str, Tensor]:
    """Return the tensors of network, moving average and optimizers by name, but for counters of steps on the CPU."""
    found = dict(trained.network.state_dict())
    if trained._average is not None:
        found |= {f"average/{name}": value for name, value in trained._average.module.state_dict().items()}
    for number, optimizer in enumerate(trained._optimizers.optimizers):
        for index, state in enumerate(optimizer.state.values()):
            values = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.ndim}
            found |= {f"optimizer {number}/{index}/{key}": value for key, value in values.items()}
    return found | {"sums": trained._sums}


SOFT = SoftTargets(
    np.tile(np.array([0, 0, 1, 1], np.float32), (COUNT, 2, 1)), np.full((COUNT, 2, 3), 1 / 3, np.float32)
)


@pytest.mark.parametrize("recipe", [RICH, WHOLE])
@pytest.mark.parametrize(
    ("targets", "changes"),
    [
        ({}, {}),
        ({}, {"class_weighting": "balanced"}),
        ({"targets": np.full((COUNT, 3), 1 / 3, np.float32)}, {"class_weighting": "balanced"}),
        ({"soft_targets": SOFT}, {}),
    ],
    ids=["labels", "class weights", "several labels", "teacher"],
)
def test_a_training_step(recipe: Recipe, targets: dict[str, object], changes: dict[str, object]) -> None:
    trained = trainer(replace(recipe, **changes), dataset(**targets))  # type: ignore[arg-type]
    for step in range(STEPS):  # mixup, CutMix and neither of them
        trained.training_step(np.arange(4), epoch=step % 2)
        trained.state.step += 1
    assert {name: value.device.type for name, value in tensors_of(trained).items() if value.device.type != "meta"} == {}
    assert (trained._class_weights is None) == (not changes)


def test_the_pixels_of_a_custom_augmentation() -> None:
    seen = list[tuple[str, str]]()

    def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
        seen.append((pixels.device.type, generator.device.type))
        return pixels

    with pytest.raises(RuntimeError):  # "meta" has no generators, which is how the device of one is known
        torch.Generator(META.torch_device)
    cpu = trainer(RICH, dataset(), augment, CPU)
    cpu.training_step(np.arange(4), epoch=0)
    assert seen == [("cpu", "cpu")]
    with pytest.raises(RuntimeError):
        trainer(RICH, dataset(), augment).training_step(np.arange(4), epoch=0)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
def test_a_checkpoint_of_another_device() -> None:
    """Written on the CPU, resumed on the device."""
    saved = list[State]()
    first = trainer(RICH, dataset(), device=CPU)
    first._on_checkpoint = saved.append
    first.training_step(np.arange(4), epoch=0)
    first._checkpoint()
    resumed = trainer(RICH, dataset())
    resumed.restore(saved[0])
    resumed.training_step(np.arange(4), epoch=0)
    expected, found = tensors_of(first), tensors_of(resumed)
    assert found.keys() == expected.keys()
    assert {value.device.type for value in found.values()} == {"meta"}


@pytest.fixture(scope="module")
def network() -> Network:
    created = architecture_for(RICH).create(len(NAMES)).eval()
    META.move_network(created)
    return created


def test_validation(network: Network) -> None:
    with pytest.raises(NotImplementedError):
        predict_logits(network, DataLoader(dataset(), META), Runtime(META))


def test_held_out_images(network: Network) -> None:
    pixels, chosen = torch.zeros(2, 3, SIZE, SIZE, device="meta"), np.array([1])
    with pytest.raises(NotImplementedError):
        run_network(network, [(pixels, chosen)], META)


@pytest.mark.parametrize("kind", [NetworkEmbedder, SpatialEmbedder])
def test_embeddings(network: Network, kind: type[NetworkEmbedder]) -> None:
    embedder = kind(network, META, Preprocess(SIZE, SIZE), "")
    assert embedder.embedding_dim >= network.classify.in_features
    with pytest.raises(NotImplementedError):
        embedder.embed(np.zeros((2, SIZE, SIZE, 3), np.uint8))
    with pytest.raises(NotImplementedError):
        time_embedding(network, SIZE, META)


def test_the_teacher(tmp_path: Path) -> None:
    recipe = replace(RICH, teacher=str(tmp_path), teacher_image_size=SIZE)
    network = architecture_for(RICH).create(len(NAMES))
    weights_path(tmp_path).write_bytes(safetensors.torch.save(network.state_dict()))
    (tmp_path / "config.toml").write_text(to_toml(RICH) + f"\n[run]\nclass_names = {list(NAMES)}\n")
    teacher = load_teacher(recipe, NAMES, META)
    assert isinstance(teacher, Teacher)
    assert {value.device.type for value in teacher.network.state_dict().values()} == {"meta"}
    images = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8, device="meta")
    assert {each.device.type for each in teacher.predict(images, full_boxes(images))} == {"meta"}
