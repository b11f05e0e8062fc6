"""Checkpoints: whole, exact, and without code in them."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from belvedere.errors import TrainingError
from belvedere.training.checkpoint import State, read_checkpoint, write_checkpoint
from belvedere.types.evaluation import EpochMetrics

ROW = EpochMetrics(1, 2.5, 300.0, 0.001, 0.7, 0.6, 0.5, 0.8)


def state() -> State:
    kernels = torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last)
    tensors = {"network/kernels": kernels, "loop/step": torch.tensor(7), "loop/sums": torch.tensor([0.1, 2]).double()}
    return State(
        step=5,
        total_steps=9,
        limit_seconds=float("inf"),
        seconds=1.25,
        epoch_images=3,
        epoch_seconds=0.1,
        history=[ROW],
        best=(0.8, -0.5),
        best_epoch=1,
        tensors=tensors,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    before, path = state(), tmp_path / "checkpoint.safetensors"
    write_checkpoint(before, path)
    after = read_checkpoint(path)
    for field in fields(State):
        if field.name != "tensors":
            assert getattr(after, field.name) == getattr(before, field.name)
    assert after.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
    assert {tensor.dtype for tensor in after.tensors.values()} == {torch.float32, torch.int64, torch.float64}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_two_layers_may_share_their_weights(tmp_path: Path) -> None:
    layer, path = torch.nn.Linear(2, 2), tmp_path / "checkpoint.safetensors"
    weights = torch.nn.Sequential(layer, layer).state_dict()
    write_checkpoint(State(tensors=weights), path)
    after = read_checkpoint(path).tensors
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


def test_it_is_tensors_and_json_and_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    write_checkpoint(state(), path)
    with safetensors.safe_open(path, "np") as file:
        assert json.loads(file.metadata()["state"])["step"] == 5
    assert not path.read_bytes().startswith((b"PK", b"\x80"))  # zip and pickle, as torch.save writes


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "whole.safetensors"
    write_checkpoint(state(), path)
    return path


@given(st.data())
def test_a_damaged_file_is_named(written: Path, data: st.DataObject) -> None:
    content = written.read_bytes()
    damaged = written.with_name("damaged.safetensors")
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(TrainingError, match=r"damaged\.safetensors"):
        read_checkpoint(damaged)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"state": "{"},
        {"state": "[]"},
        {"state": "{}"},
        {"other": "{}"},
        {"state": '{"history": [], "best": [0, 0], "stpe": 1}'},
        {"state": '{"history": [{"epoch": 1}], "best": [0, 0]}'},
    ],
)
def test_a_file_of_something_else_is_no_checkpoint(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.torch.save({"weights": torch.zeros(2)}, metadata))
    with pytest.raises(TrainingError):
        read_checkpoint(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        read_checkpoint(tmp_path / "gone")
