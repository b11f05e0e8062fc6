"""Several processes that train one network together, with gloo on the CPU."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import safetensors.torch
import torch

from belvedere.training.distributed import Distributed, init_distributed
from conftest import write_image


def test_one_process_alone() -> None:
    alone = init_distributed()
    assert alone == Distributed(0, 1)
    assert alone.is_main
    tensor = torch.tensor([1.0, 2.0])
    alone.all_reduce_mean([tensor])
    alone.barrier()
    assert tensor.tolist() == [1, 2]
    assert alone.broadcast(7) == 7
    layer = torch.nn.Linear(2, 2)
    assert alone.data_parallel(layer) is layer
    with alone.main_process_first():
        pass


AGREE = """

import sys
from pathlib import Path

import torch
from belvedere.training.distributed import init_distributed


group = init_distributed("cpu")
tensors = [torch.full((2, 3), float(group.rank)), torch.tensor([10.0 * group.rank]).double()]
group.all_reduce_mean(tensors)
assert tensors[0].eq(0.5).all() and tensors[1].item() == 5, tensors
assert tensors[1].dtype == torch.float64
layer = torch.nn.Linear(2, 1)
layer.unused = torch.nn.Linear(2, 1)
torch.nn.init.constant_(layer.weight, group.rank)
parallel = group.data_parallel(layer)
assert layer.weight.eq(0).all()  # the main process's
parallel(torch.full((1, 2), float(group.rank))).sum().backward()
assert layer.weight.grad.eq(0.5).all()
done = Path(sys.argv[1])
with group.main_process_first():
    assert done.exists() != group.is_main
    done.touch()
assert group.broadcast(group.rank + 3) == 3
assert group.is_main == (group.rank == 0) and group.world_size == 2
assert init_distributed("cpu") == group  # once more is no harm
group.barrier()
"""


def together(*arguments: object) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launcher, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without its distributed package")
def test_two_processes_agree(tmp_path: Path) -> None:
    (tmp_path / "agree.py").write_text(AGREE)
    done = together(tmp_path / "agree.py", tmp_path / "done")
    assert done.returncode == 0, done.stderr


EXACT = """

import sys
from dataclasses import replace

import numpy as np
import safetensors.torch
import torch
from torch import nn
from belvedere.training.data_loader import ArrayDataset, DataLoader
from belvedere.training.device import Device, Runtime
from belvedere.training.distributed import init_distributed
from belvedere.training.loop import LoopConfig, run_loop
from belvedere.training.networks.registry import Network
from belvedere.training.recipes import RECIPES
from belvedere.training.schedule import BatchPlan


class Exact(Network):
    # Without batch norm, whose statistics are those of a process; in float64, so that the order of sums hardly matters.
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.features, self.classify = nn.Sequential(*layers).double(), nn.Linear(4, 3).double()

    def forward(self, pixels):
        return super().forward(pixels.double())


group = init_distributed("cpu")
cpu = Device(torch.device("cpu"), torch.float32)
random = np.random.default_rng(0)
labels = (np.arange(29) % 7 % 3).astype(np.int64)
images = (random.integers(0, 40, (29, 8, 8, 3)) + 80 * labels[:, None, None, None]).astype(np.uint8)
loader = DataLoader(ArrayDataset(images, labels), cpu)
recipe = replace(RECIPES["article"], learning_rate=0.003, ema_decay=0.5, class_weighting=sys.argv[2], l2_parameters=())
bounds = ((0, 8), (8, 16), (16, 29))  # the last batch is divided into 7 and 6 images
torch.manual_seed(0)
result = run_loop(Exact(), LoopConfig(recipe, BatchPlan(bounds, 12), 0, Runtime(cpu, group)), loader, loader)
if group.is_main:
    history = torch.tensor([[each.loss, each.accuracy, each.validation_loss] for each in result.history])
    safetensors.torch.save_file({**result.weights, "history": history}, sys.argv[1])
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without its distributed package")
@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_two_processes_get_the_weights_of_one(tmp_path: Path, weighting: str) -> None:
    """Averaged gradients of the same batches, after Adam and a moving average, also if a batch has an odd number."""
    (tmp_path / "exact.py").write_text(EXACT)
    done = together(tmp_path / "exact.py", tmp_path / "two", weighting)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, tmp_path / "exact.py", tmp_path / "one", weighting], check=True)
    one, two = (safetensors.torch.load_file(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        # The logits are rounded to float32, at about 6e-8.
        assert torch.allclose(two[name], weights, rtol=1e-5, atol=1e-7), (name, (two[name] - weights).abs().max())


COMPARED = """

import hashlib
from torch import distributed
from belvedere.cli import main
from belvedere.training.loop import Trainer


end_epoch = Trainer._end_epoch


def compared(self, number):
    end_epoch(self, number)
    tensors = {**self.network.state_dict(), **self._average.state_dict()}
    digest = hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors.values())).hexdigest()
    held = [None, None]
    distributed.all_gather_object(held, digest)
    assert held[0] == held[1], "the processes' weights differ"


Trainer._end_epoch = compared
main()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without its distributed package")
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """One run folder, one output, the same weights and early stop; 26 + 2 images: the last batch has two a process."""
    for number in range(15):
        for name in ("blue", "red"):
            write_image(tmp_path / "photos" / "train" / name / f"{number}.png", name, number, 32)
            write_image(tmp_path / "photos" / "test" / name / f"{number}.png", name, 100 + number, 32)
    (tmp_path / "own.toml").write_text(
        "[recipe]\nepochs = 3\npatience = 1\nmin_delta = 100.0\nmin_steps = 0\nbatch_size = 8\n"
        "image_size_schedule = [[0, 32]]\n"
        "cached_image_size = 32\nema_decay = 0.5\nvalidation_fraction = 0.067\n"
    )
    (tmp_path / "compared.py").write_text(COMPARED)
    out = tmp_path / "run"
    done = together(
        *(
            tmp_path / "compared.py",
            "train",
            tmp_path / "photos",
            "--recipe",
            "quick",
            "--config",
            tmp_path / "own.toml",
        ),
        *("--out", out, "--device", "cpu", "--json"),
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)  # printed by one process
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["num_images"]) == (2, 30)
    assert tomllib.loads((out / "config.toml").read_text())["run"]["world_size"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compared.py", "own.toml", "photos", "run"]
    assert not (out / "checkpoint.safetensors").exists()
    assert done.stderr.count("epoch 1/3") == 1
    assert (out / "train.log").read_text().count("epoch 2/3") == 1
