"""Several processes that train one network together."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from belvedere.training.distributed import Distributed, join_ranks
from conftest import write_picture


def test_one_alone_is_a_group_of_one() -> None:
    alone = join_ranks()
    assert alone == Distributed(0, 1)
    assert alone.leads
    tensor = torch.tensor([1.0, 2.0])
    alone.average([tensor])
    alone.share([tensor])
    alone.wait()
    assert tensor.tolist() == [1, 2]
    assert alone.agree(7) == 7


AGREE = """

import torch
from belvedere.training.distributed import join_ranks


ranks = join_ranks("cpu")
tensors = [torch.full((2, 3), float(ranks.rank)), torch.tensor([10.0 * ranks.rank]).double()]
ranks.average(tensors)
assert tensors[0].eq(0.5).all() and tensors[1].item() == 5, tensors
assert tensors[1].dtype == torch.float64
shared = torch.full((2, 2), 5 - ranks.rank)
ranks.share([shared])
assert shared.eq(5).all()
assert ranks.agree(ranks.rank + 3) == 3
assert ranks.leads == (ranks.rank == 0) and ranks.count == 2
assert join_ranks("cpu") == ranks  # once more is no harm
ranks.wait()
"""


def together(*arguments: object) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launcher, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without its distributed package")
def test_two_processes_agree(tmp_path: Path) -> None:
    (tmp_path / "agree.py").write_text(AGREE)
    done = together(tmp_path / "agree.py")
    assert done.returncode == 0, done.stderr


COMPARED = """

import hashlib
from torch import distributed
from belvedere.cli import main
from belvedere.training.loop import Training


end_epoch = Training._end_epoch


def compared(self, number):
    end_epoch(self, number)
    tensors = {**self.network.state_dict(), **{"average." + n: t for n, t in self._average.tensors.items()}}
    assert any("average" in name for name in tensors)
    digest = hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in tensors.values())).hexdigest()
    held = [None, None]
    distributed.all_gather_object(held, digest)
    assert held[0] == held[1], "the processes' weights differ"


Training._end_epoch = compared
main()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without its distributed package")
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """One run folder, one answer, the same weights; 26 + 2 photographs: the last batch is short, two for each."""
    for number in range(15):
        for name in ("blue", "red"):
            write_picture(tmp_path / "photos" / "train" / name / f"{number}.png", name, number, 32)
            write_picture(tmp_path / "photos" / "test" / name / f"{number}.png", name, 100 + number, 32)
    (tmp_path / "own.toml").write_text(
        "[recipe]\nepochs = 2\nmin_steps = 0\nbatch_size = 8\nimage_size_schedule = [[0, 32]]\n"
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
    metrics = json.loads(done.stdout)  # one answer: two would be no document
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert (metrics["epochs"], metrics["images"]) == (2, 30)
    assert tomllib.loads((out / "config.toml").read_text())["run"]["processes"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compared.py", "own.toml", "photos", "run"]
    assert not (out / "checkpoint.safetensors").exists()
    assert done.stderr.count("epoch   1/2") == 1
    assert (out / "train.log").read_text().count("epoch   2/2") == 1
